"""The home in scikit-learn: its own checks, the optimum of its own model, and the places where models are used."""

import importlib.util
import pickle
import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_info

from fastsoftmax import reference
from fastsoftmax.sklearn import SoftmaxClassifier

SOLVERS = ["lbfgs", "newton-cg"]


def problem(n=400, d=6, c=4, dtype=np.float64, seed=0):
    """Rows, and labels that a linear model knows in part."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)).astype(dtype)
    logits = X @ rng.standard_normal((d, c)) + rng.gumbel(size=(n, c))
    return X, np.array([f"class {k}" for k in range(c)])[logits.argmax(axis=1)]


def objective(model, X, y, weights=None, smoothing=0.0):
    """The mean loss and the penalty, in float64, by the definition."""
    logits = X.astype(np.float64) @ model.coef_.T.astype(np.float64) + model.intercept_
    if logits.shape[1] == 1:
        logits = np.column_stack([np.zeros(len(X)), logits])
    s = np.ones(len(X)) if weights is None else weights
    labels = np.searchsorted(model.classes_, y)
    losses = reference.cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (s @ losses + np.square(model.coef_, dtype=np.float64).sum() / (2 * model.C)) / s.sum()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # of checks with few iterations
@parametrize_with_checks(
    [SoftmaxClassifier(), SoftmaxClassifier(solver="newton-cg"), SoftmaxClassifier(label_smoothing=0.1)]
)
def test_estimator(estimator, check):
    check(estimator)


# The optimum ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("class_weight", [None, "balanced"])
def test_reaches_the_optimum(solver, n_classes, dtype, fit_intercept, class_weight):
    X, y = problem(c=n_classes, dtype=dtype)
    tol = 1e-6 if dtype == np.float32 else 1e-8
    asked = {"C": 0.3, "fit_intercept": fit_intercept, "class_weight": class_weight}
    ours = SoftmaxClassifier(solver=solver, tol=tol, max_iter=1000, **asked).fit(X, y)
    theirs = LogisticRegression(tol=1e-10, max_iter=10_000, solver="newton-cg", **asked).fit(X.astype(np.float64), y)
    weights = None
    if class_weight:
        classes, counts = np.unique(y, return_counts=True)
        weights = (len(y) / (len(classes) * counts))[np.searchsorted(classes, y)]
    assert objective(ours, X, y, weights) <= objective(theirs, X, y, weights) * (1 + 1e-8)
    digits = 3e-4 if dtype == np.float32 else 1e-6
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=0, atol=digits)
    np.testing.assert_allclose(ours.intercept_, theirs.intercept_, rtol=0, atol=digits)
    for name in ("coef_", "intercept_", "n_iter_", "classes_"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape, name
    for method in ("decision_function", "predict_proba", "predict_log_proba"):
        got, want = getattr(ours, method)(X), getattr(theirs, method)(X.astype(np.float64))
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=20 * digits, err_msg=method)
    assert (ours.predict(X) == theirs.predict(X)).mean() > 0.99
    assert ours.coef_.dtype == ours.intercept_.dtype == dtype


def test_without_penalty_and_with_sample_weights():
    X, y = problem(n=200, c=3)
    weights = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    tight = {"C": np.inf, "tol": 1e-8, "max_iter": 1000}
    weighted = SoftmaxClassifier(**tight).fit(X, y, sample_weight=weights)
    repeated = SoftmaxClassifier(**tight).fit(
        np.repeat(X, weights.astype(int), axis=0), np.repeat(y, weights.astype(int))
    )
    np.testing.assert_allclose(
        weighted.coef_ - weighted.coef_.mean(0), repeated.coef_ - repeated.coef_.mean(0), atol=1e-5
    )


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_label_smoothing(solver, n_classes):
    """The definition's objective has no slope where the fit ends."""
    X, y = problem(n=150, c=n_classes)
    model = SoftmaxClassifier(solver=solver, tol=1e-9, max_iter=1000, label_smoothing=0.2).fit(X, y)
    plain = SoftmaxClassifier(solver=solver, tol=1e-9, max_iter=1000).fit(X, y)
    least = objective(model, X, y, smoothing=0.2)
    assert least < objective(plain, X, y, smoothing=0.2) - 1e-4
    for i in np.ndindex(model.coef_.shape):
        for step in (1e-3, -1e-3):
            model.coef_[i] += step
            assert objective(model, X, y, smoothing=0.2) > least
            model.coef_[i] -= step


