"""Statistics of rows beside their loss: lse, the prediction, the entropy. How exact they are `test_options` says."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from tests.definition import with_arrays

INF, NAN = np.inf, np.nan
LOSSES = ["cross_entropy", "cross_entropy_with_grad"]
HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
SHAPES = pytest.mark.parametrize("shape", [(35, 1), (35, 10), (21, 33), (40, 130), (20, 1_000), (2, 70_001)], ids=str)
BY_NAME = pytest.mark.parametrize("name", LOSSES)
OPTIONS = [{}, {"where": "any", "scale": 0.7}, {"softcap": 5.0, "probabilities": True, "label_smoothing": 0.1}]
BY_OPTIONS = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "plain")


def stats_of(name, *args, **options):
    stats = getattr(fs, name)(*args, **options, return_stats=True)[-1]
    assert type(stats) is fs.RowStats
    return stats


def problem(shape, dtype, options):
    rng = np.random.default_rng(shape)
    z, y = (3 * rng.standard_normal(shape)).astype(dtype), rng.integers(shape[1], size=shape[0])
    return z, with_arrays(options, y, shape[1], dtype)


def predicted(z, where=True):
    """NumPy's argmax of the classes that there are."""
    return np.where(where, z, -INF).argmax(axis=-1)


@pytest.mark.usefixtures("regime")
@BY_OPTIONS
@SHAPES
@BY_NAME
def test_the_first_of_equals(name, shape, options, dtype, twin):
    """The same logits in many places; some of the first are left out."""
    z, options = problem(shape, dtype, options)
    z = np.round(z)
    z[::4] = z[::4, :1]
    z[1::4] = -np.abs(z[1::4])
    z[1::4, shape[1] // 3 :: 7] = 0
    z[1::8, ::5] = dtype(-0.0)
    want = predicted(z, options.get("where", True))
    np.testing.assert_array_equal(stats_of(name, z, **options).predictions, want)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("options", [{"scale": 0.1, "where": "kept"}, {"scale": 0.1, "softcap": 0.5}], ids=" ".join)
@pytest.mark.parametrize("classes", [10, 130])
@BY_NAME
def test_the_greatest_logit_where_a_transformation_rounds_it_away(name, classes, options, dtype, twin):
    """A softcap makes all large logits the same number, and a product two that are neighbours."""
    z = np.full((20, classes), dtype(1000))
    at = np.random.default_rng(classes).integers(classes, size=20)
    z[np.arange(20), at] = np.nextafter(dtype(1000), dtype(INF))
    stats = stats_of(name, z, **with_arrays(options, at, classes, dtype))
    np.testing.assert_array_equal(stats.predictions, at)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("masked", [False, True], ids=["all classes", "some left out"])
@SHAPES
@BY_NAME
def test_spoilt_rows(name, shape, masked, dtype, twin):
    """NumPy's argmax finds the first NaN; lse is what logsumexp gives, and the entropy NaN where softmax is."""
    rows, classes = shape
    rng = np.random.default_rng(classes)
    z, options = problem(shape, dtype, {"where": "kept", "scale": 0.5} if masked else {})
    for i in range(rows):
        values = [[NAN], [INF], [-INF], [NAN, NAN], [INF, INF, NAN], [NAN, INF, -INF], [-INF] * classes, []][i % 8]
        values = values[:classes]
        z[i, rng.choice(classes, len(values), replace=False)] = values
    where = options.get("where", np.ones(shape, bool))
    stats = stats_of(name, z, **options)
    np.testing.assert_array_equal(stats.predictions, predicted(z, where))
    wide = options.get("scale", 1) * z.astype(np.float64)
    np.testing.assert_allclose(stats.lse, reference.logsumexp(wide, where=where), rtol=1e-5)
    a, log_a = (getattr(reference, each)(wide, where=where) for each in ("softmax", "log_softmax"))
    with np.errstate(invalid="ignore"):
        want = -np.where(a == 0, 0, a * log_a).sum(axis=1)
    np.testing.assert_allclose(stats.entropy, want, rtol=1e-5, atol=1e-6)


@BY_NAME
@pytest.mark.parametrize("classes", [1, 10, 130])
def test_a_row_of_no_class(name, classes, dtype, twin):
    z, where = np.zeros((3, classes), dtype), np.ones((3, classes), bool)
    where[1] = False
    stats = stats_of(name, z, [0, 0, 0], where=where, scale=0.5)
    np.testing.assert_allclose(stats.lse, [np.log(classes), -INF, np.log(classes)], rtol=1e-6)
    np.testing.assert_allclose(stats.entropy, [np.log(classes), NAN, np.log(classes)], rtol=1e-6)
    np.testing.assert_array_equal(stats.predictions, [0, 0, 0])


@pytest.mark.usefixtures("regime")
@BY_OPTIONS
@pytest.mark.parametrize("classes", [1, 10, 130])
@BY_NAME
def test_ignored_rows_have_statistics(name, classes, options, dtype, twin):
    """Those that they have with a label, even if they are spoilt."""
    if "probabilities" in options:
        options = {"softcap": 5.0, "scale": 0.5}
    z, options = problem((35, classes), dtype, options)
    z[0], z[7] = NAN, INF
    want = stats_of(name, z, **options)
    options["labels"][::7] = options["labels"][3:6] = -100
    got = stats_of(name, z, **options)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got.lse, want.lse, rtol=4 * eps, atol=4 * eps)
    np.testing.assert_allclose(got.entropy, want.entropy, rtol=8 * eps)
    np.testing.assert_array_equal(got.predictions, want.predictions)


