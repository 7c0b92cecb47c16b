"""Class weights and label smoothing: in every regime, in place, in the head; to 4 ulp of the largest term.

PyTorch's formula in a wider dtype is the truth here; `test_callers` compares with PyTorch itself.
"""

import itertools

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels import tuning

HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
LOSSES = ["cross_entropy", "cross_entropy_with_grad", *HEAD]
REGIMES = {"as it comes": (1_000, 32_000_000, 2**23), "streamed": (0, 0, 2**23), "blocked": (0, 0, 0)}
OPTIONS = [(weighted, smoothing) for weighted in (False, True) for smoothing in (0.0, 0.1, 1.0)][1:]


def weights_of(classes, dtype):
    """Weights of several scales, a zero among many."""
    weights = np.random.default_rng(classes).uniform(0.1, 3, classes)
    weights[2::3] *= 1e-3
    weights[5::7] = 0
    return weights.astype(dtype)


def exactly(z, y, class_weight, smoothing, wide):
    """PyTorch's formula, row by row, in a wider dtype: (loss, its gradient, the largest term of each)."""
    z = z.astype(wide)
    w = np.ones(z.shape[1], wide) if class_weight is None else class_weight.astype(wide)
    t = np.broadcast_to(wide.type(smoothing) / z.shape[1] * w, z.shape).copy()
    t[np.arange(len(y)), y] += (1 - wide.type(smoothing)) * w[y]
    m = z.max(1, keepdims=True)
    e = np.exp(z - m)
    total = e.sum(1, keepdims=True)
    below = np.where(t > 0, (m - z) * t, 0)
    total_target = t.sum(1)
    others = np.where(np.arange(z.shape[1]) == y[:, None], 0, e).sum(1)
    log_sum = np.where(z[np.arange(len(y)), y] == m[:, 0], np.log1p(others), np.log(total[:, 0]))
    grad = e / total * total_target[:, None] - t
    if not smoothing:
        grad[np.arange(len(y)), y] = -others / total[:, 0] * total_target
    return below.sum(1) + total_target * log_sum, grad, np.maximum(e / total * total_target[:, None], t)


@pytest.fixture(params=REGIMES)
def regime(request, monkeypatch):
    for name, value in zip(("STREAM_CLASSES", "STREAM_BYTES", "BLOCKED_BYTES"), REGIMES[request.param], strict=True):
        monkeypatch.setattr(tuning, name, value)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("in_place", [False, True], ids=["out of place", "in place"])
@pytest.mark.parametrize(("weighted", "smoothing"), OPTIONS)
@pytest.mark.parametrize("shape", [(35, 1), (35, 10), (21, 33), (13, 130), (70, 1_000), (2, 70_001)], ids=str)
def test_within_ulps_of_the_largest_term(shape, weighted, smoothing, in_place, dtype, twin, wider, assert_ulps):
    rows, classes = shape
    rng = np.random.default_rng(shape)
    z = (rng.standard_normal(shape) * rng.choice([0.1, 3, 20], (rows, 1))).astype(dtype)
    z[1::4, 0] += 50
    y = rng.integers(classes, size=rows)
    w = weights_of(classes, dtype) if weighted else None
    loss, grad, largest = exactly(z, y, w, smoothing, wider(dtype))
    y[::5] = -100
    loss[::5], grad[::5] = 0, 0
    options = {"class_weight": w, "label_smoothing": smoothing, "reduction": "none"}
    assert_ulps(fs.cross_entropy(z, y, **options), loss)
    factors = rng.uniform(0.5, 2, rows).astype(dtype)
    given = z.copy()
    got, dlogits = fs.cross_entropy_with_grad(given, y, **options, dloss=factors, out=given if in_place else None)
    assert_ulps(got, loss)
    slack = 4 * np.finfo(dtype).eps * largest * factors[:, None]
    assert_ulps(dlogits, grad * factors[:, None], ulps=4, slack=slack)
    assert (dlogits[::5] == 0).all()


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("weighted", "smoothing"), OPTIONS)
@pytest.mark.parametrize("classes", [1, 10, 63, 64, 130])
@pytest.mark.parametrize("name", LOSSES)
def test_like_the_reference(name, classes, weighted, smoothing, reduction, dtype, arguments, results):
    """All reductions; in the head with chunks of rows, too."""
    args = arguments(70, classes, dtype)[name]
    if "logits" in args:
        args["logits"] = np.random.default_rng(0).standard_normal((70, classes)).astype(dtype)
    args["labels"][3:20] = -100
    args |= {"class_weight": weights_of(classes, dtype) if weighted else None, "label_smoothing": smoothing}
    args["reduction"] = reduction
    wide = {key: value.astype(np.float64) if hasattr(value, "shape") else value for key, value in args.items()}
    wide["labels"] = args["labels"]
    want = results(getattr(reference, name)(**wide))
    chunks = {"workspace": 20 * classes * dtype(0).itemsize} if name in HEAD else {}
    for got in (getattr(fs, name)(**args), getattr(fs, name)(**args, **chunks)):
        for part, exact in zip(results(got), want, strict=True):
            size = np.abs(exact).max(initial=1)
            np.testing.assert_allclose(part, exact, rtol=0, atol=200 * np.finfo(dtype).eps * size)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", LOSSES)
