"""The page on boosting: its objectives beside those of XGBoost and LightGBM, and beside differences of the loss."""

import re
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs

PAGE = Path(__file__).parents[1] / "docs" / "boosting.md"
ROUNDS = 20


def run_sections(*headings):
    """Run the code of some sections of the page, one after the other, and give its variables."""
    variables = {}
    for section in re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE):
        if section.partition("\n")[0] in headings:
            for block in re.findall(r"```python\n(.*?)```", section, re.DOTALL):
                exec(compile(block, str(PAGE), "exec"), variables)
    return variables


@pytest.fixture(scope="module")
def gradient_and_hessian():
    return run_sections("The objective")["gradient_and_hessian"]


@pytest.fixture(scope="module")
def xgboost():
    pytest.importorskip("xgboost")
    pytest.importorskip("sklearn")
    return run_sections("The objective", "XGBoost", "Their scikit-learn estimators")


@pytest.fixture(scope="module")
def lightgbm():
    pytest.importorskip("lightgbm")
    pytest.importorskip("sklearn")
    return run_sections("The objective", "LightGBM", "Their scikit-learn estimators")


@pytest.fixture(params=["wine", "digits"])
def dataset(request):
    datasets = pytest.importorskip("sklearn.datasets")
    return getattr(datasets, f"load_{request.param}")(return_X_y=True)


@pytest.fixture(params=[False, True], ids=["", "weighted"])
def weight(request, dataset):
    return np.random.default_rng(0).uniform(0.1, 3, len(dataset[0])).astype(np.float32) if request.param else None


OPTIONS = [
    {},
    {"label_smoothing": 0.1},
    {"class_weight": [0.3, 2.0, 1.0, 0.0]},
    {"class_weight": [0.3, 2.0, 1.0, 0.0], "label_smoothing": 0.2},
]


@pytest.mark.parametrize("weighted", [False, True], ids=["", "sample_weight"])
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_differences_of_the_loss(options, weighted, gradient_and_hessian):
    rng = np.random.default_rng(0)
    z, y, s = rng.standard_normal((8, 4)), rng.integers(4, size=8), rng.uniform(0, 2, 8) if weighted else None
    gradient, hessian = gradient_and_hessian(z, y.astype(np.float32), s, **options)
    step, differences, bends = 1e-5, np.empty_like(z), np.empty_like(z)
    for at in np.ndindex(z.shape):
        ahead, behind = z.copy(), z.copy()
        ahead[at] += step
        behind[at] -= step
        losses = [fs.cross_entropy(each, y, sample_weight=s, **options, reduction="sum") for each in (ahead, behind)]
        slopes = [gradient_and_hessian(each, y, s, **options)[0][at] for each in (ahead, behind)]
        differences[at] = (losses[0] - losses[1]) / (2 * step)
        bends[at] = (slopes[0] - slopes[1]) / (2 * step)
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(hessian, bends, rtol=1e-6, atol=1e-8)


def test_hessian_of_z_loss(gradient_and_hessian):
    """What the page says that the z-loss adds to the diagonal."""
    rng = np.random.default_rng(0)
    z, y, zeta = rng.standard_normal((8, 4)), rng.integers(4, size=8), 0.3
    diagonal = np.stack(
        [
            fs.cross_entropy_hvp(z, y, np.tile(unit, (8, 1)), z_loss=zeta, reduction="sum")[:, k]
            for k, unit in enumerate(np.eye(4))
        ],
        axis=1,
    )
    p, lse = fs.softmax(z), fs.logsumexp(z)[:, None]
    added = 2 * zeta * (lse * p * (1 - p) + p * p)
    np.testing.assert_allclose(diagonal, gradient_and_hessian(z, y)[1] + added, rtol=1e-12)


@pytest.mark.parametrize("base_score", [0.0, 0.5])
def test_like_xgboost(xgboost, dataset, weight, base_score):
    """Rounding may choose between splits that gain nearly the same: not here, in trees of the default depth."""
    xgb, (X, y) = xgboost["xgb"], dataset
    data = xgb.DMatrix(X, y, weight=weight)
    params = {"objective": "multi:softprob", "num_class": int(y.max()) + 1, "base_score": base_score, "nthread": 1}
    native = xgb.train(params, data, ROUNDS).predict(data, output_margin=True)
    ours = xgb.train(params, data, ROUNDS, obj=xgboost["xgboost_softmax"]()).predict(data, output_margin=True)
    np.testing.assert_allclose(ours, native, rtol=0, atol=1e-5)


def test_like_lightgbm(lightgbm, dataset, weight):
    lgb, (X, y) = lightgbm["lgb"], dataset
    n_classes = int(y.max()) + 1
    params = {"num_class": n_classes, "num_threads": 1, "deterministic": True, "verbose": -1}

    def scores(objective, init_score=None, **others):
        data = lgb.Dataset(X, y, weight=weight, init_score=init_score)
        booster = lgb.train({"objective": objective, **params, **others}, data, ROUNDS)
        return booster.predict(X, raw_score=True)

    objective = lightgbm["lightgbm_softmax"]()
    np.testing.assert_allclose(scores(objective), scores("multiclass", boost_from_average=False), rtol=0, atol=1e-9)
    frequencies = np.bincount(y, weights=weight) / (len(y) if weight is None else weight.sum(dtype=np.float64))
    first = np.tile(np.log(frequencies), (len(y), 1))
    np.testing.assert_allclose(scores(objective, first) + first, scores("multiclass"), rtol=0, atol=1e-6)


