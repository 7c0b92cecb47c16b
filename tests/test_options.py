"""Options of the loss: in every regime, in place, in the head; to 4 ulp of the largest term.

The definition in a wider dtype is the truth here; `test_against_torch` compares with PyTorch itself.
"""

import itertools

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels import tuning
from tests.definition import exactly, of_rows, widened, with_arrays

HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
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


@pytest.mark.exhaustive
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


@by_options([each for each in OPTIONS if len(each) > 2])  # all kinds of them, and a kernel for each takes its time
@pytest.mark.parametrize(("rows", "classes"), [(35, 10), (130, 143), (1_100, 129)])
def test_same_bits_in_place_and_past_the_caches(
    rows, classes, options, dtype, twin, results, assert_same_bits, monkeypatch
):
    """Stored, streamed and in place, with rows left out in between."""
    z = np.random.default_rng(0).standard_normal((rows, classes)).astype(dtype)
    y = np.random.default_rng(1).integers(classes, size=rows)
    options = with_arrays(options, y, classes, dtype) | {"reduction": "none"}
    y[40::3] = -100
    want = results(fs.cross_entropy_with_grad(z, **options))
    given = z.copy()
    assert_same_bits(results(fs.cross_entropy_with_grad(given, **options, out=given)), want)
    monkeypatch.setattr(tuning, "STREAM_CLASSES", 0)
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    for offset in (0, 1, 13):
        around = np.full(z.size + 40, 7, dtype)
        out = around[offset : offset + z.size].reshape(z.shape)
        assert_same_bits(results(fs.cross_entropy_with_grad(z, **options, out=out)), want)
        assert (around[:offset] == 7).all()
        assert (around[offset + z.size :] == 7).all()


@pytest.mark.usefixtures("regime")
@by_options([{"scale": 0.7}, {"softcap": 5.0}, {"return_stats": True, "scale": 0.7, "where": "kept"}])
@pytest.mark.parametrize("classes", [1, 10, 33, 130])
def test_huge_logits(classes, options, dtype, twin, wider, assert_ulps):
    """Of which nothing but a few, equal ones, is left: with a scale their products are rounded by far more than 1."""
    z = np.random.default_rng(classes).standard_normal((24, classes))
    z[::2] = np.round(z[::2])
    z = (1.2573e30 * z).astype(dtype)
    options = with_arrays(options, np.arange(24) % classes, classes, dtype)
    want = exactly(z, **options, wide=wider(dtype))
    loss, dlogits, *stats = fs.cross_entropy_with_grad(z, **options, reduction="none")
    assert_ulps(loss, want.loss)
    assert_ulps(dlogits, want.dlogits, slack=4 * np.finfo(dtype).eps * want.largest)
    for found in stats:
        assert_ulps(found.lse, want.lse)
        assert_ulps(found.entropy, want.entropy)
        np.testing.assert_array_equal(found.predictions, want.predictions)


@pytest.mark.usefixtures("regime")
@by_options(OPTIONS)
@pytest.mark.parametrize("classes", [10, 130])
def test_small_upstream_gradients(classes, options, dtype, twin, wider, assert_ulps):
    """Too small for exponentials with headroom: they lose no digits, and no other row does."""
    z = np.random.default_rng(classes).standard_normal((21, classes)).astype(dtype)
    options = with_arrays(options, np.arange(21) % classes, classes, dtype)
    want = exactly(z, **options, wide=wider(dtype))
    small = np.resize({np.float32: [1, 1e-15, 1e-19, 1e-32], np.float64: [1, 1e-290, 1e-300]}[dtype], 21).astype(dtype)
    _, dlogits, *_ = fs.cross_entropy_with_grad(z, **options, reduction="none", dloss=small)
    info, small = np.finfo(dtype), small[:, None].astype(want.dlogits.dtype)
    assert_ulps(dlogits, small * want.dlogits, slack=4 * info.eps * small * want.largest + info.tiny)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [3, 40, 130])
def test_scale_and_softcap_far_from_one(classes, dtype):
    """Logits so small that a scale makes them ordinary, and a softcap so large that it caps nothing."""
    z, y = np.random.default_rng(0).standard_normal((4, classes)).astype(dtype), np.arange(4) % classes
    large = 2.0**100 if dtype == np.float32 else 2.0**1000
    want = fs.cross_entropy(z, y, reduction="none")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(fs.cross_entropy(z / dtype(large), y, scale=large, reduction="none"), want, rtol=4 * eps)
    np.testing.assert_allclose(fs.cross_entropy(z, y, softcap=1e15, reduction="none"), want, rtol=4 * eps)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize(("scale", "softcap"), [(1e100, 1e-180), (1e-100, 1e180), (1e250, 1e250), (1e-200, 1e-200)])
@pytest.mark.parametrize("classes", [3, 40])
def test_any_scale_beside_any_softcap(classes, scale, softcap, assert_ulps):
    """Neither their quotient nor its product with a logit is more than infinite."""
    z = np.zeros((2, classes))
    z[1, 1:3] = -1, 1
    options = {"scale": scale, "softcap": softcap, "reduction": "none"}
    want = exactly(z, np.ones(2, int), np.dtype(np.longdouble), scale=scale, softcap=softcap)
    loss, dlogits = fs.cross_entropy_with_grad(z, [1, 1], **options)
    assert_ulps(loss, want.loss)
    assert_ulps(dlogits, want.dlogits)


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
