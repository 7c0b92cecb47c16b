"""Options of the loss: in every regime, in place, in the head; to 4 ulp of the largest term.

The definition in a wider dtype is the truth here; `test_against_torch` compares with PyTorch itself.
"""

import itertools

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from tests.definition import exactly, of_rows, weights_of, widened, with_arrays

HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
LOSSES = ["cross_entropy", "cross_entropy_with_grad", *HEAD]
# Which options are on, each alone and with others: see `definition`.
OF_LABELS = [
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
OPTIONS = [
    *OF_LABELS,
    {"softcap": 5.0},
    {"scale": 0.7},
    {"scale": 3.0},
    {"where": "kept"},
    {"where": "any"},
    {"probabilities": True},
    {"probabilities": True, "class_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
    {"where": "kept", "label_smoothing": 0.1, "class_weight": True},
    {"softcap": 30.0, "scale": 0.7, "where": "kept", "sample_weight": True, "z_loss": 0.5},
    {"return_stats": True},
    {"return_stats": True, "scale": 0.7, "where": "any"},
    {"return_stats": True, "softcap": 5.0, "probabilities": True, "label_smoothing": 0.1},
    {"return_stats": True, "class_weight": True, "sample_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
]
OF_THE_HEAD = [
    *OF_LABELS,
    {"softcap": 30.0, "scale": 0.7, "sample_weight": True, "z_loss": 0.5},
    {"probabilities": True, "class_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
    {"return_stats": True, "scale": 3.0},
    {"return_stats": True, "softcap": 5.0, "probabilities": True, "label_smoothing": 0.1},
]
SHAPES = [(35, 1), (35, 10), (21, 33), (13, 130), (150, 1_000), (1_100, 130), (2, 70_001)]  # runs of several rows, too


def by_options(options):
    """Go through tables of options, named by those that are on, and by the values of numbers."""

    def name(options):
        return " ".join(key if value is True else f"{key}={value}" for key, value in options.items())

    return pytest.mark.parametrize("options", options, ids=name)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("in_place", [False, True], ids=["out of place", "in place"])
@by_options(OPTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_within_ulps_of_the_largest_term(shape, options, in_place, dtype, twin, wider, assert_ulps):
    rows, classes = shape
    rng = np.random.default_rng(shape)
    z = (rng.standard_normal(shape) * rng.choice([0.1, 3, 20], (rows, 1))).astype(dtype)
    z[1::4, 0] += 50
    y = rng.integers(classes, size=rows)
    options = with_arrays(options, y, classes, dtype)
    ignored = np.arange(rows) % 5 == 0 if options["labels"] is y else np.zeros(rows, bool)
    y[ignored] = -100
    want = exactly(z, **options, wide=wider(dtype))
    loss, *stats = as_tuple(fs.cross_entropy(z, **options, reduction="none"))
    assert_ulps(loss, want.loss)
    given, factors = z.copy(), rng.uniform(0.5, 2, rows).astype(dtype)
    out = given if in_place else None
    loss, dlogits, *others = fs.cross_entropy_with_grad(given, **options, reduction="none", dloss=factors, out=out)
    assert_ulps(loss, want.loss)
    eps, factors = np.finfo(dtype).eps, factors[:, None]
    assert_ulps(dlogits, want.dlogits * factors, ulps=4, slack=4 * eps * want.largest * factors)
    assert (dlogits[ignored] == 0).all()
    if "where" in options:
        assert (dlogits[~options["where"]] == 0).all()
    assert len(stats) == len(others) == bool(options.get("return_stats"))
    for found in (*stats, *others):
        assert_ulps(found.lse, want.lse, ulps=0, slack=4 * np.spacing(want.largest_of_lse.astype(dtype)), message="lse")
        assert_ulps(found.entropy, want.entropy, message="entropy")
        np.testing.assert_array_equal(found.predictions, want.predictions)


def as_tuple(result):
    """What a function gave, when it may be a loss alone."""
    return result if isinstance(result, tuple) else (result,)


def assert_like_the_reference(name, args, options, results, dtype, **others):
    """Compare with the reference in float64."""
    wide = np.dtype(np.float64)
    want = getattr(reference, name)(**widened(args, dtype, wide), **widened(options, dtype, wide))
    for part, exact in zip(results(getattr(fs, name)(**args, **options, **others)), results(want), strict=True):
        size = np.abs(exact[np.isfinite(exact)]).max(initial=1)
        np.testing.assert_allclose(part, exact, rtol=0, atol=300 * np.finfo(dtype).eps * size)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@by_options(OPTIONS)
@pytest.mark.parametrize("classes", [1, 10, 63, 130])
@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_with_grad"])
def test_like_the_reference(name, classes, options, reduction, dtype, results):
    rng = np.random.default_rng(classes)
    z, y = rng.standard_normal((70, classes)).astype(dtype), rng.integers(classes, size=70)
    options = with_arrays(options, y, classes, dtype) | {"reduction": reduction}
    y[3:20] = -100
    assert_like_the_reference(name, {"logits": z}, options, results, dtype)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@by_options(OF_THE_HEAD)
@pytest.mark.parametrize("classes", [1, 10, 63, 64, 130])
@pytest.mark.parametrize("name", HEAD)
def test_head_like_the_reference(name, classes, options, reduction, dtype, arguments, results):
    """With the rows in one chunk, and in several."""
    args = arguments(70, classes, dtype)[name]
    y = args.pop("labels")
    options = with_arrays(options, y, classes, dtype) | {"reduction": reduction}
    y[3:20] = -100
    assert_like_the_reference(name, args, options, results, dtype)
    assert_like_the_reference(name, args, options, results, dtype, workspace=20 * classes * dtype(0).itemsize)


@pytest.mark.parametrize("classes", [10, 130, 1_000])
@by_options(OPTIONS)
def test_same_bits_alone_and_in_a_batch(classes, options, dtype, twin, results, assert_same_bits):
    """A row alone, in a batch, in any place of it."""
    z = np.random.default_rng(0).standard_normal((35, classes)).astype(dtype)
    y = np.random.default_rng(1).integers(classes, size=35)
    options = with_arrays(options, y, classes, dtype)
    whole = results(fs.cross_entropy_with_grad(z, **options, reduction="none"))
    moved = np.random.default_rng(2).permutation(35)
    for rows in (moved, moved[:1], slice(3, None)):
        some = fs.cross_entropy_with_grad(z[rows], **of_rows(options, rows), reduction="none")
        assert_same_bits(results(some), [part[rows] for part in whole])


@pytest.mark.usefixtures("regime")
@by_options([each for each in OPTIONS if "return_stats" not in each and each.get("where") != "any"])
@pytest.mark.parametrize("classes", [3, 40])
def test_finite_differences(classes, options):
    """The gradient is that of the loss."""
    z = np.random.default_rng(classes).standard_normal((4, classes))
    y, step = np.arange(4) % classes, 1e-5
    options = with_arrays(options, y, classes, np.float64)
    _, grad = fs.cross_entropy_with_grad(z, **options)
    for row, j in itertools.product(range(4), range(classes)):
        shift = np.zeros_like(z)
        shift[row, j] = step
        ahead, behind = (fs.cross_entropy(z + sign * shift, **options) for sign in (1, -1))
        np.testing.assert_allclose(grad[row, j], (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("classes", [10, 130])
def test_slope_of_nothing(classes, dtype, twin, wider, assert_ulps):
    """T + 2ζ·lse = 0, as each row's label would be divided by it."""
    z = np.full((4, classes), -0.5 - np.log(classes)).astype(dtype)
    z -= fs.logsumexp(z[:1]) + dtype(0.5)
    y = np.arange(4)
    want = exactly(z, y, wider(dtype), z_loss=1.0)
    got, dlogits = fs.cross_entropy_with_grad(z, y, z_loss=1, reduction="none")
    assert_ulps(got, want.loss)
    assert_ulps(dlogits, want.dlogits, slack=4 * np.finfo(dtype).eps * want.largest)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", LOSSES)
def test_off_is_off(name, classes, dtype, arguments, assert_same_bits):
    """None, 0 and False are what the plain call does, to the bit; ones are the same numbers."""
    args = arguments(35, classes, dtype)[name] | {"reduction": "mean"}
    plain = getattr(fs, name)(**args)
    off = {"class_weight": None, "sample_weight": None, "softcap": None, "scale": None, "return_stats": False}
    off |= {"where": None} if name not in HEAD else {}
    for zero in (0, 0.0, np.float32(0), np.int64(0)):
        assert_same_bits(getattr(fs, name)(**args, **off, label_smoothing=zero, z_loss=zero), plain)
    assert_same_bits(getattr(fs, name)(**args, class_weight=np.ones(classes, dtype)), plain)
    assert_same_bits(getattr(fs, name)(**args, scale=1), plain)


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


def compiled():
    """How many kernels have been compiled, or read from the cache."""
    return sum(len(dispatcher.overloads) for dispatcher in DISPATCHERS)


@pytest.mark.parametrize("name", ["cross_entropy", "linear_cross_entropy"])
def test_nothing_new_is_compiled_for_another_value(name, arguments):
    """An option is a value: what is compiled depends on which are on, not on what they are."""
    args = arguments(5, 10, np.float32)[name]
    counts = []
    for value in (0.5, 0.25, np.float32(0.7)):
        options = {"class_weight": value * weights_of(10, np.float32), "label_smoothing": value, "z_loss": value}
        getattr(fs, name)(**args, **options, softcap=10 * value, scale=value, return_stats=True)
        counts.append(compiled())
    assert len(set(counts)) == 1


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("name", ["softcap", "scale"])
def test_numbers_are_taken_in_the_dtype_of_the_logits(name, dtype, assert_same_bits):
    """Whatever number it is."""
    z, y = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype), [0, 1, 2, 2]
    for value in (0.7, 2, np.int8(2), np.float32(0.1), 1 / 3):
        want = fs.cross_entropy_with_grad(z, y, **{name: float(dtype(value))})
        assert_same_bits(fs.cross_entropy_with_grad(z, y, **{name: value}), want)
        assert_same_bits(fs.cross_entropy_with_grad(z, y, **{name: dtype(value)}), want)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "u8", ">i4", "list", "tuple", "range"])
def test_labels_of_any_kind(kind, results, assert_same_bits):
    """Integers of any dtype, lists and ranges."""
    z, y = np.random.default_rng(0).standard_normal((10, 10)), np.arange(10)
    options = with_arrays({"where": "kept", "label_smoothing": 0.1, "class_weight": True}, y, 10, np.float64)
    want = fs.cross_entropy_with_grad(z, **options)
    makers = {"list": np.ndarray.tolist, "tuple": tuple, "range": lambda y: range(len(y))}
    options["labels"] = makers.get(kind, lambda y: y.astype(kind))(y)
    assert_same_bits(fs.cross_entropy_with_grad(z, **options), want)


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
    z, y = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype), [0, 1, 2, 2]
    want = fs.cross_entropy(z, y, class_weight=np.array([1, 2, 0], dtype), sample_weight=np.array([1.0, 0, 3, 2]))
    before = compiled()
    read_only = np.array([1, 2, 0], dtype)
    read_only.flags.writeable = False
    for w in ([1, 2, 0], (1.0, 2.0, 0.0), np.float64([1, 2, 0]), read_only, np.array([1, 9, 2, 9, 0, 9], dtype)[::2]):
        for s in ([1, 0, 3, 2], np.float32([1, 0, 3, 2]), np.uint8([1, 0, 3, 2])):
            assert_same_bits(fs.cross_entropy(z, y, class_weight=w, sample_weight=s), want)
    assert compiled() == before
