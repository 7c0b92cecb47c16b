"""The same number of threads for everyone."""

import os
from contextlib import AbstractContextManager, nullcontext

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
_limit: int | None = None


def available() -> int:
    """Count the processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count() -> int:
    """Give the number of threads that everyone has."""
    return _limit or available()


def limit(count: int) -> None:
    """Give every library `count` threads; to be called before any of them is imported.

    JAX has no setting of its own: its pool is as large as the set of processors that the process may use.
    """
    global _limit
    _limit = count
    os.environ.update(dict.fromkeys(_VARIABLES, str(count)))
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])


def hold() -> AbstractContextManager:
    """Hold the pools that are loaded by now (BLAS, OpenMP) to that number, where threadpoolctl is installed."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return nullcontext()
    return threadpool_limits(count())
