"""Options of the loss: in every regime, in place, in the head; to 4 ulp of the largest term.

PyTorch's formula in a wider dtype is the truth here; `test_against_torch` compares with PyTorch itself.
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
# Which options are on, each alone and with others.
OPTIONS = [
    {"class_weight": True},
    {"sample_weight": True},
    {"label_smoothing": 0.1},
    {"label_smoothing": 1.0},
    {"z_loss": 0.5},
    {"class_weight": True, "label_smoothing": 0.1},
    {"class_weight": True, "label_smoothing": 1.0, "z_loss": 1e-4},
    {"sample_weight": True, "z_loss": 0.5},
    {"class_weight": True, "sample_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
]
SHAPES = [(35, 1), (35, 10), (21, 33), (13, 130), (150, 1_000), (1_100, 130), (2, 70_001)]  # runs of several rows, too
BY_OPTIONS = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))


def weights_of(classes, dtype):
    """Weights of several scales, a zero among many."""
    weights = np.random.default_rng(classes).uniform(0.1, 3, classes)
    weights[2::3] *= 1e-3
    weights[5::7] = 0
    return weights.astype(dtype)


def with_arrays(options, rows, classes, dtype):
    """Options with arrays in place of True."""
    arrays = {"class_weight": weights_of(classes, dtype), "sample_weight": weights_of(rows, np.float64)[::-1]}
    return {name: arrays[name] if value is True else value for name, value in options.items()}


def exactly(z, y, wide, class_weight=None, sample_weight=None, label_smoothing=0.0, z_loss=0.0):
    """The definition, row by row, in a wider dtype: (loss, its gradient, the gradient's largest term)."""
    z, s = z.astype(wide), 1 if sample_weight is None else sample_weight.astype(wide)
    rows, classes = np.arange(len(y)), z.shape[1]
    w = np.ones(classes, wide) if class_weight is None else class_weight.astype(wide)
    smoothing = wide.type(label_smoothing)
    t = np.broadcast_to(smoothing / classes * w, z.shape).copy()
    t[rows, y] += (1 - smoothing) * w[y]
    target = t.sum(1)
    m = z.max(1, keepdims=True)
    e = np.exp(z - m)
    others = np.where(np.arange(classes) == y[:, None], 0, e).sum(1)
    log_sum = np.where(z[rows, y] == m[:, 0], np.log1p(others), np.log(e.sum(1)))
    lse, a = m[:, 0] + log_sum, e / e.sum(1, keepdims=True)
    z_term = wide.type(z_loss) * lse * lse
    loss = np.where(t > 0, (m - z) * t, 0).sum(1) + target * log_sum + z_term
    curve = 2 * wide.type(z_loss) * lse
    grad = a * (target + curve)[:, None] - t
    if not label_smoothing:
        grad[rows, y] = -others / e.sum(1) * target + curve * a[rows, y]
    largest = np.maximum(np.maximum(a * target[:, None], np.abs(a * curve[:, None])), t)
    return s * loss, np.reshape(s, (-1, 1)) * grad, np.reshape(s, (-1, 1)) * largest


@pytest.fixture(params=REGIMES)
def regime(request, monkeypatch):
    for name, value in zip(("STREAM_CLASSES", "STREAM_BYTES", "BLOCKED_BYTES"), REGIMES[request.param], strict=True):
        monkeypatch.setattr(tuning, name, value)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("in_place", [False, True], ids=["out of place", "in place"])
@BY_OPTIONS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_within_ulps_of_the_largest_term(shape, options, in_place, dtype, twin, wider, assert_ulps):
    rows, classes = shape
    rng = np.random.default_rng(shape)
    z = (rng.standard_normal(shape) * rng.choice([0.1, 3, 20], (rows, 1))).astype(dtype)
    z[1::4, 0] += 50
    y = rng.integers(classes, size=rows)
    options = with_arrays(options, rows, classes, dtype)
    loss, grad, largest = exactly(z, y, wider(dtype), **options)
    y[::5] = -100
    loss[::5], grad[::5] = 0, 0
    eps = np.finfo(dtype).eps
    assert_ulps(fs.cross_entropy(z, y, **options, reduction="none"), loss)
    factors = rng.uniform(0.5, 2, rows).astype(dtype)
    given = z.copy()
    out = given if in_place else None
    got, dlogits = fs.cross_entropy_with_grad(given, y, **options, reduction="none", dloss=factors, out=out)
    assert_ulps(got, loss)
    assert_ulps(dlogits, grad * factors[:, None], ulps=4, slack=4 * eps * largest * factors[:, None])
    assert (dlogits[::5] == 0).all()


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@BY_OPTIONS
@pytest.mark.parametrize("classes", [1, 10, 63, 64, 130])
@pytest.mark.parametrize("name", LOSSES)
def test_like_the_reference(name, classes, options, reduction, dtype, arguments, results):
    """All reductions; in the head with chunks of rows, too."""
    args = arguments(70, classes, dtype)[name]
    if "logits" in args:
        args["logits"] = np.random.default_rng(0).standard_normal((70, classes)).astype(dtype)
    args["labels"][3:20] = -100
    args |= with_arrays(options, 70, classes, dtype) | {"reduction": reduction}
    wide = {key: value.astype(np.float64) if hasattr(value, "shape") else value for key, value in args.items()}
    wide["labels"] = args["labels"]
    want = results(getattr(reference, name)(**wide))
    chunks = {"workspace": 20 * classes * dtype(0).itemsize} if name in HEAD else {}
    for got in (getattr(fs, name)(**args), getattr(fs, name)(**args, **chunks)):
        for part, exact in zip(results(got), want, strict=True):
            size = np.abs(exact).max(initial=1)
            np.testing.assert_allclose(part, exact, rtol=0, atol=300 * np.finfo(dtype).eps * size)


@pytest.mark.parametrize("classes", [10, 130, 1_000])
@BY_OPTIONS
def test_same_bits_alone_and_in_a_batch(classes, options, dtype, twin, assert_same_bits):
    """A row alone, in a batch, in any place of it."""
    z = np.random.default_rng(0).standard_normal((35, classes)).astype(dtype)
    y = np.random.default_rng(1).integers(classes, size=35)
    options = with_arrays(options, 35, classes, dtype)
    rows = np.random.default_rng(2).permutation(35)
    whole = fs.cross_entropy_with_grad(z, y, **options, reduction="none")
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"][rows]
    moved = fs.cross_entropy_with_grad(z[rows], y[rows], **options, reduction="none")
    assert_same_bits(moved, [part[rows] for part in whole])
    if "sample_weight" in options:
        options["sample_weight"] = options["sample_weight"][:1]
    alone = fs.cross_entropy_with_grad(z[rows[:1]], y[rows[:1]], **options, reduction="none")
    assert_same_bits(alone, [part[rows[:1]] for part in whole])


@pytest.mark.usefixtures("regime")
@BY_OPTIONS
@pytest.mark.parametrize("classes", [3, 40])
def test_finite_differences(classes, options, wider):
    """The gradient is that of the loss."""
    z = np.random.default_rng(classes).standard_normal((4, classes))
    y, step = np.arange(4) % classes, 1e-5
    options = with_arrays(options, 4, classes, np.float64)
    _, grad = fs.cross_entropy_with_grad(z, y, **options)
    for row, j in itertools.product(range(4), range(classes)):
        shift = np.zeros_like(z)
        shift[row, j] = step
        ahead, behind = (fs.cross_entropy(z + sign * shift, y, **options) for sign in (1, -1))
        np.testing.assert_allclose(grad[row, j], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("classes", [10, 130])
def test_slope_of_nothing(classes, dtype, twin, wider, assert_ulps):
    """T + 2ζ·lse = 0, as each row's label would be divided by it."""
    z = np.full((4, classes), -0.5 - np.log(classes)).astype(dtype)
    z -= fs.logsumexp(z[:1]) + dtype(0.5)
    y = np.arange(4)
    loss, grad, largest = exactly(z, y, wider(dtype), z_loss=1.0)
    got, dlogits = fs.cross_entropy_with_grad(z, y, z_loss=1, reduction="none")
    assert_ulps(got, loss)
    assert_ulps(dlogits, grad, slack=4 * np.finfo(dtype).eps * largest)


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
    rows = r"sample_weight: expected shape \(3,\), a weight for each row"
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
            f"{finite}, got -1.0 at 1",
        ),
        (
            "class_weight",
            [1, 1, np.nan, 1],
            ValueError,
            f"{finite}, got nan at 2",
        ),
        ("class_weight", ["a"] * 4, TypeError, "class_weight: expected float32, float64 or integers, got <U1"),
        (
            "sample_weight",
            [1, 1],
            ValueError,
            rf"{rows}, got \(2,\)",
        ),
        ("sample_weight", [1, np.inf, 1], ValueError, "sample_weight: expected finite weights from 0 up, got inf at 1"),
        ("z_loss", -1, ValueError, "z_loss: expected a number from 0 up, got -1"),
        ("z_loss", np.inf, ValueError, "z_loss: expected a number from 0 up, got inf"),
        ("z_loss", "1", TypeError, "z_loss: expected a number from 0 up, got str"),
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


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("workspace", [1, 2**25])
@pytest.mark.parametrize("classes", [10, 130])
def test_upstream_gradient_of_the_head(classes, workspace, reduction, dtype, arguments, results):
    """A factor of the loss, or one per row."""
    args = arguments(70, classes, dtype)["linear_cross_entropy_with_grad"] | {"reduction": reduction}
    args["labels"][5:20] = -100
    dloss = np.random.default_rng(0).standard_normal(70) if reduction == "none" else -2.5
    wide = {key: args[key].astype(np.float64) for key in ("inputs", "weight", "bias")} | {"labels": args["labels"]}
    want = results(reference.linear_cross_entropy_with_grad(**wide, reduction=reduction, dloss=dloss))
    got = results(fs.linear_cross_entropy_with_grad(**args, dloss=dloss, workspace=workspace))
    for part, exact in zip(got, want, strict=True):
        np.testing.assert_allclose(part, exact, rtol=0, atol=300 * np.finfo(dtype).eps * np.abs(exact).max(initial=1))


@pytest.mark.parametrize("classes", [10, 130])
def test_out_over_weights(classes, dtype, twin, assert_same_bits):
    """The answer is as if `out` did not overlap them."""
    z = np.random.default_rng(0).standard_normal((classes, classes)).astype(dtype)
    y = np.arange(classes)
    for name, weights_dtype in (("class_weight", dtype), ("sample_weight", np.float64)):
        weights = weights_of(classes, weights_dtype)
        want = fs.cross_entropy_with_grad(z, y, **{name: weights}, reduction="none")
        room = np.zeros(2 * z.size, dtype)
        room[: weights.nbytes // room.itemsize] = weights.view(dtype)
        out, same = room[: z.size].reshape(z.shape), room[: weights.nbytes // room.itemsize].view(weights_dtype)
        assert_same_bits(fs.cross_entropy_with_grad(z, y, **{name: same}, reduction="none", out=out), want)


@pytest.mark.usefixtures("serial")
def test_weights_of_any_kind(dtype, assert_same_bits):
    """Lists, integers, other floats, read-only and strided ones: nothing is compiled for them."""
    from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS

    z, y = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype), [0, 1, 2, 2]
    want = fs.cross_entropy(z, y, class_weight=np.array([1, 2, 0], dtype), sample_weight=np.array([1.0, 0, 3, 2]))
    compiled = sum(len(dispatcher.overloads) for dispatcher in DISPATCHERS)
    read_only = np.array([1, 2, 0], dtype)
    read_only.flags.writeable = False
    for w in ([1, 2, 0], (1.0, 2.0, 0.0), np.float64([1, 2, 0]), read_only, np.array([1, 9, 2, 9, 0, 9], dtype)[::2]):
        for s in ([1, 0, 3, 2], np.float32([1, 0, 3, 2]), np.uint8([1, 0, 3, 2])):
            assert_same_bits(fs.cross_entropy(z, y, class_weight=w, sample_weight=s), want)
    assert sum(len(dispatcher.overloads) for dispatcher in DISPATCHERS) == compiled
