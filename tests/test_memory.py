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


# In a process of its own: what kernels allocate is not NumPy's, and only the most that a process ever held is known.
ON_AN_AXIS = """
import sys
from pathlib import Path
import numpy as np
import fastsoftmax as fs
from test_memory import peak_of

def most():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)

def calls(classes, shape):
    # Not of zeros, which are no memory before something is written there.
    z, out = np.ones((2, 4, classes, *shape), np.float32)
    y, lse = np.ones((4, *shape), np.int64), np.ones((4, *shape), np.float32)
    for function in (fs.softmax, fs.log_softmax):
        yield z, function, (z,), out
    for function in (fs.softmax_backward, fs.log_softmax_backward):
        yield z, function, (z, z), out
    yield z, fs.logsumexp, (z,), lse
    yield z, fs.cross_entropy_with_grad, (z, y), out
    yield z, fs.cross_entropy_with_grad, (z, y), z

classes = int(sys.argv[1])
side = int((2**24 / 4 / classes) ** 0.5)  # 64 MB in all
for _, function, args, out in calls(classes, (64, 64)):  # which compiles them, and launches threads
    function(*args, axis=1, out=out)
for z, function, args, out in calls(classes, (side, side)):
    before = most()
    arrays = peak_of(function, *args, axis=1, out=out)
    print(function.__name__, z.nbytes, arrays, 1024 * (most() - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc here")
@pytest.mark.parametrize("classes", [100, 150])
def test_classes_on_an_axis(classes, run_python):
    """No copy of the array, neither one of NumPy's nor one that a kernel makes."""
    for line in run_python("-c", ON_AN_AXIS, str(classes)).splitlines():
        name, size, *held = line.split()
        assert int(size) > 6e7
        assert max(map(int, held)) < 4e6, name


@pytest.mark.parametrize(("rows", "classes"), [(2000, 40), (8000, 500)])
@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_cross_entropy_with_grad"])
def test_linear_head(name, rows, classes):
    x, w, y = np.ones((rows, 3), np.float32), np.ones((3, classes), np.float32), np.zeros(rows, np.int64)
    logits = 4 * rows * classes
    results = 2 * x.nbytes + w.nbytes + 8 * rows  # and the losses, in float64
    panels = numba.get_num_threads() * 2**16 if classes == 500 else 0  # two of 12 rows, one of 32 columns, 256 deep
    assert peak_of(getattr(fs, name), x, w, None, y, workspace=2**15) < results + 2 * 2**15 + panels < logits / 2


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", ["linear", "input_grad", "linear_backward", "loss", "head", "head with out"])
def test_transposed_weight(name, dtype):
    """Neither it nor its gradient is copied; what wide products of half types add up in is of float32."""
    x, dz, weight = (np.ones(shape, dtype) for shape in ((3, 300), (3, 5000), (5000, 300)))
    w, y, grads = weight.T, np.zeros(3, int), fs.LinearGrads(None, np.empty_like(weight).T, None)
    calls = {
        "linear": lambda: fs.linear(x, w),
        "input_grad": lambda: fs.input_grad(dz, w),
        "linear_backward": lambda: fs.linear_backward(x, w, dz),
        "loss": lambda: fs.linear_cross_entropy(x, w, None, y),
        "head": lambda: fs.linear_cross_entropy_with_grad(x, w, None, y),
        "head with out": lambda: fs.linear_cross_entropy_with_grad(x, w, None, y, out=grads),
    }
    result = weight.nbytes if name in ("linear_backward", "head") else 0
    sums = 4 * weight.size if dtype == "float16" and (result or name == "head with out") else 0
    assert peak_of(calls[name]) < result + sums + weight.nbytes / 2  # logits and panels are less


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