@BY_NAME
@pytest.mark.parametrize("classes", [1, 4, 64, 1_000])
def test_closed_forms(name, classes, dtype, twin, assert_ulps):
    """Equal logits, and one that leaves the others nothing."""
    z = np.full((3, classes), dtype(2.5))
    z[1:, -1] = 500
    lse, predictions, entropy = stats_of(name, z, [0, 0, -100])
    assert_ulps(lse[0], np.longdouble(2.5) + np.log(np.longdouble(classes)) if classes > 1 else np.longdouble(2.5))
    assert (lse[1:] == 500).all()
    assert_ulps(entropy[0], np.log(np.longdouble(classes)))
    assert (entropy[1:] < 1e-30 if dtype == np.float32 else entropy[1:] < 1e-200).all()
    np.testing.assert_array_equal(predictions, [0, classes - 1, classes - 1])


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("shape", "axis"), [((4,), 0), ((3, 4), 0), ((2, 3, 4), 1), ((0, 5), 1), ((5, 0, 2), 0)])
@pytest.mark.parametrize("name", LOSSES)
def test_shapes_and_dtypes(name, shape, axis, reduction, dtype, assert_same_bits):
    """Those of the rows, whatever the loss is reduced to."""
    rows = shape[:axis] + shape[axis + 1 :]
    z, y = np.random.default_rng(0).standard_normal(shape).astype(dtype), np.zeros(rows, int)
    stats = stats_of(name, z, y, axis=axis, reduction=reduction)
    for part, its_dtype in zip(stats, (dtype, np.int64, dtype), strict=True):
        assert np.shape(part) == rows
        assert np.asarray(part).dtype == its_dtype
        assert isinstance(part, np.ndarray if rows else np.generic)
    if z.size:
        moved = np.ascontiguousarray(np.moveaxis(z, axis, -1)).reshape(-1, shape[axis])
        want = stats_of(name, moved, y.reshape(-1), reduction="none")
        assert_same_bits([np.reshape(part, -1) for part in stats], want)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", [*LOSSES, *HEAD])
def test_the_loss_beside_them(name, classes, dtype, arguments, results):
    """Statistics come last, and loss and gradient are what they are without."""
    args = arguments(35, classes, dtype)[name] | {"reduction": "mean"}
    args.pop("logits", None)
    if name in LOSSES:
        args["logits"] = np.random.default_rng(0).standard_normal((35, classes)).astype(dtype)
    plain = getattr(fs, name)(**args)
    got = getattr(fs, name)(**args, return_stats=True)
    assert len(got) == (3 if "grad" in name else 2)
    got, want = results(got[:-1]), results(plain)
    sizes = [np.abs(part).max(initial=1) for part in want]
    for part, exact, size in zip(got, want, sizes, strict=True):
        np.testing.assert_allclose(part, exact, rtol=0, atol=100 * np.finfo(dtype).eps * size)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("workspace", [1, 5_000, 2**25])
@pytest.mark.parametrize("classes", [1, 10, 63, 64, 130])
@pytest.mark.parametrize("name", HEAD)
def test_of_the_head(name, classes, workspace, dtype, arguments):
    """Of every row, in whatever chunk it is."""
    args = arguments(70, classes, dtype)[name]
    args["labels"][3:20] = -100
    args["inputs"][[5, 40]] = 0  # ties, broken by the bias
    got = stats_of(name, **args, workspace=workspace)
    z = reference.linear(*(args[key].astype(np.float64) for key in ("inputs", "weight", "bias")))
    _, want = reference.cross_entropy(z, args["labels"], return_stats=True)
    close = {"rtol": 0, "atol": 300 * np.finfo(dtype).eps}
    np.testing.assert_allclose(got.lse, want.lse, **close)
    np.testing.assert_allclose(got.entropy, want.entropy, **close)
    np.testing.assert_array_equal(got.predictions, want.predictions)
    assert got.lse.dtype == got.entropy.dtype == dtype


def test_the_product_of_the_hessian_has_none():
    z = np.zeros((2, 3))
    with pytest.raises(TypeError, match="return_stats"):
        fs.cross_entropy_hvp(z, [0, 1], z, return_stats=True)
