"""A KeyboardInterrupt or a MemoryError in the middle of a call leaves the library as it was."""

import dis
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.np.ufunc import parallel as pool

import fastsoftmax as fs
from fastsoftmax import threads
from fastsoftmax.kernels.compiling.jit import Kernel

PACKAGE = str(Path(fs.__file__).parent)
# Where Python looks for signals: after calls, at the start of functions, at the end of loops' bodies.
LOOKS = ("CALL", "RESUME", "JUMP_BACKWARD")


class Interrupt:
    """Raises KeyboardInterrupt the n-th time that Python looks for signals in this package's own code."""

    def __init__(self, n):
        self.left = n
        self._after_look = {}
        self._looks = {}

    def __call__(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            if self._after_look.get(frame):
                self.left -= 1
                if self.left == 0:
                    self._after_look.clear()
                    raise KeyboardInterrupt
            self._after_look[frame] = frame.f_lasti in self._places(frame.f_code)
        return self

    def _places(self, code):
        if code not in self._looks:
            self._looks[code] = {i.offset for i in dis.get_instructions(code) if i.opname.startswith(LOOKS)}
        return self._looks[code]


@pytest.mark.parametrize("threading_layer", ["omp", "workqueue"])
def test_interrupt_everywhere(monkeypatch, arguments, assert_same_bits, threading_layer):
    """In the head's loop over chunks, before, inside and after the lock of the workqueue."""
    monkeypatch.setattr(threads, "SERIAL_BELOW", 0)
    # It is Python that is interrupted; threads would wait for each other where the machine is busy.
    monkeypatch.setattr(Kernel, "parallel", property(lambda kernel: kernel.serial))
    monkeypatch.setattr(pool, "_threading_layer", threading_layer)  # one caller at a time is right with any layer
    values = arguments(600, 70, np.float32)["linear_cross_entropy_with_grad"] | {"workspace": 70 * 4 * 250}
    before = {name: array.copy() for name, array in values.items() if isinstance(array, np.ndarray)}
    environment = dict(os.environ)

    def call():
        return fs.linear_cross_entropy_with_grad(**values)

    expected = call()
    interrupts = 0
    tracer = sys.gettrace()
    while True:
        interrupt = Interrupt(interrupts + 1)
        sys.settrace(interrupt)
        try:
            call()
        except KeyboardInterrupt:
            interrupts += 1
        finally:
            sys.settrace(tracer)
        assert not threads._one_caller.locked(), interrupts
        if interrupt.left > 0:
            break
        assert_same_bits(call(), expected)
    assert interrupts > 100
    assert dict(os.environ) == environment
    assert_same_bits([values[name] for name in before], list(before.values()))


def test_signals(run_python, layer):
    """Real ones, while a first call compiles and at any time in later ones."""
    code = """
import signal
import numpy as np
import fastsoftmax as fs
from fastsoftmax import threads
from fastsoftmax.kernels.compiling.jit import Kernel
from callers import digest
signal.signal(signal.SIGALRM, signal.default_int_handler)
def interrupted(function, seconds, calls):
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)  # again, for callbacks of LLVM's swallow some
        for _ in range(calls): function()
        signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return True
    return False
def softmax():
    return fs.softmax(np.zeros((2, 100)))
compiling = [interrupted(softmax, 0.03 + 0.3 * k, 1) for k in range(3)]
assert (softmax() == 0.01).all()
expected = digest()
calling = [interrupted(digest, 1e-5 * (k + 1), 1000) for k in range(300)]
print(any(compiling), all(calling), digest() == expected, threads._one_caller.locked())
"""
    assert run_python("-c", code, FASTSOFTMAX_CACHE="0", **layer) == "True True True False"


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of address space here")
def test_no_memory_on_a_thread_of_the_pool(run_python, layer):
    """Numba forgets an exception there, and the kernel would go on with what it has not computed."""
    code = """
import resource
import numpy as np
from fastsoftmax.kernels.operations import HEAD
kernel = HEAD.chunk_with_grad
def arguments(n_classes):
    logits, labels = np.zeros((8, n_classes), np.float32), np.zeros(8, np.int64)
    return logits, labels, -100, 1.0, np.empty(0, np.float32), np.zeros(8), np.zeros(n_classes)
def gradient():
    kernel.parallel(*large)
    return large[-1][:2]
kernel.parallel(*arguments(80))
large = arguments(1_000_000)
pages = int(open("/proc/self/statm").read().split()[0])
# Enough for the partial sums of two blocks of rows, not for what each adds up in.
limit = pages * resource.getpagesize() + 20 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
try: gradient()
except MemoryError: print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
large = arguments(1_000_000)
print(np.allclose(gradient(), [8e-6 - 8, 8e-6]))
"""
    # Else malloc has room of its own for each thread, which no limit counts.
    assert run_python("-c", code, MALLOC_ARENA_MAX="1", **layer).split() == ["MemoryError", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of address space here")
def test_no_memory_for_a_result(run_python):
    """Wherever in a call the memory ends: it says so, and is right when there is some again."""
    code = """
import resource
import numpy as np
import fastsoftmax as fs
from conftest import arguments, results
def limit(room):
    pages = int(open("/proc/self/statm").read().split()[0])
    soft = pages * resource.getpagesize() + room if room else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.RLIM_INFINITY))
values = arguments(15_000, 20, np.float32, features=20)
wide = arguments(3_000, 70, np.float32, features=300)
values |= {f"wide {name}": wide[name] for name in ("linear", "weight_grad", "linear_cross_entropy_with_grad")}
def call(name): return [array.tobytes() for array in results(getattr(fs, name.split()[-1])(**values[name]))]
expected = {name: call(name) for name in values}
failed = set()
for name in values:
    for room in range(2**17, 2**21, 2**17):
        limit(room)
        try: call(name)
        except MemoryError: failed.add(name)
        limit(None)
    assert call(name) == expected[name], name
print(*sorted(failed), sep=",")
"""
    # Else malloc keeps what was freed for the next call.
    failed = run_python("-c", code, MALLOC_ARENA_MAX="1", MALLOC_MMAP_THRESHOLD_="65536").strip().split(",")
    assert {"softmax", "cross_entropy_with_grad", "input_grad", "wide linear"} <= set(failed)
