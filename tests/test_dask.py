"""`fastsoftmax.dask` on schedulers of this process: each result beside that of the whole array, laziness, bad input."""

import collections
import itertools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

da = pytest.importorskip("dask.array")
pytest.importorskip("sklearn")

import dask  # noqa: E402
from numba.np.ufunc import parallel as pool  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

import fastsoftmax as fs  # noqa: E402
import fastsoftmax.dask as fd  # noqa: E402
import fastsoftmax.sklearn  # noqa: E402
from fastsoftmax import threads  # noqa: E402
from fastsoftmax.dask.tasks import on_one_thread, tree  # noqa: E402

N, D, C = 230, 6, 5
CHUNKS = (64, 0, 100, 66)
GRADS = ("dinputs", "dweight", "dbias")


@pytest.fixture(autouse=True)
def _scheduler():
    """One thread, unless a test asks for more."""
    with dask.config.set(scheduler="synchronous"):
        yield


SCHEDULERS = [{"scheduler": "synchronous"}, *({"scheduler": "threads", "num_workers": n} for n in (1, 3))]


def problem(dtype=np.float32, n_classes=C):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((N, D), (D, n_classes), n_classes))
    return x, w, b, rng.integers(n_classes, size=N)


def chunked(array, unknown=False):
    made = da.from_array(array, (CHUNKS, *array.shape[1:]))
    if unknown:
        made._chunks = ((np.nan,) * len(CHUNKS), *made.chunks[1:])
    return made


def compute(loss, grads):
    return dask.compute(loss, *grads)


def assert_close(got, want, dtype):
    rtol = {2: 2e-3, 4: 2e-6, 8: 1e-14}[np.dtype(dtype).itemsize]
    for name, ours, theirs in zip(("loss", *GRADS), got, want, strict=True):
        if theirs is None:
            assert ours is None
            continue
        assert ours.dtype == theirs.dtype, name
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        atol = rtol * np.abs(theirs).max(initial=0, where=np.isfinite(theirs))
        np.testing.assert_allclose(ours, theirs, rtol, atol, err_msg=name)


def eps_of(half):
    return 2**-10 if half == np.float16 else 2**-7


# The head -------------------------------------------------------------------------------------------------------------

