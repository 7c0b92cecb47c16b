"""No kernel touches a byte outside its arrays: they lie between pages that end the process if anything reads or writes.

Every array of a call ends where its memory ends, or begins where it begins. The sizes are those at which a vector, a
tile, a bundle of rows or a strip of them is whole or not.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastsoftmax as fs
from fastsoftmax.kernels.compiling.target import X86

PREAMBLE = """
import ctypes, inspect, itertools, mmap, sys
import numpy as np
try:
    import ml_dtypes  # by which NumPy knows bfloat16
except ModuleNotFoundError:
    pass
import fastsoftmax as fs
from fastsoftmax import threads
from fastsoftmax.kernels import tuning

PAGE, SIZE = mmap.PAGESIZE, 2**20
mprotect = ctypes.CDLL(None).mprotect
mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

def guarded():
    memory = np.frombuffer(mmap.mmap(-1, PAGE + SIZE + PAGE), np.uint8)
    for guard in memory[:PAGE], memory[-PAGE:]:
        assert mprotect(guard.ctypes.data, PAGE, 0) == 0
    return memory

memories = [guarded() for _ in range(12)]
"""

CALLS = """
def place(array, memory, at_end):
    start = PAGE + (SIZE - array.nbytes if at_end else 0)
    view = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    view[...] = array
    return view

def arrays(name, rows, features, classes, dtype):
    rng = np.random.default_rng(0)
    shapes = (rows, features), (features, classes), (classes,), (rows, classes), (rows,)
    x, w, b, z, per_row = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    known = {"inputs": x, "weight": w, "bias": b, "labels": rng.integers(classes, size=rows), "dloss": per_row}
    known |= {"class_weight": abs(b), "sample_weight": abs(per_row).astype(np.float64)}
    known |= dict.fromkeys(("logits", "vector", "probs", "dprobs", "log_probs", "dlog_probs", "doutputs"), z)
    known["out"] = {"logsumexp": per_row, "weight_grad": w, "bias_grad": b, "input_grad": x}.get(name, z)
    if name == "linear_cross_entropy_with_grad":
        known |= {"dinputs": x, "dweight": w, "dbias": b}
    known |= {"where": rng.random((rows, classes)) < 0.6, "probabilities": abs(z)}
    taken = [*inspect.signature(getattr(fs, name)).parameters, *fs.LinearGrads._fields]
    taken += ["probabilities"] if "labels" in taken else []
    return {argument: array for argument, array in known.items() if argument in taken}

def all_options(name, args, weights, more):
    # Some that go together, with an array as long as the logits in each.
    mask = {"where": more["where"]} if "where" in more else {}
    if "labels" not in args:
        return [{"scale": 0.7, **mask}] if mask else []
    stats = {} if name == "cross_entropy_hvp" else {"return_stats": True}
    with_mask = {"softcap": 30.0, "scale": 0.7, "z_loss": 0.5, "sample_weight": weights["sample_weight"], **mask}
    return [with_mask, {"labels": more["probabilities"], "softcap": 5.0, "label_smoothing": 0.1, **stats}]

def transposed(args):
    # The same memory, with a weight, or its gradient, as the transpose of an array (classes, features).
    def turn(array):
        return array.reshape(array.shape[::-1]).T

    turned = {key: turn(a) if key == "weight" else a for key, a in args.items()}
    if name == "weight_grad":
        turned["out"] = turn(args["out"])
    if name == "linear_cross_entropy_with_grad":
        turned["out"] = args["out"]._replace(dweight=turn(args["out"].dweight))
    return turned

twin, dtype, regime, *only = sys.argv[1:]
if regime == "streams":
    tuning.STREAM_CLASSES, tuning.STREAM_BYTES = 65, 0
if regime == "blocks":
    tuning.BLOCKED_BYTES = 0
threads.run = lambda kernel, elements, *args: getattr(kernel, twin)(*args)
"""

ROWS = """
rows = (1, 3, 16, 35, 130) if twin == "serial" else (3, 130)  # threads take their time to wake up
classes = (1, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 300)
for name in fs.__all__:
    if not inspect.isfunction(getattr(fs, name)) or (only and name not in only):
        continue
    features = (1, 15, 33, 261) if "axis" not in inspect.signature(getattr(fs, name)).parameters else (1,)
    for *sizes, at_end in itertools.product(rows, features, classes, (False, True)):
        print(name, *sizes, "at the end" if at_end else "at the start", file=sys.stderr)
        args = arrays(name, *sizes, np.dtype(dtype))
        args = {argument: place(a, memory, at_end) for (argument, a), memory in zip(args.items(), memories)}
        options = {"reduction": "none"} if "labels" in args else {}
        if name.startswith("linear_cross_entropy"):
            options["workspace"] = 2000
        if "dweight" in args:
            args["out"] = fs.LinearGrads(*(args.pop(gradient) for gradient in fs.LinearGrads._fields))
        weights = {key: args.pop(key) for key in ("class_weight", "sample_weight") if key in args}
        more = {key: args.pop(key) for key in ("where", "probabilities") if key in args}
        getattr(fs, name)(**args, **options)
        if "weight" in args or name == "weight_grad":
            getattr(fs, name)(**transposed(args), **options)
        for given in all_options(name, args, weights, more):
            getattr(fs, name)(**{**args, **options, **given})
        if weights and at_end:
            getattr(fs, name)(**args, **options, **weights, label_smoothing=0.1, z_loss=0.1)
