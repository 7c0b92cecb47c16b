"""Calls of the library's losses with the memory of tensors, and what PyTorch has it otherwise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import fastsoftmax
from fastsoftmax import conversions, reference, threads
from fastsoftmax.conversions import Array
from fastsoftmax.torch.tensors import array_of, classes_last


class Options(NamedTuple):
    """What a loss takes beside tensors; `OPTIONS` is the same in an operator's schema."""

    reduction: str
    ignore_index: int
    label_smoothing: float
    dtype: torch.dtype  # of the loss


OPTIONS = "str reduction, SymInt ignore_index, float label_smoothing, ScalarType dtype"


def call(name: str, target: Tensor, weight: Tensor | None, options: Options, /, **arguments: Any) -> Any:
    """Call one of the library's losses, with no more threads than PyTorch has.

    What kernels refuse and PyTorch does not, weights or probabilities below 0 or not finite, goes by the reference.
    """
    has_labels = not target.is_floating_point()
    labels = array_of(target)
    given: dict[str, Any] = {"labels": labels if has_labels else classes_last(labels), "reduction": options.reduction}
    if has_labels:
        given["ignore_index"] = options.ignore_index
    if options.label_smoothing:  # a 0.0 that is not the library's own is checked, which takes time
        given["label_smoothing"] = options.label_smoothing
    if weight is not None:
        given["class_weight"] = array_of(weight)
    with threads.at_most(torch.get_num_threads()):
        try:
            return getattr(fastsoftmax, name)(**arguments, **given)
        except ValueError as error:
            if has_labels and str(error).startswith("labels"):
                raise IndexError(str(error).replace("labels", "target", 1)) from None
            return _by_reference(name, **arguments, **given)


def _by_reference(name: str, out: Array | None = None, **given: Any) -> Any:
    """Compute in float32 or float64, whatever memory it takes, and round what `out` receives."""
    given = {key: value for key, value in given.items() if key not in ("workspace", "inputs_grad")}
    for key, value in given.items():
        if isinstance(value, np.ndarray) and value.dtype.kind != "i":
            given[key] = value.astype(conversions.compute_dtype(value.dtype))
    result = getattr(reference, name)(**given)
    if out is not None:
        with np.errstate(all="ignore"):
            out[...] = result[-1] if isinstance(result, tuple) else result
    return result