OPTIONS = {
    "plain": {},
    "class_weight": {"class_weight": np.arange(1.0, C + 1, dtype=np.float32)},
    "sample_weight": {"sample_weight": np.random.default_rng(2).random(N)},
    "ignore_index": {"ignore_index": 2},
    "label_smoothing": {"label_smoothing": 0.1},
    "z_loss": {"z_loss": 1e-2},
    "softcap": {"softcap": 3.0},
    "scale": {"scale": 0.5},
    "workspace": {"workspace": 1000},
    "no inputs_grad": {"inputs_grad": False},
    "all": {
        "class_weight": np.arange(1.0, C + 1, dtype=np.float32),
        "sample_weight": np.random.default_rng(2).random(N),
        "ignore_index": 2,
        "label_smoothing": 0.1,
        "z_loss": 1e-2,
        "softcap": 3.0,
        "scale": 0.5,
    },
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", OPTIONS)
def test_head(options, reduction):
    x, w, b, y = problem()
    options = {**OPTIONS[options], "reduction": reduction}
    loss, grads = fd.linear_cross_entropy_with_grad(chunked(x), w, b, chunked(y), **options)
    want = compute(*fs.linear_cross_entropy_with_grad(x, w, b, y, **options))
    assert loss.shape == np.shape(want[0])
    assert loss.dtype == want[0].dtype
    for ours, theirs in zip(grads, want[1:], strict=True):
        assert (ours is None) if theirs is None else (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    assert grads.dinputs is None or grads.dinputs.chunks == (CHUNKS, (D,))
    assert_close(compute(loss, grads), want, np.float32)


def test_head_dtypes(dtype):
    for n_classes, bias in itertools.product((C, 70), (True, False)):
        x, w, b, y = problem(dtype, n_classes)
        args = w, b if bias else None, y
        got = compute(*fd.linear_cross_entropy_with_grad(chunked(x), *args))
        assert_close(got, compute(*fs.linear_cross_entropy_with_grad(x, *args)), dtype)


def test_head_of_half_types(half):
    """Sums are not rounded to the half type before they are merged, and do not overflow."""
    x, w, b, y = problem()
    x, w, b = (each.astype(half) for each in (300 * np.abs(x), w / 300, b))
    for reduction in ("mean", "none"):
        got = compute(*fd.linear_cross_entropy_with_grad(chunked(x), w, b, y, reduction=reduction))
        want = compute(*fs.linear_cross_entropy_with_grad(x, w, b, y, reduction=reduction))
        assert_close(got, want, np.float16)
    exact = fs.linear_cross_entropy_with_grad(*(each.astype(np.float64) for each in (x, w, b)), y)[1].dweight
    many = fd.linear_cross_entropy_with_grad(*(da.concatenate([chunked(x)] * 50), w, b, np.tile(y, 50)))[1]
    np.testing.assert_allclose(many.dweight.compute().astype(float), exact, rtol=eps_of(half), atol=1e-3)


def test_head_of_probabilities_and_integers():
    x, w, b, _ = problem(np.float64)
    probs = np.random.default_rng(3).dirichlet(np.ones(C), N)
    got = compute(*fd.linear_cross_entropy_with_grad(chunked(x), w, b, probs, label_smoothing=0.1))
    assert_close(got, compute(*fs.linear_cross_entropy_with_grad(x, w, b, probs, label_smoothing=0.1)), np.float64)
    x, y = np.arange(N * D).reshape(N, D) % 7, np.arange(N) % C
    got = compute(*fd.linear_cross_entropy_with_grad(chunked(x), w.tolist(), None, y.tolist()))
    assert_close(got, compute(*fs.linear_cross_entropy_with_grad(x, w.tolist(), None, y)), np.float64)


def test_head_of_nothing():
    """Where no row counts the mean is NaN, and the gradient zero; where all weigh nothing, as for the whole array."""
    x, w, b, y = problem()
    for options in ({"ignore_index": 1}, {"sample_weight": np.zeros(N)}):
        y = np.ones(N, int)
        got = compute(*fd.linear_cross_entropy_with_grad(chunked(x), w, b, y, **options))
        want = compute(*fs.linear_cross_entropy_with_grad(x, w, b, y, **options))
        assert_close(got, want, np.float32)
    loss, grads = fd.linear_cross_entropy_with_grad(da.zeros((0, D)), w.astype(float), None, np.zeros(0, int))
    assert np.isnan(loss.compute())
    assert grads.dinputs.compute().shape == (0, D)
    assert not grads.dweight.compute().any()


def test_head_of_unknown_chunks():
    x, w, b, y = problem()
    weights = np.random.default_rng(2).random(N)
    unknown = (chunked(each, unknown=True) for each in (x, y, weights))
    x_, y_, weights_ = unknown
    for reduction in ("mean", "none"):
        options = {"reduction": reduction}
        got = fd.linear_cross_entropy_with_grad(x_, w, b, y_, sample_weight=weights_, **options)
        want = fs.linear_cross_entropy_with_grad(x, w, b, y, sample_weight=weights, **options)
        assert_close(compute(*got), compute(*want), np.float32)


def test_head_in_other_chunks():
    """Labels are rechunked as the rows are, and a transposed weight is taken."""
    x, w, b, y = problem()
    w = np.asfortranarray(w)
    got = fd.linear_cross_entropy_with_grad(chunked(x), w, b, da.from_array(y, 23))
    assert_close(compute(*got), compute(*fs.linear_cross_entropy_with_grad(x, w, b, y)), np.float32)


# Shards of the classes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_classes", "shard"), [(1, 1), (4, 1), (4, 3), (20, 1), (50, 3), (50, 100), (300, 100)])
def test_shards(rows_that_hurt, wider, assert_ulps, dtype, n_classes, shard):
    """As accurate as on whole rows, also where the model is sure; near 0 the error of lse is that of numbers near 1."""
    z, y = rows_that_hurt(60, n_classes, dtype)
    wide = wider(dtype)
    logits = da.from_array(z, (25, shard))
    exact = fs.reference.cross_entropy(z.astype(wide), y, reduction="none")
    losses = fd.cross_entropy(logits, y, reduction="none")
    assert (losses.shape, losses.dtype, losses.chunks) == ((60,), dtype, ((25, 25, 10),))
    assert_ulps(losses.compute(), exact, ulps=4)
    lse = fd.logsumexp(logits)
    assert (lse.shape, lse.dtype, lse.chunks) == ((60,), dtype, ((25, 25, 10),))
    assert_ulps(lse.compute(), fs.reference.logsumexp(z.astype(wide)), ulps=2, slack=4 * np.finfo(dtype).eps)
    for reduction, total in (("sum", exact.sum()), ("mean", exact.mean())):
        assert_ulps(fd.cross_entropy(logits, y, reduction=reduction).compute(), total, ulps=8)


@pytest.mark.parametrize("shard", [1, 2, 3, 4])
def test_shards_with_infinities_and_nan(dtype, shard):
    rows = list(itertools.product((0.0, 2.0, np.inf, -np.inf, np.nan), repeat=4))
    z = np.array(rows, dtype)
    logits = da.from_array(z, (100, shard))
    np.testing.assert_allclose(fd.logsumexp(logits).compute(), fs.logsumexp(z), rtol=1e-6)
    for label in range(4):
        y = np.full(len(z), label)
        want = fs.cross_entropy(z, y, reduction="none")
        np.testing.assert_allclose(fd.cross_entropy(logits, y, reduction="none").compute(), want, rtol=1e-6)


def test_shards_of_half_types(half):
    z = (5 * np.random.default_rng(0).standard_normal((40, 30))).astype(half)
    y = np.arange(40) % 30
    logits = da.from_array(z, (17, 11))
    for reduction in ("none", "mean", "sum"):
        got = fd.cross_entropy(logits, y, reduction=reduction)
        want = fs.cross_entropy(z, y, reduction=reduction)
        assert got.dtype == got.compute().dtype == want.dtype
        np.testing.assert_allclose(np.asarray(got, float), np.asarray(want, float), rtol=eps_of(half))
    got, want = fd.logsumexp(logits).compute(), fs.logsumexp(z)
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want)


def test_shards_and_ignored_rows():
    z = np.random.default_rng(0).standard_normal((9, 7))
    y = np.array([0, 6, -1, 3, -1, 2, 2, 5, -1])
    logits = da.from_array(z, ((3, 0, 6), (2, 0, 5)))
    for reduction in ("none", "mean", "sum"):
        for dtype in (np.int64, np.int32):
            got = fd.cross_entropy(logits, y.astype(dtype), ignore_index=-1, reduction=reduction).compute()
            np.testing.assert_allclose(got, fs.cross_entropy(z, y, ignore_index=-1, reduction=reduction))
    assert np.isnan(fd.cross_entropy(logits, np.full(9, -100)).compute())
    np.testing.assert_allclose(fd.cross_entropy(np.exp(logits) * 0 + 1, y, ignore_index=-1).compute(), np.log(7))
    unknown = logits.copy()
    unknown._chunks = ((np.nan,) * 3, logits.chunks[1])
    labels = da.from_array(y, ((3, 0, 6),))
    labels._chunks = ((np.nan,) * 3,)
    got = fd.cross_entropy(unknown, labels, ignore_index=-1, reduction="none").compute()
    np.testing.assert_allclose(got, fs.cross_entropy(z, y, ignore_index=-1, reduction="none"))


# The classifier -------------------------------------------------------------------------------------------------------


def rows(dtype=np.float64, n_classes=4):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D)).astype(dtype)
    return x, (x[:, :n_classes] + rng.gumbel(size=(N, n_classes))).argmax(axis=1), rng.random(N)