"""

# Classes on axis 1 of images, and Fortran order, in which all rows lie next to each other.
ON_AN_AXIS = """
names = "softmax log_softmax logsumexp softmax_backward log_softmax_backward cross_entropy cross_entropy_with_grad"
sizes = [(1, 8), (3, 8), (3, 16), (2, 17), (3, 49), (1, 128), (3, 128), (2, 150)]
sizes = sizes if twin == "serial" else sizes[-2:]
classes = (1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 130, 300)

def on_an_axis(args, images, inner, layout):
    # The same memory, taken for an array whose classes lie otherwise.
    moved = {"axis": -1 if layout == "Fortran" else 1}
    for key, a in args.items():
        if a.ndim == 2:
            n_classes = a.shape[1]
            a = a.reshape(n_classes, -1).T if layout == "Fortran" else a.reshape(images, n_classes, inner)
        elif key != "class_weight" and layout != "Fortran":
            a = a.reshape(images, inner)
        moved[key] = a
    return moved

for name in names.split():
    for (images, inner), n_classes, layout, at_end in itertools.product(
        sizes, classes, ("axis 1", "Fortran"), (False, True)
    ):
        print(name, images, inner, n_classes, layout, "at the end" if at_end else "at the start", file=sys.stderr)
        args = arrays(name, images * inner, 1, n_classes, np.dtype(dtype))
        args = {key: a for key, a in args.items() if key not in ("where", "probabilities")}
        args = {argument: place(a, memory, at_end) for (argument, a), memory in zip(args.items(), memories)}
        args = on_an_axis(args, images, inner, layout)
        options = {"reduction": "none"} if "labels" in args else {}
        weights = {key: args.pop(key) for key in ("class_weight", "sample_weight") if key in args}
        getattr(fs, name)(**args, **options)
        if weights:
            getattr(fs, name)(**args, **options, **weights, softcap=5.0, return_stats=True)
"""


def run(code, *arguments, **environment):
    if not sys.platform.startswith(("linux", "darwin")):
        pytest.skip("this platform protects pages in another way")
    environment = {**os.environ, "PYTHONPATH": str(Path(fs.__file__).parents[1]), **environment}
    command = [sys.executable, "-c", PREAMBLE + code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)


def test_outside_ends_the_process():
    for at in ("PAGE - 1", "-PAGE"):
        assert run(f"memories[0][{at}]").returncode < 0


EXHAUSTIVE = pytest.mark.exhaustive
# Each dtype's vectors are loaded, stored and transposed in ways of their own; other kernels go the same ways.
A_FEW = "softmax softmax_backward linear weight_grad"


@pytest.mark.parametrize(
    "how",
    [
        f"serial float16 stores {A_FEW}",
        f"serial f8 stores {A_FEW}",
        *(
            pytest.param(f"serial {half} {regime}", marks=EXHAUSTIVE)
            for half in ("float16", "bfloat16")
            for regime in ("stores", "streams", "blocks")
        ),
        "serial f4 stores",
        pytest.param("parallel f4 stores", marks=EXHAUSTIVE),  # the same machine code, and threads are slow to wake up
        "serial f4 streams softmax log_softmax softmax_backward log_softmax_backward cross_entropy_with_grad",
        "serial f4 blocks softmax log_softmax logsumexp cross_entropy cross_entropy_with_grad",
        *(pytest.param(f"serial {how}", marks=EXHAUSTIVE) for how in ("f4 streams", "f4 blocks")),
        *(pytest.param(f"serial f8 {regime}", marks=EXHAUSTIVE) for regime in ("stores", "streams", "blocks")),
    ],
)
def test_every_function(how):
    if "bfloat16" in how:
        pytest.importorskip("ml_dtypes")
    done = run(CALLS + ROWS, *how.split())
    assert done.returncode == 0, f"ended by signal {-done.returncode} in {done.stderr.splitlines()[-1]}"


@pytest.mark.parametrize(
    "how",
    [
        "serial f4 stores",
        "serial f4 streams",
        *(
            pytest.param(how, marks=EXHAUSTIVE)
            for how in (
                "serial f8 stores",
                "serial f8 streams",
                "parallel f4 streams",
                "serial float16 stores",
                "serial bfloat16 stores",
            )
        ),
    ],
)
def test_classes_on_an_axis(how):
    if "bfloat16" in how:
        pytest.importorskip("ml_dtypes")
    done = run(CALLS + ON_AN_AXIS, *how.split())
    assert done.returncode == 0, f"ended by signal {-done.returncode} in {done.stderr.splitlines()[-1]}"


@EXHAUSTIVE
@pytest.mark.skipif(not X86, reason="the names are those of x86")
def test_half_types_without_avx512():
    """Where no masked load has elements of 16 bits, and no instruction converts."""
    done = run(CALLS + ROWS, "serial", "float16", "stores", *A_FEW.split(), NUMBA_CPU_NAME="generic")
    assert done.returncode == 0, f"ended by signal {-done.returncode} in {done.stderr.splitlines()[-1]}"
    done = run(CALLS + ON_AN_AXIS, "serial", "float16", "stores", NUMBA_CPU_NAME="generic")
    assert done.returncode == 0, f"ended by signal {-done.returncode} in {done.stderr.splitlines()[-1]}"
