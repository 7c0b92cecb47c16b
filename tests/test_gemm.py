"""Products of wide matrices: right, and the same bits in whatever blocks they are computed."""

import numpy as np
import pytest

from fastsoftmax.kernels import linear, tuning
from fastsoftmax.kernels.compiling.jit import Weight, probe
from fastsoftmax.kernels.gemm import macro_kernel as gemm
from fastsoftmax.kernels.gemm import narrow

# One tile of rows and columns or some, whole or not; one block or several; no depth, one step of depths or several.
SHAPES = [
    (1, 1, 1),
    (12, 256, 32),
    (13, 257, 33),
    (5, 600, 100),
    (265, 17, 31),
    (600, 40, 70),
    (7, 0, 50),
    (0, 5, 50),
    (50, 3, 0),
]


@probe
def compiled_transposed(weight: Weight, result):
    padded = narrow.transposed(weight)
    for i in range(padded.size):
        result[i] = padded[i]


def factors(rows, depths, columns, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(dtype) for shape in ((rows, depths), (depths, columns), columns)]


def products(a, b, addend, n_threads=1):
    """A·B by each kernel, plus an addend a column or the same everywhere: none, or 1.

    Each with its weight, or the gradient of that, in either order.
    """
    shape, x, results = (len(a), b.shape[1]), np.ascontiguousarray(a.T), {}
    for order in "CF":
        z, dinputs = (np.full(shape, np.nan, a.dtype) for _ in range(2))
        added, dweight = (np.full(shape, value, a.dtype, order) for value in (1, np.nan))
        linear.linear.serial(a, np.array(b, order=order), addend, z, n_threads)
        linear.input_grad.serial(a, np.array(b.T, order=order), dinputs, n_threads)
        linear.weight_grad.serial(x, b, added, True, n_threads)
        linear.weight_grad.serial(x, b, dweight, False, n_threads)
        found = {"linear": z, "input_grad": dinputs, "added": added, "weight_grad": dweight}
        results |= {f"{name} {order}": result for name, result in found.items()}
    return results


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products(shape, dtype):
    """Within what rounding costs sums of up to 256 products, and theirs."""
    a, b, addend = factors(*shape, dtype)
    exact, size = (np.matmul(f(a).astype(np.longdouble), f(b).astype(np.longdouble)) for f in (np.asarray, np.abs))
    additions = min(shape[1], 256) + -(-shape[1] // 256) + 1
    addends = {"linear": addend.astype(np.longdouble), "added": 1}
    for name, got in products(a, b, addend).items():
        plus = addends.get(name[:-2], 0)
        error = np.abs(got - (exact + plus))
        assert (error <= additions * np.finfo(dtype).eps * (size + np.abs(plus))).all(), name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_bits_in_either_order(shape, dtype, assert_same_bits):
    found = products(*factors(*shape, dtype))
    for name in ("linear", "input_grad", "added", "weight_grad"):
        assert_same_bits(found[f"{name} F"], found[f"{name} C"], name)


@pytest.mark.parametrize("n_threads", [2, 3, 5, 64])
@pytest.mark.parametrize("shape", SHAPES[:6], ids=str)
def test_same_bits_in_other_blocks(shape, n_threads, dtype, assert_same_bits):
    given = factors(*shape, dtype)
    for name, got in products(*given, n_threads).items():
        assert_same_bits(got, products(*given)[name], name)


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7, 16, 64])
@pytest.mark.parametrize("shape", [(1, 1), (264, 32_000), (264, 768), (16_384, 1_000), (600, 5), (5, 600)], ids=str)
def test_blocks(shape, n_threads, dtype):
    """No thread has half as many tiles again as it would have if all were shared out one by one, or one more."""
    count, rows, columns = gemm.grid_of(np.empty(0, dtype), *shape, n_threads)
    assert rows <= 264
    assert count == -(-shape[0] // rows) * -(-shape[1] // columns)
    height, width = tuning.TILE_ROWS, tuning.TILE_VECTORS * 64 // np.dtype(dtype).itemsize
    all_tiles = -(-shape[0] // height) * -(-shape[1] // width)
    most = -(-count // n_threads) * (rows // height) * (columns // width)
    assert most <= 1.5 * all_tiles / n_threads + 1


def test_a_row_alone(dtype, assert_same_bits):
    a, b, addend = factors(30, 300, 40, dtype)
    whole = products(a, b, addend)
    for row in (0, 11, 12, 29):
        alone = products(a[row : row + 1].copy(), b, addend)
        for name in whole:
            assert_same_bits(alone[name][0], whole[name][row], name)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_in_its_row_and_column(value, dtype, assert_same_bits):
    a, b, addend = factors(30, 300, 40, dtype)
    before = products(a, b, addend)
    a[13, 299] = b[0, 33] = value
    for name, got in products(a, b, addend).items():
        assert not np.isfinite(got[13]).any()
        assert not np.isfinite(got[:, 33]).any()
        others = np.ix_(np.arange(30) != 13, np.arange(40) != 33)
        assert_same_bits(got[others], before[name][others], name)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("columns", [1, 4, 5, 6, 16, 17, 33])
@pytest.mark.parametrize("features", [0, 1, 15, 16, 40])
def test_narrow_weight_is_transposed(features, columns, order, dtype):
    """And padded with zeros to whole tiles of columns."""
    weight = np.random.default_rng(0).standard_normal((features, columns)).astype(dtype)
    padded = -(-columns // tuning.OUTPUT_COLUMNS) * tuning.OUTPUT_COLUMNS
    got = np.full((padded, features), np.nan, dtype)
    compiled_transposed.serial(np.array(weight, order=order), got.reshape(-1))
    np.testing.assert_array_equal(got, np.pad(weight.T, ((0, padded - columns), (0, 0))))
