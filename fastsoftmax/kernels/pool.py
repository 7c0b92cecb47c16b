"""The threads of Numba's pool that work for the caller."""

from numba import prange, types

from .jit import parallel

_gettid = types.ExternalFunction("gettid", types.intc())


@parallel
def thread_ids(ids):
    """Write the system's number of the thread that does each part of a loop; with OpenMP each thread does one."""
    for part in prange(ids.size):
        ids[part] = _gettid()
