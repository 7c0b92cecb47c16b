"""Compiled code: takes checked arrays, writes into buffers it is given.

An index, from the top down; imports run from the bottom up.

operations
    The registry: every operation with its kernels by regime.
softmax, softmax_backward, cross_entropy, linear, linear_cross_entropy, bias_grad, labels
    Functions over whole arrays.
pool, probes
    Numba's threads for all kernels; what the machine can do.
drivers, regimes
    The loops over rows, one for each regime, and which regime it is.
rows
    One row's mathematics: `rows.loss` has the loss and its options.
gemm
    Products of matrices.
vecmath
    exp, log1p, quotients, double-double.
simd
    The vector language.
tuning
    Every threshold and tile size.
compiling
    From a function to machine code, and to the cache.

`docs/architecture.md` says which equation stands where, and what must stay true. "(M12)" in a comment, here or in the
package around this one, is an entry of `docs/measurements.md`.
"""

import importlib
from typing import TYPE_CHECKING

from numba.core.compiler_lock import global_compiler_lock

from .compiling import start  # noqa: F401, when this is imported

if TYPE_CHECKING:
    from . import operations, rows, tuning

__all__ = ["operations", "rows", "tuning"]


def __getattr__(name):
    """Import the registry, and all kernels with it, when a call needs the first of them (M63).

    A child that is forked meanwhile would wait for Python's locks of these imports for ever. A fork waits for Numba's.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with global_compiler_lock:
        importlib.import_module(f"{__name__}.operations")
        # All three are attributes now. Python finds those of a module without this function in 40 % of the time: a
        # small call looks up some (M67).
        globals().pop("__getattr__", None)
        return importlib.import_module(f"{__name__}.{name}")