def test_solvers_agree_and_newton_takes_fewer_iterations():
    X, y = problem(n=1000, d=20, c=5)
    lbfgs, newton = (SoftmaxClassifier(solver=solver, tol=1e-8, max_iter=1000).fit(X, y) for solver in SOLVERS)
    np.testing.assert_allclose(lbfgs.coef_, newton.coef_, atol=1e-5)
    assert newton.n_iter_[0] < lbfgs.n_iter_[0]


def test_many_classes():
    """From 64 classes on the head works by chunks."""
    X, y = problem(n=3000, d=10, c=70, dtype=np.float32)
    ours = SoftmaxClassifier(tol=1e-6, max_iter=1000).fit(X, y)
    theirs = LogisticRegression(tol=1e-8, max_iter=1000).fit(X.astype(np.float64), y)
    assert objective(ours, X, y) <= objective(theirs, X, y) * (1 + 1e-7)


def test_log_probabilities_do_not_underflow():
    model = SoftmaxClassifier().fit([[-1.0], [1.0]], [0, 1])
    sure = model.predict_log_proba([[1e4]])
    assert np.isfinite(sure).all()
    assert sure[0, 0] < -1000


# Where models are used ------------------------------------------------------------------------------------------------


def test_pickle_and_clone():
    X, y = load_iris(return_X_y=True)
    model = SoftmaxClassifier(C=0.5, max_iter=300, label_smoothing=0.05).fit(X, y)
    assert clone(model).get_params() == model.get_params()
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames(library):
    frames = pytest.importorskip(library)
    X, y = load_wine(return_X_y=True)
    names = [f"feature {i}" for i in range(X.shape[1])]
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate(names)})
    pipeline = make_pipeline(StandardScaler(), SoftmaxClassifier()).set_output(transform=library)
    pipeline.fit(frame, frames.Series(y))
    assert pipeline[-1].feature_names_in_.tolist() == names
    plain = make_pipeline(StandardScaler(), SoftmaxClassifier()).fit(X, y)
    np.testing.assert_allclose(pipeline.predict_proba(frame), plain.predict_proba(X), atol=1e-6)
    others = frames.DataFrame({name: X[:, i] for i, name in enumerate(["other", *names[1:]])})
    with pytest.raises(ValueError, match="feature names"):
        pipeline[-1].predict(others)


def test_grid_search_in_two_processes():
    X, y = load_wine(return_X_y=True)
    grid = {"softmaxclassifier__C": [0.01, 1.0], "softmaxclassifier__label_smoothing": [0.0, 0.1]}
    search = GridSearchCV(make_pipeline(StandardScaler(), SoftmaxClassifier()), grid, n_jobs=2, cv=3).fit(X, y)
    alone = GridSearchCV(make_pipeline(StandardScaler(), SoftmaxClassifier()), grid, cv=3).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])
    assert search.best_score_ > 0.95


def test_calibration_and_cross_validation():
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    calibrated = CalibratedClassifierCV(SoftmaxClassifier(), cv=3).fit(X, y)
    assert calibrated.score(X, y) > 0.95
    assert (cross_val_predict(SoftmaxClassifier(), X, y) == y).mean() > 0.95
    assert cross_val_predict(SoftmaxClassifier(), X, y, method="predict_log_proba").shape == (len(y), 3)


def test_warm_start():
    X, y = problem(n=2000, d=20, c=5)
    model = SoftmaxClassifier(warm_start=True).fit(X, y)
    model.fit(X, y)
    assert model.n_iter_[0] <= 1
    assert SoftmaxClassifier().fit(X, y).n_iter_[0] > 3
    with pytest.raises(ValueError, match="warm_start: expected the classes"):
        model.fit(X[y != y[0]], y[y != y[0]])


