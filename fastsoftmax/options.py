"""Options of a loss: what may come in, every message about it, and what kernels take of it."""

import math
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.conversions import Array, floats
from fastsoftmax.kernels.compiling.jit import Bound, Kernel
from fastsoftmax.kernels.labels import total_weight


class Options(NamedTuple):
    """Options that were checked, those that are on: see `kernels.rows.loss.LossOptions`."""

    values: dict[str, Any]
    divisor: float  # of the mean: how many rows count, or the sum of their labels' weights

    def bound(self, kernel: Kernel) -> Bound:
        """Give a kernel that takes these options, with their values."""
        return kernel.bound(self.values)


def checked(
    labels: Array,
    ignored: int,
    counted: int,
    n_classes: int,
    dtype: np.dtype[Any],
    class_weight: object,
    label_smoothing: object,
) -> Options:
    """Check the options of a loss of flat labels, of which `counted` are not to be ignored."""
    smoothing = _fraction("label_smoothing", label_smoothing)
    values: dict[str, Any] = {}
    divisor, mean_weight = float(counted), 1.0
    if class_weight is not None:
        weights = _class_weights(class_weight, n_classes, dtype)
        values["class_weight"] = weights
        divisor = total_weight.serial(labels, ignored, weights)
        mean_weight = float(weights.sum(dtype=np.longdouble) / n_classes)
    if smoothing:
        values |= {"label_smoothing": smoothing, "mean_weight": mean_weight}
    return Options(values, divisor)


def _fraction(name: str, value: object) -> float:
    """Take a number from 0 to 1."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number from 0 to 1, got {type(value).__name__}")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: expected a number from 0 to 1, got {value}")
    return float(value)


def _class_weights(value: object, n_classes: int, dtype: np.dtype[Any]) -> Array:
    """Take a weight for each class, in the dtype of the logits."""
    weights = floats("class_weight", value)
    if weights.shape != (n_classes,):
        raise ValueError(f"class_weight: expected shape ({n_classes},), a weight for each class, got {weights.shape}")
    with np.errstate(all="ignore"):
        weights = np.ascontiguousarray(weights, dtype)
    wrong = ~((weights >= 0) & (weights < math.inf))
    if wrong.any():
        at = int(wrong.argmax())
        raise ValueError(f"class_weight: expected finite weights from 0 up, got {weights[at]} for class {at}")
    return weights


def mean_of_nothing(total: float) -> float:
    """Give a mean over rows that weigh nothing: 0 / 0 is NaN."""
    return math.inf if total > 0 else math.nan


def mean_factor(factor: float, divisor: float, counted: int) -> float:
    """Divide the factor of a gradient likewise; 0 where no row counts, for then no row has a gradient."""
    if divisor:
        return factor / divisor
    return math.copysign(math.inf, factor) if counted and factor else 0.0
