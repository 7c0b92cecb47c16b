"""What Numba makes of a function: when it is made, how it is compiled, and who is told."""

import functools
import importlib
import logging
import threading
from concurrent.futures import Future
from time import perf_counter

from numba import njit
from numba.core.compiler_lock import global_compiler_lock

from . import sources
from .cache import cached

# No fast-math: the order of every operation is the source's, so that its bits are too.
FLAGS = {"nogil": True, "error_model": "numpy", "fastmath": False}

_LOG = logging.getLogger("fastsoftmax")

# All that has been asked for and is compiled by itself.
DISPATCHERS = []


class lazy:  # noqa: N801, a decorator
    """An attribute made when it is first asked for, as by `functools.cached_property`, but without a lock.

    That has one before Python 3.12, which a child forked meanwhile would wait for for ever.
    """

    def __init__(self, make):
        self._make = make

    def __set_name__(self, owner, name):
        self._name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            return self
        return vars(instance).setdefault(self._name, self._make(instance))


class Compiled:
    """A function that Numba compiles."""

    @lazy
    def dispatcher(self):
        """Give what Numba makes of it, when it is needed, and once: that takes some ms."""
        with global_compiler_lock:
            if "dispatcher" in vars(self):  # another thread was faster
                return vars(self)["dispatcher"]
            # Numba imports it to type the first array; a child that is forked meanwhile would wait for it for ever. A
            # fork waits for this lock (M53).
            importlib.import_module("numpy.ma")
            return vars(self).setdefault("dispatcher", self.make_dispatcher())


class Parallel(Compiled):
    """A function with Numba's own `prange`."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def make_dispatcher(self):
        """Make it: see `Compiled.dispatcher`."""
        return kept_dispatcher(self.__wrapped__, self.__wrapped__, parallel=True)


def kept_dispatcher(function, source, digest=sources.digest, **options):
    """Make one whose machine code is kept on disk, under the name and place of `source`, for sources of a digest."""
    dispatcher = cached(njit(function, **FLAGS, **options), source, digest)
    dispatcher.compile = _on_a_thread_of_its_own(dispatcher.compile)
    dispatcher._compiler.compile = _logged(dispatcher._compiler.compile, function.__name__)
    DISPATCHERS.append(dispatcher)
    return dispatcher


def _logged(compile_signature, name):
    """Have the log told what is compiled, which what is read from the cache is not."""

    @functools.wraps(compile_signature)
    def compile_and_tell(signature, result_type):
        start = perf_counter()
        _LOG.debug("compiling %s%s", name, signature, extra={"kernel": name})
        result = compile_signature(signature, result_type)
        _LOG.info("compiled %s%s in %.2f s", name, signature, perf_counter() - start, extra={"kernel": name})
        return result

    return compile_and_tell


# LLVM recurses: 64 KB, to which an application may set the stacks of its threads, end the process.
_COMPILER_STACK = 16 * 2**20


def _on_a_thread_of_its_own(compile_signature):
    """Have kernels compiled by a thread that no interrupt reaches, and that has a stack to do it on.

    A KeyboardInterrupt can leave Numba's tables half written, so that the kernel never compiles again. It only comes to
    the main thread: that one stops waiting, and the compilation is finished for the next call. A thread that is
    compiling already, and would wait for itself, goes on itself.
    """

    @functools.wraps(compile_signature)
    def compile_apart(signature):
        if global_compiler_lock.is_locked():  # by this thread
            return compile_signature(signature)
        compiled = Future()

        def work():
            try:
                compiled.set_result(compile_signature(signature))
            except BaseException as error:
                compiled.set_exception(error)

        thread = threading.Thread(target=work, name="fastsoftmax compiles")
        try:
            _start_with_stack(thread, _COMPILER_STACK)
        except RuntimeError:  # at exit, or where there is no room for a thread
            return compile_signature(signature)
        result = compiled.result()
        thread.join()  # the caller has no more threads than before
        return result

    return compile_apart


def _start_with_stack(thread, size):
    """Start a thread on a larger stack than others may have; the size is the whole process's, so it is put back."""
    before = threading.stack_size(size)
    try:
        thread.start()
    finally:
        threading.stack_size(before)