PARAMETERS = {
    "plain": {},
    "balanced": {"class_weight": "balanced"},
    "weights": {"class_weight": {0: 2.0, 1: 0.5}, "C": 0.1},
    "newton": {"solver": "newton-cg", "tol": 1e-6},
    "others": {"fit_intercept": False, "label_smoothing": 0.1, "C": np.inf},
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("parameters", PARAMETERS)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_fit(parameters, n_classes, weighted):
    x, y, weights = rows(n_classes=n_classes)
    parameters, weights = PARAMETERS[parameters], weights if weighted else None
    X = chunked(x)
    model = fd.SoftmaxClassifier(**parameters).fit(X, chunked(y), weights)
    whole = fastsoftmax.sklearn.SoftmaxClassifier(**parameters).fit(x, y, weights)
    for name in ("coef_", "intercept_", "classes_", "n_iter_", "n_features_in_"):
        np.testing.assert_allclose(getattr(model, name), getattr(whole, name), rtol=1e-6, atol=1e-8, err_msg=name)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        got, want = getattr(model, method)(X), getattr(model, method)(x)
        assert isinstance(got, da.Array)
        assert (got.shape, got.dtype, got.chunks[0]) == (want.shape, want.dtype, CHUNKS), method
        np.testing.assert_array_equal(got.compute(), want, err_msg=method)
    assert model.score(X, y, weights) == pytest.approx(model.score(x, y, weights), abs=1e-15)


def test_fit_float32_and_names():
    """Other dtypes than float32 are taken as float64, and labels may be strings."""
    x, y, _ = rows(np.float32)
    names = np.array(["ab", "c", "def", "g"])[y]
    model = fd.SoftmaxClassifier().fit(chunked(x), names)
    assert model.coef_.dtype == np.float32
    assert model.classes_.tolist() == ["ab", "c", "def", "g"]
    assert model.predict(chunked(x)).dtype == names.dtype
    np.testing.assert_array_equal(model.predict(chunked(x)).compute(), model.predict(x))
    integers = (4 * x).astype(int)
    model = fd.SoftmaxClassifier().fit(chunked(integers), y)
    whole = fastsoftmax.sklearn.SoftmaxClassifier().fit(integers, y)
    assert model.coef_.dtype == np.float64
    np.testing.assert_allclose(model.coef_, whole.coef_, rtol=1e-6)


def test_fit_unknown_chunks():
    x, y, weights = rows()
    unknown = [chunked(each, unknown=True) for each in (x, y, weights)]
    model, known = fd.SoftmaxClassifier().fit(*unknown), fd.SoftmaxClassifier().fit(*map(chunked, (x, y, weights)))
    np.testing.assert_array_equal(model.coef_, known.coef_)
    np.testing.assert_array_equal(model.predict(unknown[0]).compute(), model.predict(x))
    assert model.score(*unknown) == pytest.approx(known.score(x, y, weights), abs=1e-15)


def test_warm_start_and_arrays_in_memory():
    x, y, weights = rows()
    model = fd.SoftmaxClassifier(warm_start=True).fit(chunked(x), y)
    assert model.fit(chunked(x), y).n_iter_ == 0
    copies = clone(model), pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copies[1].predict(x), model.predict(x))
    in_memory = copies[0].fit(x, y, weights)
    whole = fastsoftmax.sklearn.SoftmaxClassifier().fit(x, y, weights)
    np.testing.assert_array_equal(in_memory.coef_, whole.coef_)
    again = fd.SoftmaxClassifier().partial_fit(x, y, classes=range(4), sample_weight=weights)
    assert again.score(x, y) > 0.4


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore")  # the checks fit what does not converge, and tell what they skip
def test_estimator_checks():
    """Arrays in memory, as scikit-learn has them."""
    check_estimator(fd.SoftmaxClassifier())


