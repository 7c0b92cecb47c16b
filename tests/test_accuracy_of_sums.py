"""Sums over rows: ten million losses within 2 ulp; db and dW by our kernels no worse than pairwise summation."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

mpmath = pytest.importorskip("mpmath")


@pytest.mark.parametrize("classes", [2, 128])
def test_ten_million_losses(classes, dtype):
    """A thousand rows, again and again: two classes have the loss log(1 + e^(z_other − z_y)).

    Of many classes the others are −inf, and the rows a hundred thousand.
    """
    rng = np.random.default_rng(0)
    z, y = rng.standard_normal((1000, 2)) * np.geomspace(0.01, 80, 1000)[:, None], rng.integers(2, size=1000)
    z = z.astype(dtype)
    with mpmath.workprec(200):
        differences = z[np.arange(1000), 1 - y].astype(np.longdouble) - z[np.arange(1000), y]
        losses = [mpmath.log1p(mpmath.exp(mpmath.mpf(float(d)))) for d in differences]
        mean = mpmath.fsum(losses) / 1000
        times = 10_000 if classes == 2 else 100
        logits = np.full((1000, classes), -np.inf, dtype)
        logits[:, :2] = z
        logits, labels = np.tile(logits, (times, 1)), np.tile(y, times)
        for reduction, exact in (("mean", mean), ("sum", mean * len(labels))):
            loss = fs.cross_entropy(logits, labels, reduction=reduction)
            assert loss.dtype == dtype
            assert abs(mpmath.mpf(float(loss)) - exact) <= 2 * float(np.spacing(loss)), reduction


def pairwise(terms):
    """NumPy's sum of each column, contiguous: pairwise, in float32."""
    return np.array([np.add.reduce(np.ascontiguousarray(column)) for column in terms.T])


def root_mean_square(got, exact, size):
    return np.sqrt(np.mean(((got - exact) / size) ** 2))


SUMMANDS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: np.abs(rng.standard_normal(shape)),
    "all sizes": lambda rng, shape: rng.standard_normal(shape) * 10 ** rng.uniform(-4, 4, shape),
}


@pytest.mark.parametrize("summands", SUMMANDS)
@pytest.mark.parametrize(("rows", "columns"), [(17, 500), (1000, 300), (5002, 130), (100_003, 60), (700, 33_000)])
def test_bias_grad(rows, columns, summands):
    """The last: more columns than one span."""
    dz = SUMMANDS[summands](np.random.default_rng(rows), (rows, columns)).astype(np.float32)
    exact, size = dz.sum(axis=0, dtype=np.float64), np.abs(dz).sum(axis=0, dtype=np.float64)
    got, peer = fs.bias_grad(dz), pairwise(dz)
    assert root_mean_square(got, exact, size) <= root_mean_square(peer, exact, size)
    assert np.max(np.abs(got - exact) / size) <= np.max(np.abs(peer - exact) / size)


# By how much the error of a sum of products may be larger than that of the rounded products' pairwise sum: where there
# are many columns hundreds are added up one by one.
FEW_SHARE, MANY_SHARE = 1, 4


def assert_products(got, x, dz, share):
    """Hold Xᵀ·dz against the pairwise sums of its products."""
    exact, size = x.T.astype(np.float64) @ dz.astype(np.float64), np.abs(x.T) @ np.abs(dz)
    peer = np.array([pairwise(column[:, None] * dz) for column in x.T])
    assert root_mean_square(got, exact, size) <= share * root_mean_square(peer, exact, size)


@pytest.mark.parametrize(("columns", "share"), [(3, FEW_SHARE), (32, FEW_SHARE), (33, MANY_SHARE), (200, MANY_SHARE)])
@pytest.mark.parametrize("rows", [3, 17, 50, 100, 300, 1000, 5002])
@pytest.mark.parametrize("summands", ["normal", "positive"])
def test_weight_grad(summands, rows, columns, share):
    rng = np.random.default_rng(rows)
    x, dz = (SUMMANDS[summands](rng, (rows, n)).astype(np.float32) for n in (64, columns))
    assert_products(fs.weight_grad(x, dz), x, dz, share)


@pytest.mark.parametrize(("classes", "share"), [(10, FEW_SHARE), (63, FEW_SHARE), (64, MANY_SHARE), (300, MANY_SHARE)])
@pytest.mark.parametrize("workspace", [2**15, 2**26])
def test_linear_head(workspace, classes, share):
    """No weight but zeros: the logits are the bias, and what is to be added up is known."""
    rng = np.random.default_rng(classes)
    x, w = rng.standard_normal((3000, 24)).astype(np.float32), np.zeros((24, classes), np.float32)
    b, y = rng.standard_normal(classes).astype(np.float32), rng.integers(classes, size=3000)
    _, grads = fs.linear_cross_entropy_with_grad(x, w, b, y, reduction="sum", workspace=workspace)
    z = np.tile(b, (3000, 1))
    dz = reference.cross_entropy_with_grad(z.astype(np.float64), y, reduction="sum")[1].astype(np.float32)
    assert_products(grads.dweight, x, dz, share)
    exact, size = dz.sum(axis=0, dtype=np.float64), np.abs(dz).sum(axis=0, dtype=np.float64)
    assert np.all(np.abs(grads.dbias - exact) <= 4 * np.finfo(np.float32).eps * size)
