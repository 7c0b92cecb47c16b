"""No kernel reads or writes a byte outside its arrays: the pages before and after them end the process that touches one.

Every array of every call ends where its memory ends, or begins where it begins; the sizes are those where a vector, a
tile, a bundle of rows or a strip is whole or not.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastsoftmax as fs

SCRIPT = """
import ctypes, faulthandler, inspect, itertools, mmap, sys
import numpy as np
import fastsoftmax as fs
from fastsoftmax import threads

faulthandler.enable()
PAGE = mmap.PAGESIZE
mprotect = ctypes.CDLL(None, use_errno=True).mprotect
mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int


class Memory:
    # Pages between two that must not be touched; used again and again.

    def __init__(self, size=2**20):
        self.pages = mmap.mmap(-1, size + 2 * PAGE)
        self.bytes = np.frombuffer(self.pages, np.uint8)[PAGE:-PAGE]
        for guard in (self.bytes.ctypes.data - PAGE, self.bytes.ctypes.data + size):
            if mprotect(guard, PAGE, 0) != 0:
                sys.exit(f"mprotect: error {ctypes.get_errno()}")

    def place(self, array, at_end):
        start = self.bytes.size - array.nbytes if at_end else 0
        view = self.bytes[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
        view[...] = array
        return view


memories = [Memory() for _ in range(5)]


def arrays(function, rows, features, classes, dtype):
    rng = np.random.default_rng(0)
    x, w, b, z = (rng.standard_normal(s).astype(dtype) for s in ((rows, features), (features, classes), classes, (rows, classes)))
    known = {"inputs": x, "weight": w, "bias": b, "doutputs": z, "logits": z, "probs": z, "log_probs": z}
    known |= {"dprobs": z, "dlog_probs": z, "labels": rng.integers(classes, size=rows), "dloss": np.ones(rows, dtype)}
    known["out"] = {"logsumexp": z[:, 0], "weight_grad": w, "bias_grad": b, "input_grad": x}.get(function, z)
    taken = inspect.signature(getattr(fs, function)).parameters
    return {name: array for name, array in known.items() if name in taken}


def call(function, twin, at_end, rows, features, classes, dtype):
    args = arrays(function, rows, features, classes, dtype)
    args = {name: memory.place(array, at_end) for (name, array), memory in zip(args.items(), memories)}
    options = {"reduction": "none"} if "labels" in args else {}
    options |= {"workspace": 2000} if "linear_cross" in function else {}
    threads.run = lambda kernel, elements, *args: getattr(kernel, twin)(*args)
    getattr(fs, function)(**args, **options)


twin, dtype = sys.argv[1:]
functions = [name for name in fs.__all__ if inspect.isfunction(getattr(fs, name))]
for function in functions:
    layer = "inputs" in inspect.signature(getattr(fs, function)).parameters or function == "input_grad"
    sizes = itertools.product((1, 3, 16, 35, 130), (1, 16, 33) if layer else (1,), (1, 7, 8, 9, 15, 16, 17, 33, 63, 64, 65, 130, 300))
    for size, at_end in itertools.product(sizes, (True, False)):
        print(function, twin, dtype, *size, "end" if at_end else "start", file=sys.stderr)
        call(function, twin, at_end, *size, np.dtype(dtype))
try:
    memories[0].pages[0]  # the guard is there: this line ends the process
finally:
    print("not guarded")
"""