def test_predictions_are_those_of_the_coefficients_then():
    x, y, _ = rows()
    model = fd.SoftmaxClassifier().fit(chunked(x), y)
    now, lazily = model.predict_proba(x), model.predict_proba(chunked(x))
    model.fit(chunked(x), (y + 1) % 4)
    np.testing.assert_array_equal(lazily.compute(), now)


# Whatever the number of threads, and lazily ---------------------------------------------------------------------------


def test_same_bits_on_each_scheduler():
    """On clusters, too: `test_dask_cluster`."""
    x, y, weights = rows(np.float32)
    w, b = np.ones((D, 4), np.float32), np.zeros(4, np.float32)
    logits, found = da.from_array(x, (CHUNKS, 2)), []
    for scheduler in SCHEDULERS:
        with dask.config.set(**scheduler):
            got = compute(*fd.linear_cross_entropy_with_grad(chunked(x), w, b, y, sample_weight=weights))
            model = fd.SoftmaxClassifier().fit(chunked(x), y, weights)
            shards = dask.compute(fd.logsumexp(logits), fd.cross_entropy(logits, y))
        found.append([each.tobytes() for each in (*got, model.coef_, model.intercept_, *shards)])
    assert found[1:] == found[:-1]


def test_tree_has_one_order():
    for n in range(1, 20):
        parts = [dask.delayed(str(i), traverse=False) for i in range(n)]
        merged = tree(lambda a, b: f"({a}{b})", parts).compute()
        assert merged.replace("(", "").replace(")", "") == "".join(map(str, range(n)))
        depth = max(itertools.accumulate((c == "(") - (c == ")") for c in merged))
        assert depth == (n - 1).bit_length()


