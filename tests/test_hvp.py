"""The Hessian's product with a vector: as the reference, and as differences of the gradient, with every option."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from tests.definition import widened, with_arrays

OPTIONS = [
    {},
    {"class_weight": True},
    {"sample_weight": True},
    {"label_smoothing": 0.1},
    {"z_loss": 0.5},
    {"class_weight": True, "sample_weight": True, "label_smoothing": 0.3, "z_loss": 0.1},
    {"softcap": 5.0},
    {"scale": 0.7},
    {"where": "kept"},
    {"where": "any"},
    {"probabilities": True},
    {"probabilities": True, "class_weight": True, "label_smoothing": 0.1, "z_loss": 0.5, "softcap": 5.0},
    {"softcap": 30.0, "scale": 3.0, "where": "kept", "sample_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
]
BY_OPTIONS = pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: " ".join(f"{k}={v}" if k == "where" else k for k, v in options.items())
)


def call(rows, classes, dtype, options):
    rng = np.random.default_rng([rows, classes])
    z, v = 3 * rng.standard_normal((2, rows, classes))
    y = rng.integers(classes, size=rows)
    return z.astype(dtype), v.astype(dtype), with_arrays(options, y, classes, dtype)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@BY_OPTIONS
@pytest.mark.parametrize("shape", [(35, 1), (35, 10), (21, 130), (40, 1_000), (2, 70_001)], ids=str)
def test_like_the_reference(shape, options, reduction, dtype, twin, wider):
    z, v, options = call(*shape, dtype, options)
    left_out = ~options.get("where", np.ones(shape, bool))
    if options["labels"].ndim == 1:
        options["labels"][::5] = -100
        left_out[::5] = True
    wide = wider(dtype)
    exact = {"logits": z.astype(wide), "vector": v.astype(wide), **widened(options, dtype, wide)}
    want = reference.cross_entropy_hvp(**exact, reduction=reduction)
    eps, size = np.finfo(dtype).eps, np.abs(want).max(axis=1, keepdims=True)
    for out in (None, np.empty_like(z)):
        got = fs.cross_entropy_hvp(z, vector=v, **options, reduction=reduction, out=out)
        assert out is None or got is out
        assert (got[left_out] == 0).all()
        np.testing.assert_allclose(got, want.astype(dtype), rtol=8 * eps, atol=float(16 * eps * size.max()))


@pytest.mark.usefixtures("serial")
@BY_OPTIONS
@pytest.mark.parametrize("classes", [2, 40])
def test_differences_of_the_gradient(classes, options):
    z, v, options = call(4, classes, np.float64, options)
    step = 1e-5
    ahead, behind = (fs.cross_entropy_with_grad(z + sign * step * v, **options)[1] for sign in (1, -1))
    got = fs.cross_entropy_hvp(z, vector=v, **options)
    np.testing.assert_allclose(got, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("options", [OPTIONS[0], *OPTIONS[-2:]], ids=" ".join)
def test_in_place_and_along_any_axis(options, dtype, assert_same_bits):
    z, v, options = call(12, 7, dtype, options)
    args = {"logits": z, "vector": v, **options}
    want = fs.cross_entropy_hvp(**args)
    for name in ("logits", "vector", "labels"):
        if args[name].ndim == 2:  # class probabilities, too
            given = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in args.items()}
            got = fs.cross_entropy_hvp(**given, out=given[name])
            assert got is given[name]
            assert_same_bits(got, want)
    moved = dict(args)
    for name, value in args.items():
        if isinstance(value, np.ndarray) and len(value) == 12:
            cube = value.reshape(3, 4, *value.shape[1:])
            moved[name] = np.moveaxis(cube, -1, 1) if value.ndim == 2 else cube
    got = fs.cross_entropy_hvp(**moved, axis=1)
    assert_same_bits(got, want.reshape(3, 4, 7).transpose(0, 2, 1))


@pytest.mark.parametrize("options", [{}, {"softcap": 5.0, "scale": 0.7}], ids=" ".join)
def test_a_row_that_is_ignored_may_hold_anything(options, dtype, twin):
    z = np.full((3, 5), np.nan, dtype)
    z[1] = 0
    got = fs.cross_entropy_hvp(z, [-100, 2, -100], np.ones((3, 5), dtype), **options)
    assert (got[[0, 2]] == 0).all()
    np.testing.assert_allclose(got[1], 0, atol=1e-6)


def test_what_is_left_out_may_hold_anything(dtype, twin):
    """Its logit and its entry of the vector."""
    z, v, options = call(12, 7, dtype, OPTIONS[-1])
    want = fs.cross_entropy_hvp(z, vector=v, **options)
    z[~options["where"]], v[~options["where"]] = np.nan, np.inf
    got = fs.cross_entropy_hvp(z, vector=v, **options)
    np.testing.assert_allclose(got, want, rtol=8 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)


def test_refused():
    z = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"^vector: expected shape \(3, 4\) like logits, got \(4, 3\)$"):
        fs.cross_entropy_hvp(z, [0, 1, 2], z.T)
    with pytest.raises(TypeError, match=r"^vector: expected float64 like logits, got float32$"):
        fs.cross_entropy_hvp(z, [0, 1, 2], z.astype(np.float32))
