"""Under NUMBA_DISABLE_JIT, and what of the kernels runs as plain Python: what needs neither vectors nor memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import labels, tuning
from fastsoftmax.kernels.compiling.jit import probe
from fastsoftmax.kernels.gemm import micro_tile as tiles
from fastsoftmax.kernels.gemm import narrow as products
from fastsoftmax.kernels.gemm import split_k as reductions

SCRIPT = """
import numpy as np
import fastsoftmax as fs

assert fs.reference.softmax(np.zeros(2)).tolist() == [0.5, 0.5]
assert fs.softmax_jacobian([0.5, 0.5]).tolist() == [[0.25, -0.25], [-0.25, 0.25]]
calls = (fs.softmax, ([0.0, 0.0],)), (fs.cross_entropy, ([0.0, 0.0], 1)), (fs.cross_entropy, ([0.0, 0.0], "a"))
for function, arguments in calls:
    try:
        function(*arguments)
    except (RuntimeError, TypeError) as error:
        print(type(error).__name__, error)
"""


def test_clear_errors():
    """Importing works, for those who debug functions of their own; what cannot run says why."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(Path(fs.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=600)
    assert run.returncode == 0, run.stderr
    softmax, loss, label = run.stdout.splitlines()
    assert softmax == loss
    assert softmax.startswith("RuntimeError NUMBA_DISABLE_JIT is set")
    assert label == "TypeError labels: expected integers, one per row, or probabilities of shape (2,), got <U1"


@pytest.mark.parametrize("ignored", [-100, 0, 2, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("wrong", [None, -1, 3, 2**31, 2**32, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("repeats", [1, 3])  # less than a vector, and some with a rest
def test_count_labels(repeats, wrong, ignored):
    y = np.array([0, 1, 2, 2, ignored, 1] * repeats)
    counted = np.count_nonzero(y != ignored)
    if wrong not in (None, ignored):
        y[3:5] = wrong
        counted = -1 - 3
    assert labels.count_labels.serial(y, 3, ignored) == counted


@pytest.mark.parametrize("rows", [0, 1, 127, 128, 1024, 1025, 65_536, 65_537, 10**7, 2**31 + 1, 2**40])
def test_blocks_of_rows(rows):
    """Every row in a block, none empty, 64 at most, whole strips."""
    n_blocks, block_rows = reductions.blocks_of(rows, tuning.BLOCK_ROWS)
    assert n_blocks <= 64
    assert block_rows >= tuning.BLOCK_ROWS
    assert block_rows % 128 == 0
    assert n_blocks * block_rows >= rows
    assert rows == 0 or (n_blocks - 1) * block_rows < rows


@probe
def compiled_add_up(partial, result):
    reductions.add_up(partial, result)


@pytest.mark.parametrize("columns", [1, 7, 8, 20])
def test_add_up_blocks(columns):
    partial = np.random.default_rng(0).standard_normal((5, columns))
    total, result = partial.sum(axis=0), np.empty(columns)
    compiled_add_up.serial(partial, result)
    np.testing.assert_allclose(result, total, rtol=1e-14)


@pytest.mark.parametrize("columns", [1, 4, 5, 6])
def test_padding_to_whole_tiles(columns):
    """Nothing but zeros in the padding, and each element in its place."""
    width = -(-columns // 5) * 5
    assert tiles.round_up(columns, tuning.WEIGHT_COLUMNS) == width
    rows = np.random.default_rng(0).standard_normal((6, columns))
    padded = np.full(8 * width, np.nan)
    products.pad_rows(rows.reshape(-1), 6, columns, padded)
    np.testing.assert_array_equal(padded.reshape(8, width), np.pad(rows, ((0, 2), (0, width - columns))))


@pytest.mark.parametrize("columns", [1, 5, 6, 10, 32, 63])
def test_each_vector_is_asked_for_once(columns):
    for side, vectors in ((5, 4), (2, 2), (5, 1)):
        shares = [products._share(c, columns, side, vectors) for c in range(0, columns, side)]
        assert [k for first, last in shares for k in range(first, last)] == list(range(vectors))


@pytest.mark.parametrize("features", [0, 1, 784, 10**6])
def test_strip_of_rows(features):
    assert products.strip_of(np.empty(0, np.float32), features) in range(16, 129, 16)


def pairwise_rounding(n, power):
    """The variance of NumPy's sum of n products, if rounding a sum of k terms has variance k^power."""
    if n < 8:
        return sum(k**power for k in range(2, n + 1))
    if n <= 128:
        chain = n // 8
        tree = 4 * (2 * chain) ** power + 2 * (4 * chain) ** power + (8 * chain) ** power
        rest = range(8 * chain + 1, n + 1)
        return 8 * sum(k**power for k in range(2, chain + 1)) + tree + sum(k**power for k in rest)
    half = n // 2 // 8 * 8
    return pairwise_rounding(half, power) + pairwise_rounding(n - half, power) + n**power


def rounding_in_tiles(n, strip, run, span, power):
    """The same of ∂L/∂W: runs of fused products, spans of runs, spans in float64, and what it is rounded to."""
    total = 0
    for first in range(0, n, strip):
        rows = min(strip, n - first)
        for start in range(0, rows, span):
            count = min(span, rows - start)
            runs = [min(run, count - i) for i in range(0, count, run)]
            total += sum(k**power for length in runs for k in range(1, length + 1))
            total += sum(sum(runs[: i + 1]) ** power for i in range(1, len(runs)))
    return total + (n**power if n > min(strip, span) else 0)


@pytest.mark.parametrize("strip", range(16, 129, 16))
@pytest.mark.parametrize("power", [1, 2], ids=["either sign", "one sign"])
def test_chains_round_less_than_pairwise_sums(power, strip):
    for n in [*range(1, 800), 10_000, 65_536]:
        run, span = products.chains_of(n)
        assert rounding_in_tiles(n, strip, run, span, power) <= n + pairwise_rounding(n, power), n
