"""How compiled code can tell whether its thread does a part of a parallel region of the pool that Numba has."""

import ctypes
import os
from importlib.util import find_spec
from typing import NamedTuple

from fastsoftmax import openmp

_INT32, _POINTER = 2**32 - 1, -1  # masks of what a probe gives


class Probe(NamedTuple):
    """A function without arguments: its result, as far as the mask goes, is not 0 within a region."""

    address: int
    mask: int


def probe_of(layer: str) -> Probe | None:
    """Find the function of a threading layer; None where it has none, and a caller is never its own worker."""
    address = {"omp": openmp.in_parallel, "tbb": _current_context}.get(layer, lambda: None)()
    return Probe(address, _INT32 if layer == "omp" else _POINTER) if address else None


def _current_context() -> int | None:
    """Give the address of TBB's `task::current_context`: a null pointer where the thread does no task.

    A caller of TBB does a share of its loop's tasks itself.
    """
    pool = find_spec("numba.np.ufunc.tbbpool")
    try:
        scope = ctypes.CDLL(pool.origin if pool else None, mode=os.RTLD_NOLOAD)
        function = scope["_ZN3tbb6detail2r115current_contextEv"]
    except (OSError, AttributeError):
        return None
    return ctypes.cast(function, ctypes.c_void_p).value