def test_nothing_is_computed_before_it_is_asked_for():
    """Then each chunk is read once, for rows and labels together."""
    reads = collections.Counter()

    def read(block_info=None):
        reads[block_info[None]["chunk-location"]] += 1
        return np.random.default_rng(0).standard_normal((10, 4))

    data = da.map_blocks(read, chunks=((10,) * 6, (4,)), dtype=float, meta=np.empty((0, 0)))
    X, y = data[:, :3], (data[:, 3] > 0).astype(int)
    loss, grads = fd.linear_cross_entropy_with_grad(X, np.zeros((3, 2)), None, y)
    others = fd.logsumexp(data), fd.cross_entropy(X, y)
    model = fastsoftmax.dask.SoftmaxClassifier().fit(np.eye(3), [0, 1, 1])
    lazily = model.predict(X)
    assert not reads
    dask.compute(loss, grads.dweight, grads.dinputs)
    assert set(reads.values()) == {1}
    for each in (*others, lazily):
        reads.clear()
        each.compute()
        assert set(reads.values()) == {1}
    reads.clear()
    model.fit(X, y)
    assert len(set(reads.values())) == 1
    assert reads[0, 0] > 3
    reads.clear()
    model.fit(*dask.persist(X, y))
    assert set(reads.values()) == {1}


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda given: "-".join(map(str, given.values())))
def test_one_thread_of_ours_for_each_task(monkeypatch, scheduler):
    threads.launch()
    usual, seen, run = pool._get_num_threads(), [], threads.run
    monkeypatch.setattr(threads, "SERIAL_BELOW", 0)

    def see(kernel, elements, *args):
        if elements > 100:  # else it looks at dtypes, before there is any task
            seen.append(threads.count_for(elements))
        run(kernel, elements, *args)

    monkeypatch.setattr(threads, "run", see)
    x, y, _ = rows(np.float32)
    with dask.config.set(**scheduler):
        model = fd.SoftmaxClassifier().fit(chunked(x), y)
        model.predict_proba(chunked(x)).compute()
        compute(*fd.linear_cross_entropy_with_grad(chunked(x), np.zeros((D, 4), np.float32), None, y))
        fd.cross_entropy(chunked(x), y).compute()
    assert set(seen) == {1}
    assert pool._get_num_threads() == usual
    with pytest.raises(KeyError):
        on_one_thread({}.__getitem__)("no such key")
    assert pool._get_num_threads() == usual


# Bad input ------------------------------------------------------------------------------------------------------------

