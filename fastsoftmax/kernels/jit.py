"""How Numba compiles the kernels: flags, serial and parallel twins."""

import functools
import threading
import types
from concurrent.futures import Future
from typing import NamedTuple

from numba import njit
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from .cache import cached

# No fast-math: the order of every operation is the source's, so that its bits are too. Numba leaks the caller's flags
# into a callee that it compiles first from there, so each function says them all.
_FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": False}

# All that is compiled by itself, and which of them are twins.
DISPATCHERS: list[Dispatcher] = []
TWINS: list["Kernel"] = []


class Kernel(NamedTuple):
    """One function over whole arrays, compiled twice: for one thread and for Numba's pool."""

    serial: Dispatcher
    parallel: Dispatcher


def inline(function):
    """Compile a helper into every kernel that calls it."""
    return njit(function, forceinline=True, **_FLAGS)


def apart(function):
    """Compile a helper that few rows need, as a call: inlined, it takes registers from the loops beside it.

    512 × 32,000 logsumexp in float64 took 16 ms where it takes 14.
    """
    return njit(function, forceinline=False, **_FLAGS)


def serial(function):
    """Compile a kernel that runs on one thread."""
    return function if config.DISABLE_JIT else _kernel(function)


def parallel(function):
    """Compile a kernel that runs on Numba's pool."""
    return function if config.DISABLE_JIT else _kernel(function, parallel=True)


def _kernel(function, **options):
    dispatcher = cached(njit(function, **_FLAGS, **options))
    dispatcher.compile = _out_of_reach_of_interrupts(dispatcher.compile)
    DISPATCHERS.append(dispatcher)
    return dispatcher


def _out_of_reach_of_interrupts(compile_signature):
    """Have the main thread's kernels compiled by another thread.

    A KeyboardInterrupt can leave Numba's tables half written, so that the kernel never compiles again. It only comes to
    the main thread: that one stops waiting, and the compilation is finished for the next call. A thread that is
    compiling already, and would wait for itself, goes on itself.
    """

    @functools.wraps(compile_signature)
    def compile_apart(signature):
        main = threading.current_thread() is threading.main_thread()
        if not main or global_compiler_lock.is_locked():
            return compile_signature(signature)
        compiled = Future()

        def work():
            try:
                compiled.set_result(compile_signature(signature))
            except BaseException as error:
                compiled.set_exception(error)

        thread = threading.Thread(target=work, name="fastsoftmax compiles")
        try:
            thread.start()
        except RuntimeError:  # at exit, or where there is no room for a thread
            return compile_signature(signature)
        result = compiled.result()
        thread.join()  # the caller has no more threads than before
        return result

    return compile_apart


def twins(function):
    """Compile a kernel with `prange` loops as a serial and a parallel twin.

    Numba's cache tells functions apart by name and line, not by options: one function compiled both ways would run the
    parallel code under the serial name. So the parallel twin is a copy with a name of its own.
    """
    if config.DISABLE_JIT:
        return Kernel(_not_compiled, _not_compiled)
    parallel = types.FunctionType(function.__code__, function.__globals__, function.__name__ + "_parallel")
    parallel.__qualname__ = parallel.__name__
    parallel.__module__ = function.__module__
    kernel = Kernel(_kernel(function), _kernel(parallel, parallel=True))
    TWINS.append(kernel)
    return kernel


def _not_compiled(*args):
    raise RuntimeError(
        "NUMBA_DISABLE_JIT is set, but vector instructions exist in compiled code only; "
        "fastsoftmax.reference has the same functions in NumPy"
    )


@inline
def require_all(done, tasks):
    """Require that every task of a `prange` loop has counted itself as done, at its end; tasks that allocate do so.

    Where an allocation fails on a thread of the pool, Numba forgets the exception and goes on with the result as it is.
    """
    if done != tasks:
        raise MemoryError
