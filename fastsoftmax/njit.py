"""The public functions inside the user's own `@njit` code.

They are registered with Numba when `fastsoftmax` is imported; what compiles them is imported by the first that is used.
There they take what they take from Python, with what follows from types that are known before values are: logits of
one or two dimensions, float32 or float64; options that decide the type of the result (`reduction`, `return_stats`,
`keepdims`, `inputs_grad`) are constants, and so is an `axis` that is not an integer.

A problem with an argument raises what it raises from Python. Numba loses exceptions inside a parallel region, such as
a `prange` loop: there the loss and the results are NaN instead.
"""

import importlib
from typing import Any

from numba.extending import overload

from fastsoftmax import activation_grads, activations, curvature, head, layer, losses

__all__ = ["overload_scipy"]

# By the modules of `nopython` that implement them.
_FUNCTIONS = {
    "activations": (
        activations.softmax,
        activations.log_softmax,
        activations.logsumexp,
        activation_grads.softmax_backward,
        activation_grads.log_softmax_backward,
        activation_grads.softmax_jacobian,
    ),
    "losses": (losses.cross_entropy, losses.cross_entropy_with_grad),
    "curvature": (curvature.cross_entropy_hvp,),
    "layer": (layer.linear, layer.weight_grad, layer.bias_grad, layer.input_grad, layer.linear_backward),
    "head": (head.linear_cross_entropy, head.linear_cross_entropy_with_grad),
}


def overload_scipy() -> None:
    """Have `softmax`, `log_softmax` and `logsumexp` of `scipy.special` compile in nopython code, by these kernels.

    As in SciPy `axis` is None if left out, and stands for all axes then; `logsumexp` takes neither weights `b` nor
    `return_sign`.

    Raises
    ------
    ImportError
        If SciPy is not installed.

    Examples
    --------
    >>> import fastsoftmax.njit
    >>> fastsoftmax.njit.overload_scipy()  # doctest: +SKIP
    """
    try:
        special = importlib.import_module("scipy.special")
    except ModuleNotFoundError as error:
        raise ImportError("overload_scipy: expected SciPy to be installed: pip install scipy") from error
    for name in ("softmax", "log_softmax", "logsumexp"):
        _register(getattr(special, name), "scipy")


def _register(function: Any, module: str) -> None:
    def implement(*args: Any, **kwargs: Any) -> Any:
        """Give the implementation of a function for the types of its arguments."""
        entries = importlib.import_module("fastsoftmax.nopython.entries")
        implementation = getattr(importlib.import_module(f"fastsoftmax.nopython.{module}"), function.__name__)
        return entries.entry(implementation, args, kwargs)

    # Not strict: what is imported only when it is asked for has the parameters that Numba would look for here.
    overload(function, strict=False, prefer_literal=True)(implement)


for _module, _functions in _FUNCTIONS.items():
    for _function in _functions:
        _register(_function, _module)
