"""The OpenMP that Numba's pool runs on, and what it shares with other libraries there: threads, and their number."""

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple


class _OpenMP(NamedTuple):
    address: int
    max_threads: Callable[[], int]
    set_num_threads: Callable[[int], None]
    in_parallel: int  # where that function is


def _found_by(library: str | None) -> _OpenMP | None:
    """Return the OpenMP that a library finds among those it needs, if it is loaded; None is what all libraries find."""
    try:
        scope = ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
        max_threads, set_num_threads = scope.omp_get_max_threads, scope.omp_set_num_threads
        in_parallel = scope.omp_in_parallel
    except (OSError, AttributeError):  # AttributeError on Windows too, which has no such mode
        return None
    return _OpenMP(_address_of(max_threads), max_threads, set_num_threads, _address_of(in_parallel))


def _address_of(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _pool_file() -> str | None:
    pool = find_spec("numba.np.ufunc.omppool")
    return pool.origin if pool else None


# Number of threads -----------------------------------------------------------------------------------------------


def _of_pool() -> _OpenMP | None:
    """Look where the loader does for the pool: what all libraries find, what the pool needs, or what it would share."""
    return next(filter(None, map(_found_by, (None, _pool_file(), "libgomp.so.1"))), None)


def in_parallel() -> int | None:
    """Give the address of the pool's `omp_in_parallel`."""
    openmp = _of_pool()
    return openmp.in_parallel if openmp else None


@contextmanager
def count_kept() -> Iterator[None]:
    """Keep the number of threads that OpenMP has for the caller: Numba sets it to its own when it launches.

    It need not, as it asks for so many threads at each loop; PyTorch takes the number for its own. OpenMP has one for
    each thread. Where Numba is the first to load it, libraries that come later are to find what a new thread has.
    """
    before = _of_pool()
    count = before.max_threads() if before else 0
    try:
        yield
    finally:
        now = _of_pool()
        if now and not (before and before.address == now.address):
            count = _count_of_new_thread(now)
        if now and now.max_threads() != count:
            now.set_num_threads(count)


def _count_of_new_thread(openmp: _OpenMP) -> int:
    counts: list[int] = []
    thread = threading.Thread(target=lambda: counts.append(openmp.max_threads()), name="fastsoftmax counts")
    try:
        thread.start()
    except RuntimeError:  # at exit, or where there is no room for a thread
        return openmp.max_threads()
    thread.join()
    return counts[0]


# Threads ---------------------------------------------------------------------------------------------------------

_is_shared = False
_modules_then = 0


def is_shared() -> bool:
    """Whether another library that is loaded runs on the pool's OpenMP; asked anew when modules have been imported."""
    global _is_shared, _modules_then
    modules_now = len(sys.modules)
    if not _is_shared and modules_now != _modules_then:
        _is_shared = _is_needed_by_others()
        _modules_then = modules_now
    return _is_shared


def _is_needed_by_others() -> bool:
    file = _pool_file()
    pool = _found_by(file)
    # Numba shows its own to nobody: what all libraries find is another's.
    if file is None or pool is None or _found_by(None):
        return True
    try:
        mapped = os.fsdecode(Path("/proc/self/maps").read_bytes()).split("\n")
    except OSError:
        return True
    others = set()
    for span, mode, *_, path in (line.split(maxsplit=5) for line in mapped if "/" in line):
        start, end = (int(edge, 16) for edge in span.split("-"))
        if "x" in mode and not start <= pool.address < end:
            others.add(path)
    found = map(_found_by, others - {os.path.realpath(file)})
    return any(openmp and openmp.address == pool.address for openmp in found)