def test_hessians_of_the_libraries(xgboost, lightgbm, dataset):
    """Each writes the sum of Hessians of its rows into a tree's root: from scores that are all alike p is 1 / C."""
    xgb, lgb, (X, y) = xgboost["xgb"], lightgbm["lgb"], dataset
    n_classes = int(y.max()) + 1
    exact = len(X) * (1 / n_classes) * (1 - 1 / n_classes)
    params = {"objective": "multi:softprob", "num_class": n_classes, "base_score": 0.5, "nthread": 1}
    stats = xgb.train(params, xgb.DMatrix(X, y), 1).get_dump(with_stats=True)
    covers = [float(re.search(r"cover=([\d.]+)", tree)[1]) for tree in stats]
    np.testing.assert_allclose(covers, 2 * exact, rtol=1e-5)
    params = {"objective": "multiclass", "num_class": n_classes, "boost_from_average": False, "num_threads": 1}
    trees = lgb.train({**params, "verbose": -1}, lgb.Dataset(X, y), 1).dump_model()["tree_info"]
    sums = [tree["tree_structure"]["internal_weight"] for tree in trees]
    np.testing.assert_allclose(sums, n_classes / (n_classes - 1) * exact, rtol=1e-5)


def test_example_of_xgboost(xgboost):
    """The page's booster predicts probabilities, and each round lowers the loss, which the library reports, too."""
    xgb, booster, data, y = (xgboost[name] for name in ("xgb", "booster", "data", "y"))
    assert xgboost["probs"].shape == (len(y), 10)
    np.testing.assert_allclose(xgboost["probs"].sum(axis=1), 1, rtol=1e-5)
    smoothed = [
        fs.cross_entropy(booster.predict(data, output_margin=True, iteration_range=(0, rounds)), y, label_smoothing=0.1)
        for rounds in range(1, 11)
    ]
    assert (np.diff(smoothed) < 0).all()
    reported = float(booster.eval(data).rpartition(":")[2])
    np.testing.assert_allclose(reported, fs.cross_entropy(np.log(xgboost["probs"]), y), rtol=1e-4)
    plain = xgb.train(xgboost["params"], data, 10, obj=xgboost["xgboost_softmax"]())
    assert xgboost["probs"].max(axis=1).mean() < plain.predict(data).max(axis=1).mean() - 0.05


def test_example_of_lightgbm(lightgbm):
    lgb, data, X, y, params, probs = (lightgbm[name] for name in ("lgb", "data", "X", "y", "params", "probs"))
    curve = lightgbm["curve"]["train"]["log loss"]
    assert len(curve) == 10
    assert (np.diff(curve) < 0).all()
    np.testing.assert_allclose(curve[-1], fs.cross_entropy(np.log(probs), y), rtol=1e-6)
    plain = lgb.train({**params, "objective": lightgbm["lightgbm_softmax"]()}, data, 10)
    assert probs.max(axis=1).mean() < fs.softmax(plain.predict(X)).max(axis=1).mean() - 0.05


@pytest.mark.parametrize("library", ["xgboost", "lightgbm"])
def test_class_weight_moves_predictions(library, request):
    """A class of ten times the weight is predicted at least as often, and has more of the probability."""
    page, weights = request.getfixturevalue(library), np.where(np.arange(10) == 8, 10.0, 1.0)
    objective = page[f"{library}_softmax"](class_weight=weights)
    if library == "xgboost":
        data = page["data"]
        plain, heavy = (
            page["xgb"].train(page["params"], data, 3, obj=each).predict(data)
            for each in (page["xgboost_softmax"](), objective)
        )
    else:
        plain, heavy = (
            fs.softmax(page["lgb"].train({**page["params"], "objective": each}, page["data"], 3).predict(page["X"]))
            for each in (page["lightgbm_softmax"](), objective)
        )
    assert (heavy.argmax(axis=1) == 8).sum() >= (plain.argmax(axis=1) == 8).sum()
    assert heavy[:, 8].mean() > plain[:, 8].mean() + 0.01


def test_estimators(xgboost, lightgbm, dataset, weight):
    """They are told apart by nothing but what `predict_proba` gives."""
    xgb, lgb, (X, y) = xgboost["xgb"], lightgbm["lgb"], dataset
    n_classes = int(y.max()) + 1
    options = {"label_smoothing": 0.1, "class_weight": np.linspace(0.5, 2, n_classes)}
    model = xgb.XGBClassifier(objective=xgboost["sklearn_softmax"](2, **options), n_estimators=5, n_jobs=1)
    data = xgb.DMatrix(X, y, weight=weight)
    params = {"objective": "multi:softprob", "num_class": n_classes, "nthread": 1}
    want = xgb.train(params, data, 5, obj=xgboost["xgboost_softmax"](**options)).predict(data)
    np.testing.assert_allclose(model.fit(X, y, sample_weight=weight).predict_proba(X), want, rtol=1e-5)
    factor, params = n_classes / (n_classes - 1), {"num_threads": 1, "deterministic": True, "verbose": -1}
    objective = lightgbm["sklearn_softmax"](factor, **options)
    model = lgb.LGBMClassifier(objective=objective, n_estimators=5, **params)
    params |= {"objective": lightgbm["lightgbm_softmax"](**options), "num_class": n_classes}
    want = lgb.train(params, lgb.Dataset(X, y, weight=weight), 5).predict(X)
    model.fit(X, y, sample_weight=weight)
    with pytest.warns(UserWarning, match="customized objective"):
        np.testing.assert_allclose(model.predict_proba(X), want, rtol=1e-12)
