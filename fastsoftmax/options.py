"""Options of a loss: what may come in, every message about it, and what kernels take of it."""

import math
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.conversions import Array, floats
from fastsoftmax.kernels.compiling.jit import Kernel
from fastsoftmax.kernels.labels import total_weight


class Options(NamedTuple):
    """Options that were checked: their names in `kernels.rows.loss.LossOptions`, and their values in its order."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    divisor: float  # of the mean: how many rows count, or the sum of their labels' weights

    def kernel(self, plain: Kernel) -> Kernel:
        """Give the kernel that takes these options."""
        return plain.variant(self.names) if self.names else plain


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
    if class_weight is None and not smoothing:
        return Options((), (ignored,), counted)
    names: list[str] = []
    values: list[Any] = [ignored]
    divisor, mean_weight = float(counted), 1.0
    if class_weight is not None:
        weights = _class_weights(class_weight, n_classes, dtype)
        names.append("class_weight")
        values.append(weights)
        divisor = total_weight.serial(labels, ignored, weights)
        mean_weight = float(weights.sum(dtype=np.longdouble) / n_classes)
    if smoothing:
        names += ["label_smoothing", "mean_weight"]
        values += [smoothing, mean_weight]
    return Options(tuple(names), tuple(values), divisor)


def _fraction(name: str, value: object) -> float:
    """Take a number from 0 to 1."""
    if type(value) is float and value == 0:
        return 0.0
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


def mean(total: float, options: Options) -> float:
    """Divide a loss by what its mean is over; 0 / 0 is NaN."""
    if options.divisor:
        return total / options.divisor
    return math.inf if total > 0 else math.nan


def mean_factor(factor: float, options: Options, counted: int) -> float:
    """Divide the factor of a gradient likewise; 0 where no row counts, for then no row has a gradient."""
    if options.divisor:
        return factor / options.divisor
    return math.copysign(math.inf, factor) if counted and factor else 0.0