# Batch by batch -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_first_batch_is_a_fit(n_classes, fit_intercept):
    X, y = problem(c=n_classes)
    model = SoftmaxClassifier(fit_intercept=fit_intercept, C=0.2)
    first = clone(model).partial_fit(X, y, classes=np.unique(y))
    np.testing.assert_array_equal(first.coef_, model.fit(X, y).coef_)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_batches_come_close_to_a_fit(n_classes):
    """And far closer than the last batch alone."""
    X, y = problem(n=4000, d=10, c=n_classes)
    whole = SoftmaxClassifier(tol=1e-8, max_iter=1000).fit(X, y)
    model = SoftmaxClassifier(tol=1e-8, max_iter=1000)
    for start in range(0, len(X), 200):
        batch = slice(start, start + 200)
        model.partial_fit(X[batch], y[batch], classes=np.unique(y))
    last = SoftmaxClassifier(tol=1e-8, max_iter=1000).fit(X[batch], y[batch])
    excess = objective(model, X, y) - objective(whole, X, y)
    assert 0 <= excess < 0.5 * (objective(last, X, y) - objective(whole, X, y))


def test_posterior_has_the_diagonal_of_the_hessian():
    X, y = problem(n=50, d=3, c=3)
    weights = np.linspace(0.5, 2, len(y))
    model = SoftmaxClassifier(tol=1e-9, max_iter=1000).partial_fit(X, y, classes=np.unique(y), sample_weight=weights)
    a = model.predict_proba(X)
    diagonal = np.einsum("n,nd,nc->dc", weights, np.column_stack([X, np.ones(len(X))]) ** 2, a * (1 - a))
    diagonal[:-1] += 1 / model.C
    np.testing.assert_allclose(model._posterior.precision, diagonal, rtol=1e-6)


def test_partial_fit_after_fit_goes_on_from_there():
    X, y = problem(n=4000, d=10, c=4)
    model = SoftmaxClassifier(C=1e-3).fit(X, y)
    before = model.coef_.copy()
    model.partial_fit(X[:20], y[:20])
    far = SoftmaxClassifier(C=1e-3).fit(X[:20], y[:20])
    assert 0 < np.abs(model.coef_ - before).max() < 0.5 * np.abs(far.coef_ - before).max()


def test_batches_without_some_classes():
    X, y = problem(n=600, c=3)
    classes = np.unique(y)
    model = SoftmaxClassifier()
    for i, rows in enumerate(np.array_split(np.arange(len(X)), 6)):
        rows = rows[y[rows] != classes[i % 3]]
        model.partial_fit(X[rows], y[rows], classes=classes)
    assert model.score(X, y) > SoftmaxClassifier().fit(X, y).score(X, y) - 0.15


def test_bad_batches():
    X, y = problem(c=3)
    with pytest.raises(ValueError, match="classes: expected the labels of all classes"):
        SoftmaxClassifier().partial_fit(X, y)
    with pytest.raises(ValueError, match="classes: expected at least two classes"):
        SoftmaxClassifier().partial_fit(X, y, classes=["class 0"])
    with pytest.raises(ValueError, match=r"y: expected the classes .*'class 2'"):
        SoftmaxClassifier().partial_fit(X, y, classes=["class 0", "class 1"])
    with pytest.raises(ValueError, match="class_weight: expected a dict or None in partial_fit"):
        SoftmaxClassifier(class_weight="balanced").partial_fit(X, y, classes=np.unique(y))
    model = SoftmaxClassifier().partial_fit(X, y, classes=np.unique(y))
    coef = model.coef_.copy()
    with pytest.raises(ValueError, match="classes: expected those of the first call"):
        model.partial_fit(X, y, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2], y)
    np.testing.assert_array_equal(model.coef_, coef)


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"C": 0}, ValueError, "C: expected a number above 0, inf for no penalty, got 0"),
        ({"C": "1"}, TypeError, "C: expected a number above 0, inf for no penalty, got str"),
        ({"C": np.nan}, ValueError, "C: expected a number above 0"),
        ({"tol": 0.0}, ValueError, "tol: expected a number above 0, got 0.0"),
        ({"tol": np.inf}, ValueError, "tol: expected a number above 0, got inf"),
        ({"label_smoothing": 1.5}, ValueError, "label_smoothing: expected a number from 0 to 1, got 1.5"),
        ({"label_smoothing": True}, TypeError, "label_smoothing: expected a number from 0 to 1, got bool"),
        ({"max_iter": 0}, ValueError, "max_iter: expected a positive integer, got 0"),
        ({"max_iter": 1.5}, TypeError, "max_iter: expected a positive integer, got float"),
        ({"solver": "saga"}, ValueError, "solver: expected one of 'lbfgs', 'newton-cg', got 'saga'"),
        ({"solver": ["lbfgs"]}, ValueError, "solver: expected one of 'lbfgs', 'newton-cg', got ['lbfgs']"),
        ({"class_weight": np.ones(3)}, ValueError, "class_weight: expected a dict, 'balanced' or None, got array("),
        ({"fit_intercept": 1}, TypeError, "fit_intercept: expected True or False, got int"),
        ({"warm_start": "yes"}, TypeError, "warm_start: expected True or False, got str"),
        ({"class_weight": "even"}, ValueError, "class_weight: expected a dict, 'balanced' or None, got 'even'"),
    ],
)
def test_bad_parameters(parameters, error, message):
    X, y = problem()
    model = SoftmaxClassifier(**parameters)
    with pytest.raises(error, match=re.escape(message)):
        model.fit(X, y)
    assert not hasattr(model, "coef_")