BAD = {
    "inputs: expected a Dask array, got ndarray": lambda x, w, b, y: (np.asarray(x), w, b, y),
    "inputs: expected two axes, rows first, got shape (230,)": lambda x, w, b, y: (y, w, b, y),
    "inputs: expected chunks of whole rows, got 2 along axis 1; inputs.rechunk({1: -1})": lambda x, w, b, y: (
        x.rechunk((50, 3)),
        w,
        b,
        y,
    ),
    "weight: expected shape (6, any), got shape (5, 5)": lambda x, w, b, y: (x, w[1:], b, y),
    "weight: expected float32 like inputs, got float64": lambda x, w, b, y: (x, w.astype(float), b, y),
    "weight: expected an array in memory, got Array": lambda x, w, b, y: (x, da.from_array(w), b, y),
    "bias: expected shape (5,), got (4,)": lambda x, w, b, y: (x, w, b[1:], y),
    "labels: expected 230 rows like inputs, got shape (229,)": lambda x, w, b, y: (x, w, b, y[1:]),
    "labels: expected integers": lambda x, w, b, y: (x, w, b, y.astype(float)),
    "labels: expected 230 rows like inputs, got shape ()": lambda x, w, b, y: (x, w, b, 3),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_arrays(message):
    x, w, b, y = problem()
    with pytest.raises((TypeError, ValueError)) as caught:
        fd.linear_cross_entropy_with_grad(*BAD[message](chunked(x), w, b, chunked(y)))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"reduction": "max"}, "reduction: expected one of mean, sum, none, got 'max'"),
        ({"label_smoothing": 2}, "label_smoothing: expected a number from 0 to 1, got 2"),
        ({"class_weight": [1.0]}, "class_weight: expected shape (5,)"),
        ({"sample_weight": np.ones((N, 2))}, "sample_weight: expected shape (0,)"),
        ({"sample_weight": np.ones(3)}, "sample_weight: expected 230 rows like inputs, got shape (3,)"),
        ({"ignore_index": 0.5}, "ignore_index: expected an integer, got float"),
        ({"workspace": 0}, "workspace: expected a positive number of bytes, got 0"),
        ({"inputs_grad": None}, "inputs_grad: expected True or False, got NoneType"),
    ],
)
def test_bad_options(options, message):
    x, w, b, y = problem()
    with pytest.raises((TypeError, ValueError)) as caught:
        fd.linear_cross_entropy_with_grad(chunked(x), w, b, y, **options)
    assert message in str(caught.value)


def test_bad_chunks():
    x, w, b, y = problem()
    unknown = chunked(x, unknown=True)
    with pytest.raises(ValueError, match=r"labels: expected a Dask array .* inputs.compute_chunk_sizes\(\)"):
        fd.linear_cross_entropy_with_grad(unknown, w, b, y)
    with pytest.raises(ValueError, match=r"labels: expected \(4,\) chunks like inputs, got \(1,\)"):
        fd.linear_cross_entropy_with_grad(unknown, w, b, da.from_array(y, N))
    wide = chunked(x)
    wide._chunks = (wide.chunks[0], (np.nan,))
    with pytest.raises(ValueError, match="inputs: expected a known number of columns"):
        fd.linear_cross_entropy_with_grad(wide, w, b, y)
    others = da.from_array(y, ((64, 1, 100, 65),))
    others._chunks = ((np.nan,) * 4,)
    loss, _ = fd.linear_cross_entropy_with_grad(unknown, w, b, others)
    with pytest.raises(ValueError, match=r"labels: expected shape \(.*,\), got \(.*,\) \(in chunk [13]\)"):
        loss.compute()


def test_bad_labels_are_named_when_computed():
    x, w, b, y = problem()
    y[64 + 7] = C
    message = r"labels: expected classes 0 to 4 or ignore_index -100, got 5 in row 7 \(in chunk 2\)"
    loss, _ = fd.linear_cross_entropy_with_grad(chunked(x), w, b, y)
    with pytest.raises(ValueError, match=message):
        loss.compute()
    z = da.from_array(x[:, :C], (CHUNKS, 2))
    with pytest.raises(ValueError, match=r"got 5 in row 7 \(in chunk \(2, \d\)\)"):
        fd.cross_entropy(z, y).compute()


def test_bad_shards():
    z = da.zeros((6, 4), chunks=(3, 2))
    y = np.zeros(6, int)
    for call, message in (
        (lambda: fd.logsumexp(np.zeros((2, 2))), "logits: expected a Dask array, got ndarray; fastsoftmax.logsumexp"),
        (lambda: fd.logsumexp(z[0]), "logits: expected two axes"),
        (lambda: fd.logsumexp(z.astype(complex)), "logits: expected float32"),
        (lambda: fd.cross_entropy(z[:, :0], y), "logits: expected at least one class"),
        (lambda: fd.cross_entropy(z, y[1:]), "labels: expected 6 rows like logits, got shape (5,)"),
        (lambda: fd.cross_entropy(z, y.astype(float)), "labels: expected integers, one per row, got float64"),
        (lambda: fd.cross_entropy(z, np.zeros((6, 4), int)), "labels: expected integers, one per row, got int64"),
        (lambda: fd.cross_entropy(z, y, reduction="max"), "reduction: expected one of"),
        (lambda: fd.cross_entropy(z, y, ignore_index=None), "ignore_index: expected an integer"),
        (lambda: fd.cross_entropy(z, y, ignore_index=2**63), "ignore_index: expected a 64-bit integer"),
    ):
        with pytest.raises((TypeError, ValueError)) as caught:
            call()
        assert message in str(caught.value)


