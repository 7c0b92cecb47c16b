"""The public functions inside the user's own `@njit` code.

They are registered with Numba when `fastsoftmax` is imported; what compiles them is imported by the first that is used.
"""

import functools
import importlib
from typing import Any

from numba.extending import overload

import fastsoftmax

_MODULES = {
    "losses": ("cross_entropy", "cross_entropy_with_grad"),
    "head": ("linear_cross_entropy", "linear_cross_entropy_with_grad"),
    "layer": ("linear", "weight_grad", "bias_grad", "input_grad", "linear_backward"),
    "activations": ("softmax", "log_softmax", "logsumexp", "softmax_backward", "log_softmax_backward", "softmax_jacobian"),
}


def _register() -> None:
    for module, names in _MODULES.items():
        for name in names:
            implement = functools.partial(_implementation, module, name)
            overload(getattr(fastsoftmax, name), strict=False, prefer_literal=True)(implement)


def _implementation(module: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Give the implementation of a function for the types of its arguments."""
    entries = importlib.import_module("fastsoftmax.nopython.entries")
    implement = getattr(importlib.import_module(f"fastsoftmax.nopython.{module}"), name)
    return entries.entry(implement(*args, **kwargs))


_register()