def test_off_is_off(name, classes, dtype, arguments, assert_same_bits):
    """None and 0 are what the plain call does, to the bit; ones are the same numbers."""
    args = arguments(35, classes, dtype)[name] | {"reduction": "mean"}
    plain = getattr(fs, name)(**args)
    for smoothing in (0, 0.0, np.float32(0), np.int64(0)):
        assert_same_bits(getattr(fs, name)(**args, class_weight=None, label_smoothing=smoothing), plain)
    assert_same_bits(getattr(fs, name)(**args, class_weight=np.ones(classes, dtype)), plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", [10, 130, 40_000])
def test_minus_infinity(classes, smoothing, dtype, twin):
    """A class of no probability has no gradient, but its share of the smoothed loss is infinite."""
    z = np.zeros((6, classes), dtype)
    z[::2, 3] = -np.inf
    loss, dlogits = fs.cross_entropy_with_grad(z, np.zeros(6, int), label_smoothing=smoothing, reduction="none")
    assert np.isinf(loss[::2]).all() == bool(smoothing)
    assert np.isfinite(loss[1::2]).all()
    np.testing.assert_allclose(dlogits[::2, 3], -smoothing / classes, rtol=1e-6)


@pytest.mark.parametrize("classes", [10, 130])
def test_all_weight_gone(classes, dtype, twin):
    """No row counts: NaN, and no gradient. Rows count, but weigh nothing: 0 / 0 both, as in PyTorch."""
    z, w = np.zeros((4, classes), dtype), np.zeros(classes, dtype)
    loss, dlogits = fs.cross_entropy_with_grad(z, np.full(4, -100), class_weight=w + 1, label_smoothing=0.1)
    assert np.isnan(loss)
    assert (dlogits == 0).all()
    loss, dlogits = fs.cross_entropy_with_grad(z, np.zeros(4, int), class_weight=w)
    assert np.isnan(loss)
    assert np.isnan(dlogits).all()


@pytest.mark.parametrize("name", LOSSES)
def test_refused(name, arguments):
    args = arguments(3, 4, np.float32)[name]
    shape = r"class_weight: expected shape \(4,\), a weight for each class"
    finite = "class_weight: expected finite weights from 0 up"
    for key, value, error, message in (
        (
            "class_weight",
            [1.0, 1.0],
            ValueError,
            shape + r", got \(2,\)",
        ),
        (
            "class_weight",
            [1, -1, 1, 1],
            ValueError,
            f"{finite}, got -1.0 for class 1",
        ),
        (
            "class_weight",
            [1, 1, np.nan, 1],
            ValueError,
            f"{finite}, got nan for class 2",
        ),
        ("class_weight", ["a"] * 4, TypeError, "class_weight: expected float32, float64 or integers, got <U1"),
        ("label_smoothing", 1.5, ValueError, "label_smoothing: expected a number from 0 to 1, got 1.5"),
        ("label_smoothing", np.nan, ValueError, "label_smoothing: expected a number from 0 to 1, got nan"),
        ("label_smoothing", "0.1", TypeError, "label_smoothing: expected a number from 0 to 1, got str"),
        ("label_smoothing", None, TypeError, "label_smoothing: expected a number from 0 to 1, got NoneType"),
        ("label_smoothing", True, TypeError, "label_smoothing: expected a number from 0 to 1, got bool"),
    ):
        with pytest.raises(error, match=f"^{message}$"):
            getattr(fs, name)(**args, **{key: value})


def test_nothing_new_is_compiled_for_another_value(arguments):
    """An option is a value: what is compiled depends on which are on, not on what they are."""
    args = arguments(5, 10, np.float32)["cross_entropy"]
    counts = []
    for smoothing, scale in itertools.product((0.1, 0.2), (1, 2)):
        fs.cross_entropy(**args, class_weight=scale * weights_of(10, np.float32), label_smoothing=smoothing)
        from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS

        counts.append(sum(len(dispatcher.overloads) for dispatcher in DISPATCHERS))
    assert len(set(counts)) == 1
