"""Where the workers of Numba's pool run: not on their caller's processor."""

import ctypes
import os
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from fastsoftmax import kernels, openmp

# On Linux, and gettid in glibc since 2.30.
_C: Any = ctypes.PyDLL(None) if hasattr(os, "sched_setaffinity") else None
_IS_POSSIBLE = hasattr(_C, "sched_getcpu") and hasattr(_C, "gettid")


class _Caller(threading.local):
    """A caller: where its workers were last kept off, what they were told, and where they could run before."""

    place: tuple[int, int] | None = None
    told: dict[int, set[int]]
    had: dict[int, set[int]]

    def __init__(self) -> None:
        self.told, self.had = {}, {}


_caller = _Caller()


def keep_off(count: int) -> None:
    """Keep the caller's `count` − 1 OpenMP workers off its processor, if each thread has one.

    A worker that has slept is woken where its caller runs, unless another processor seems to be idle. On a virtual
    machine none does, as Linux takes one that has halted for one that is taken away, nor does one where NumPy's BLAS
    waits for work. The two then take turns on one processor, for many calls on end: a kernel took twice as long after
    each short sleep, and after each matrix product in two processes of three (M45).

    The caller goes where it likes; when it has moved, its workers are told anew. Those that someone else has bound to
    processors stay there.

    So do all where another library runs on the same OpenMP, as PyTorch does once it is imported: the caller's workers
    are that library's too. Those told before it came are let go at the caller's next large call. There the time above
    is lost; to let the workers go after each call would take some time for each of them (M46).
    """
    if not _IS_POSSIBLE:
        return
    if openmp.is_shared():
        _let_go()
        return
    place = _C.sched_getcpu(), count
    if place == _caller.place:
        return
    allowed = os.sched_getaffinity(0)
    if not 1 < count <= len(allowed):
        return
    _caller.place = place
    elsewhere = allowed - {place[0]}
    try:
        for worker in threads_that_run(count) - {threading.get_native_id()}:
            now = os.sched_getaffinity(worker)
            if now in (allowed, _caller.told.get(worker)):
                os.sched_setaffinity(worker, elsewhere)
                _caller.had.setdefault(worker, now)
                _caller.told[worker] = elsewhere
    except OSError:  # not allowed in this sandbox
        return


def threads_that_run(count: int) -> set[int]:
    """Give the system's numbers of the OpenMP threads that do a loop of so many parts, the caller's among them."""
    ids = np.empty(count, np.int64)
    kernels.operations.HELPERS.thread_ids.parallel(ids)
    return set(ids.tolist())


def _let_go() -> None:
    """Let the caller's workers run where they could before they were told."""
    while _caller.told:
        worker, told = _caller.told.popitem()
        had = _caller.had.pop(worker)
        with suppress(OSError):  # it has ended
            if os.sched_getaffinity(worker) == told:
                os.sched_setaffinity(worker, had)
