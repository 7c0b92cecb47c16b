"""Indices: vectors beyond 2³¹ elements, and their bounds, which are checked where Numba is asked to check bounds."""

import math
import mmap
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels.compiling.jit import probe
from fastsoftmax.kernels.simd.accumulate import add_to_sum, empty_sum, sum_of
from fastsoftmax.kernels.simd.memory import load, load_first, store_first
from fastsoftmax.kernels.simd.vector import drop_lane, splat


@probe
def load_some(array, index, count) -> float:
    return sum_of(add_to_sum(empty_sum(array), load_first(array, index, count, 0.0)))


@probe
def store_some(array, index, count):
    store_first(array, index, count, splat(array, 1.0))


@probe
def load_all(array, index) -> float:
    return sum_of(add_to_sum(empty_sum(array), load(array, index)))


@probe
def kept_lanes(array, dropped) -> float:
    return sum_of(add_to_sum(empty_sum(array), drop_lane(splat(array, 1.0), dropped)))


@pytest.mark.parametrize(
    "count", [0, 1, 15, 16, 17, 2**31 - 1, 2**31, 2**31 + 5, 2**32, 2**32 + 5, 2**62, -1, -(2**32) + 5]
)
def test_count_of_lanes(count):
    lanes = min(max(count, 0), 16)
    assert load_some.serial(np.ones(16, np.float32), 0, count) == lanes
    array = np.zeros(16, np.float32)
    store_some.serial(array, 0, count)
    assert array.sum() == lanes


@pytest.mark.parametrize("lane", [-1, 0, 15, 16, 2**31, 2**32 - 1, 2**32, 2**32 + 5, -(2**32), -(2**32) + 5])
def test_number_of_a_lane(lane):
    assert kept_lanes.serial(np.zeros(1, np.float32), lane) == (15 if 0 <= lane < 16 else 16)


# Arrays of zeros that nobody has written to take no memory ---------------------------------------------------------

CLASSES = 2**31 + 70  # rows end in part of a vector


@pytest.fixture(scope="module")
def zeros():
    """More than 2³² float32 zeros."""
    if not sys.platform.startswith("linux"):
        pytest.skip("elsewhere memory that nobody has written to may count")
    no_reserve = getattr(mmap, "MAP_NORESERVE", 0x4000)  # named since Python 3.13
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | no_reserve
    memory = mmap.mmap(-1, 3 * CLASSES * 4, flags=private)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.float32)


def test_long_rows(zeros, force):
    """One class ahead of two thousand million: its own term shows in the sum of the others' 4.43."""
    force("parallel")
    logits, ahead = zeros.reshape(3, CLASSES), [5, 2**31 + 3, CLASSES - 1]
    rows = np.arange(3)
    logits[rows, ahead] = 20
    loss = math.log1p((CLASSES - 1) * math.exp(-20))
    np.testing.assert_allclose(fs.logsumexp(logits), 20 + loss, rtol=1e-7)
    np.testing.assert_allclose(fs.cross_entropy(logits, ahead, reduction="none"), loss, rtol=1e-6)
    np.testing.assert_allclose(fs.cross_entropy(logits, rows + 2**31, reduction="none"), 20 + loss, rtol=1e-7)
    logits[rows, ahead] = 0


def test_many_rows(zeros):
    doutputs = zeros[: 65 * 2**26].reshape(-1, 65)
    doutputs[-2:] = np.arange(65)
    np.testing.assert_array_equal(fs.bias_grad(doutputs), 2 * np.arange(65))
    doutputs[-2:] = 0


# Bounds ----------------------------------------------------------------------------------------------------------

OUT_OF_BOUNDS = """
import numpy as np
from test_indices import load_all, load_some, store_some
array = np.ones(40, np.float32)
inside = [(load_all, 24), (load_some, 39, 1), (load_some, 40, 0), (load_some, -9, -3), (store_some, 31, 9)]
outside = [(load_all, 25), (load_all, -1), (load_some, 39, 2), (load_some, 40, 1), (store_some, -1, 1)]
for function, *place in inside:
    function.serial(array, *place)
for function, *place in outside:
    try:
        function.serial(array, *place)
    except IndexError as error:
        assert str(error) == "vector out of bounds"
    else:
        raise AssertionError(f"{function} {place}: no error")
"""


def test_bounds_of_vectors_are_checked_on_demand():
    folders = [str(Path(fs.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "PYTHONPATH": os.pathsep.join(folders)}
    run = subprocess.run(
        [sys.executable, "-c", OUT_OF_BOUNDS], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