def with_value(array, at, value):
    array = array.copy()
    array[at] = value
    return array


BAD_FITS = {
    "X: expected numbers, got <U32": lambda x, y, s: (x.astype(str), y),
    "X: expected chunks of whole rows": lambda x, y, s: (x.rechunk((50, 2)), y),
    "X: expected at least one row, got none": lambda x, y, s: (x[:0], y[:0]),
    "X: expected finite numbers, got nan in row 3 (in chunk 2)": lambda x, y, s: (
        da.where(s == s[67], np.nan, x.T).T,
        y,
    ),
    "X: expected at least one feature, got shape (230, 0)": lambda x, y, s: (x[:, :0], y),
    "y: expected labels that have an order, got object": lambda x, y, s: (x, np.where(np.arange(N) > 5, None, "a")),
    "y: expected class labels, got complex128": lambda x, y, s: (x, y.astype(complex)),
    "y: expected 230 rows like X, got shape (3,)": lambda x, y, s: (x, y[:3]),
    "y: expected one for each row of X, got shape (230, 1)": lambda x, y, s: (x, y[:, None]),
    "y: expected class labels, got continuous numbers such as ": lambda x, y, s: (x, y + 0.5),
    "y: expected finite numbers, got inf in row 1 (in chunk 0)": lambda x, y, s: (x, with_value(y * 1.0, 1, np.inf)),
    "y: expected at least two classes, got only one class: ": lambda x, y, s: (x, y * 0),
    "sample_weight: expected 230 rows like X, got shape (229,)": lambda x, y, s: (x, y, s[1:]),
    "sample_weight: expected one for each row of X, got shape (230, 1)": lambda x, y, s: (x, y, s[:, None]),
    "sample_weight: expected weights from 0 up, got -1.0 (in chunk 2)": lambda x, y, s: (x, y, with_value(s, 70, -1)),
    "sample_weight: expected finite numbers, got nan in row 1": lambda x, y, s: (x, y, with_value(s, 1, np.nan)),
    "sample_weight: expected some weight above zero": lambda x, y, s: (x, y, s * 0),
}


@pytest.mark.parametrize("message", BAD_FITS)
def test_bad_fits(message):
    x, y, weights = rows()
    with pytest.raises((TypeError, ValueError)) as caught:
        fd.SoftmaxClassifier().fit(*BAD_FITS[message](*map(chunked, (x, y, weights))))
    assert message in str(caught.value)


def test_bad_uses_of_a_classifier():
    x, y, _ = rows()
    with pytest.raises(ValueError, match="C: expected a number above 0"):
        fd.SoftmaxClassifier(C=-1).fit(chunked(x), y)
    with pytest.raises(TypeError, match="X: expected rows in memory in partial_fit, got Array"):
        fd.SoftmaxClassifier().partial_fit(chunked(x), y, classes=range(4))
    with pytest.raises(ValueError, match="not fitted"):
        fd.SoftmaxClassifier().predict(chunked(x))
    model = fd.SoftmaxClassifier().fit(chunked(x), y)
    with pytest.raises(ValueError, match="X: expected 6 features as in the fit, got 5"):
        model.predict(chunked(x[:, 1:]))
    delayed = dask.delayed(x)
    with pytest.raises(TypeError, match="X: expected a Dask array, got Delayed"):
        model.fit(delayed, y)


def test_page():
    """The page's examples run, one after the other."""
    page = Path(__file__).parents[1] / "docs" / "dask.md"
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    variables = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), variables)
    assert variables["share"] > 0.8
    assert variables["model"].n_iter_ > 2
    logits, labels = variables["logits"].compute(), variables["labels"].compute()
    assert variables["loss"] == pytest.approx(fs.cross_entropy(logits, labels), rel=1e-6)
    np.testing.assert_allclose(variables["norms"], fs.logsumexp(logits), rtol=1e-6)