def test_bad_rows():
    X, y = problem()
    with pytest.raises(TypeError, match=r"X: expected dense rows, got a sparse csr_array; .*LogisticRegression"):
        SoftmaxClassifier().fit(csr_array(X), y)
    model = SoftmaxClassifier().fit(X, y)
    with pytest.raises(TypeError, match="sparse"):
        model.predict(csr_array(X))
    with pytest.raises(ValueError, match="y: expected at least two classes, got only one class"):
        SoftmaxClassifier().fit(X, np.zeros(len(X)))
    with pytest.raises(ValueError, match="zero"):
        SoftmaxClassifier().fit(X, y, sample_weight=np.zeros(len(X)))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        SoftmaxClassifier().fit(X, y, sample_weight=-np.ones(len(X)))
    with pytest.raises(NotFittedError):
        SoftmaxClassifier().predict(X)
    with pytest.raises(ValueError, match="NaN"):
        SoftmaxClassifier().fit(np.where(X > 2, np.nan, X), y)


def test_warns_where_it_did_not_converge():
    X, y = problem()
    for solver in SOLVERS:
        with pytest.warns(ConvergenceWarning, match=r"stopped after 1 iterations .* raise max_iter \(1\)"):
            SoftmaxClassifier(max_iter=1, solver=solver).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="fit float64"):
        SoftmaxClassifier(tol=1e-12, max_iter=10_000, solver="newton-cg").fit(np.float32(1000 * X), y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SoftmaxClassifier().fit(X, y)


# The process ----------------------------------------------------------------------------------------------------------


def test_threads_are_left_as_found():
    before = threadpool_info()
    X, y = problem()
    SoftmaxClassifier().fit(X, y)
    assert [each["num_threads"] for each in threadpool_info()] == [each["num_threads"] for each in before]


def test_missing_framework_is_named():
    code = (
        "import sys; sys.modules['sklearn'] = None\ntry: import fastsoftmax.sklearn\nexcept ImportError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert "pip install fastsoftmax[sklearn]" in done.stdout


def test_is_imported_by_none():
    code = "import sys, fastsoftmax; print('sklearn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False"]


# Documents ------------------------------------------------------------------------------------------------------------


def test_page():
    """The page's examples run, one after the other."""
    page = Path(__file__).parents[1] / "docs" / "sklearn.md"
    variables = {}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(page), "exec"), variables)


def test_example():
    pytest.importorskip("pandas")
    path = Path(__file__).parents[1] / "examples" / "sklearn_grid_search.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    lines = []
    found, loss = example.search(1, lines.append)
    assert found.best_params_["classify__C"] in example.GRID["classify__C"]
    assert loss < 0.2
    assert len(lines) == 3
