"""The Hessian's product with a vector: as the reference, and as differences of the gradient, with every option."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels import tuning

OPTIONS = [
    {},
    {"class_weight": True},
    {"sample_weight": True},
    {"label_smoothing": 0.1},
    {"z_loss": 0.5},
    {"class_weight": True, "sample_weight": True, "label_smoothing": 0.3, "z_loss": 0.1},
]
REGIMES = {"as it comes": (1_000, 32_000_000, 2**23), "streamed": (0, 0, 2**23), "blocked": (0, 0, 0)}


@pytest.fixture(params=REGIMES)
def regime(request, monkeypatch):
    for name, value in zip(("STREAM_CLASSES", "STREAM_BYTES", "BLOCKED_BYTES"), REGIMES[request.param], strict=True):
        monkeypatch.setattr(tuning, name, value)


def call(rows, classes, dtype, options):
    rng = np.random.default_rng([rows, classes])
    z, v = 3 * rng.standard_normal((2, rows, classes))
    y = rng.integers(classes, size=rows)
    arrays = {"class_weight": rng.uniform(0.1, 2, classes), "sample_weight": rng.uniform(0, 2, rows)}
    return z.astype(dtype), y, v.astype(dtype), {k: arrays[k] if x is True else x for k, x in options.items()}


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "plain")
@pytest.mark.parametrize("shape", [(35, 1), (35, 10), (21, 130), (40, 1_000), (2, 70_001)], ids=str)
def test_like_the_reference(shape, options, reduction, dtype, twin, wider):
    z, y, v, options = call(*shape, dtype, options)
    y[::5] = -100
    wide = wider(dtype)
    if "class_weight" in options:
        options["class_weight"] = options["class_weight"].astype(dtype)
    exact = {k: np.asarray(x).astype(wide) if k.endswith("weight") else x for k, x in options.items()}
    want = reference.cross_entropy_hvp(z.astype(wide), y, v.astype(wide), **exact, reduction=reduction)
    eps, size = np.finfo(dtype).eps, np.abs(want).max(axis=1, keepdims=True)
    for out in (None, np.empty_like(z)):
        got = fs.cross_entropy_hvp(z, y, v, **options, reduction=reduction, out=out)
        assert out is None or got is out
        assert (got[::5] == 0).all()
        np.testing.assert_allclose(got, want.astype(dtype), rtol=8 * eps, atol=float(16 * eps * size.max()))


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options) or "plain")
@pytest.mark.parametrize("classes", [2, 40])
def test_differences_of_the_gradient(classes, options):
    z, y, v, options = call(4, classes, np.float64, options)
    step = 1e-5
    ahead, behind = (fs.cross_entropy_with_grad(z + sign * step * v, y, **options)[1] for sign in (1, -1))
    got = fs.cross_entropy_hvp(z, y, v, **options)
    np.testing.assert_allclose(got, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("serial")
def test_in_place_and_along_any_axis(dtype, assert_same_bits):
    z, y, v, _ = call(12, 7, dtype, {})
    want = fs.cross_entropy_hvp(z, y, v)
    for given in range(2):
        arrays = [z.copy(), v.copy()]
        got = fs.cross_entropy_hvp(arrays[0], y, arrays[1], out=arrays[given])
        assert got is arrays[given]
        assert_same_bits(got, want)
    cube = [array.reshape(3, 4, 7).transpose(0, 2, 1) for array in (z, v)]
    got = fs.cross_entropy_hvp(cube[0], y.reshape(3, 4), cube[1], axis=1)
    assert_same_bits(got, want.reshape(3, 4, 7).transpose(0, 2, 1))


def test_a_row_that_is_ignored_may_hold_anything(dtype, twin):
    z = np.full((3, 5), np.nan, dtype)
    z[1] = 0
    got = fs.cross_entropy_hvp(z, [-100, 2, -100], np.ones((3, 5), dtype))
    assert (got[[0, 2]] == 0).all()
    np.testing.assert_allclose(got[1], 0, atol=1e-6)


def test_refused():
    z = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"^vector: expected shape \(3, 4\) like logits, got \(4, 3\)$"):
        fs.cross_entropy_hvp(z, [0, 1, 2], z.T)
    with pytest.raises(TypeError, match=r"^vector: expected float64 like logits, got float32$"):
        fs.cross_entropy_hvp(z, [0, 1, 2], z.astype(np.float32))
