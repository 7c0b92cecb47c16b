"""The OpenMP that Numba's pool runs on, and the number of threads that it shares with other libraries there."""

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import NamedTuple


class _OpenMP(NamedTuple):
    address: int
    max_threads: Callable[[], int]
    set_num_threads: Callable[[int], None]


def _found_by(library: str | None) -> _OpenMP | None:
    """Return the OpenMP that a library finds among those it needs, if it is loaded; None is what all libraries find."""
    try:
        scope = ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
        max_threads, set_num_threads = scope.omp_get_max_threads, scope.omp_set_num_threads
    except (OSError, AttributeError):  # AttributeError on Windows too, which has no such mode
        return None
    return _OpenMP(ctypes.cast(max_threads, ctypes.c_void_p).value or 0, max_threads, set_num_threads)


def _pool_file() -> str | None:
    pool = find_spec("numba.np.ufunc.omppool")
    return pool.origin if pool else None


def _of_pool() -> _OpenMP | None:
    """Look where the loader does for the pool: what all libraries find, what the pool needs, or what it would share."""
    return next(filter(None, map(_found_by, (None, _pool_file(), "libgomp.so.1"))), None)


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
