"""In place needs no memory, the linear head never holds all of the logits, and no call keeps any."""

import resource
import sys
import tracemalloc
from pathlib import Path

import numba
import numpy as np
import pytest

import fastsoftmax as fs


def peak_of(function, *args, **options):
    """The most bytes of arrays that a call held at a time; kernels are compiled before."""
    function(*args, **options)
    tracemalloc.start()
    try:
        function(*args, **options)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(2000, 100), (20, 100, 100), (200_000,)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "cross_entropy_with_grad"])
def test_in_place(name, shape):
    z = np.zeros(shape, np.float32)
    labels = [np.zeros(shape[:-1], np.int64)] if name == "cross_entropy_with_grad" else []
    assert peak_of(getattr(fs, name), z, *labels, out=z) < z.nbytes / 10


@pytest.mark.parametrize(("rows", "classes"), [(2000, 40), (8000, 500)])
@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_cross_entropy_with_grad"])
def test_linear_head(name, rows, classes):
    x, w, y = np.ones((rows, 3), np.float32), np.ones((3, classes), np.float32), np.zeros(rows, np.int64)
    logits = 4 * rows * classes
    results = 2 * x.nbytes + w.nbytes + 8 * rows  # and the losses, in float64
    panels = numba.get_num_threads() * 2**16 if classes == 500 else 0  # two of 12 rows, one of 32 columns, 256 deep
    assert peak_of(getattr(fs, name), x, w, None, y, workspace=2**15) < results + 2 * 2**15 + panels < logits / 2


def resident():
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.fixture
def one_thread():
    """The pool's: more of them would wait for each other where the machine is busy."""
    count = numba.get_num_threads()
    numba.set_num_threads(1)
    yield
    numba.set_num_threads(count)


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
@pytest.mark.parametrize("forced", ["serial", "parallel"])
def test_no_leak(force, arguments, function, forced, one_thread):
    """One small array a call, not given back, would be 640 kB."""
    force(forced)
    values = arguments(2, 70, np.float32)[function]
    call = getattr(fs, function)
    for _ in range(500):
        call(**values)
    before = resident()
    for _ in range(5_000):
        call(**values)
    assert resident() - before < 2**18


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
def test_no_leak_of_refused_calls():
    z, wrong = np.zeros((2, 70), np.float32), [0, 70]
    before = 0
    for i in range(6_000):
        with pytest.raises(ValueError, match="labels"):
            fs.cross_entropy_with_grad(z, wrong)
        if i == 1000:
            before = resident()
    assert resident() - before < 2**19
