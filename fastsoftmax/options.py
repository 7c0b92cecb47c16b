"""Options of a loss: what may come in, every message about it, and what kernels take of it."""

import math
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import threads
from fastsoftmax.arrays import contiguous
from fastsoftmax.conversions import Array, floats
from fastsoftmax.kernels.compiling.jit import Bound, Kernel
from fastsoftmax.kernels.operations import HELPERS

# The options of a loss, in the order in which kernels take them, and what each is to a kernel.
FIELDS = {
    "class_weight": ("class_weight",),
    "sample_weight": ("sample_weight",),
    "label_smoothing": ("label_smoothing", "mean_weight"),
    "z_loss": ("z_loss",),
}

WEIGHTS = ("class_weight", "sample_weight")  # which rows weigh by in a mean


# The default of options that are numbers: a plain call is told by it at no cost.
OFF = 0.0


def fields_of(names: Collection[str]) -> tuple[str, ...]:
    """Give what a kernel takes for options, by their names: that is what `Kernel.variant` goes by."""
    return tuple(field for name, fields in FIELDS.items() if name in names for field in fields)


class Options(NamedTuple):
    """Options that were checked, those that are on: see `kernels.rows.loss.LossOptions`."""

    values: dict[str, Any]
    divisor: float  # of the mean: how many rows count, or the sum of their labels' weights

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Arrays that kernels read: no result may be written to them."""
        return tuple(value for value in self.values.values() if isinstance(value, np.ndarray))

    def bound(self, kernel: Kernel, rows: slice = slice(None)) -> Bound:
        """Give a kernel that takes these options, with their values for some of the rows."""
        values = self.values
        if "sample_weight" in values:
            values = values | {"sample_weight": values["sample_weight"][rows]}
        return kernel.bound(values)


def checked(
    asked: tuple[object, object, object, object],
    logits: tuple[np.dtype[Any], int],
    labels: tuple[Array, tuple[int, ...], int, int],
) -> Options | None:
    """Check the options of a loss, in the order of `FIELDS`; give None if all are off.

    `logits` are their dtype and number of classes, `labels` the flat ones, the shape that they had, the index to
    ignore, and how many are not to be ignored.
    """
    class_weight, sample_weight, label_smoothing, z_loss = asked
    (dtype, n_classes), (flat_labels, shape, ignored, counted) = logits, labels
    values: dict[str, Any] = {}
    if class_weight is not None:
        values["class_weight"] = _weights("class_weight", class_weight, (n_classes,), "a weight for each class", dtype)
    if sample_weight is not None:
        weights = _weights("sample_weight", sample_weight, shape, "a weight for each row", np.dtype(np.float64))
        values["sample_weight"] = weights.reshape(-1)
    smoothing = _number("label_smoothing", label_smoothing, 1.0, "from 0 to 1")
    if smoothing:
        values["label_smoothing"] = smoothing
        w = values.get("class_weight")
        values["mean_weight"] = 1.0 if w is None else HELPERS.total_class_weight.serial(w) / n_classes
    factor = _number("z_loss", z_loss, math.inf, "from 0 up")
    if factor:
        values["z_loss"] = factor
    if not values:
        return None
    has_weights = class_weight is not None or sample_weight is not None
    return Options(values, _total_weight(flat_labels, ignored, values) if has_weights else float(counted))


def _total_weight(labels: Array, ignored: int, values: dict[str, Any]) -> float:
    """Add up what the rows weigh in a mean."""
    weights, given = np.empty(labels.size), {name: values[name] for name in WEIGHTS if name in values}
    threads.run(HELPERS.row_weights.bound(given), labels.size, labels, ignored, weights)
    return float(HELPERS.total_loss.serial(weights))


def _number(name: str, value: object, most: float, expected: str) -> float:
    """Take a finite number from 0 up to another."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number {expected}, got {type(value).__name__}")
    if not (0 <= value <= most and value < math.inf):
        raise ValueError(f"{name}: expected a number {expected}, got {value}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number {expected} that a float64 can hold, got {value}") from None


def _weights(name: str, value: object, shape: tuple[int, ...], what: str, dtype: np.dtype[Any]) -> Array:
    """Take weights of a shape, in a dtype."""
    weights = floats(name, value)
    if weights.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, {what}, got {weights.shape}")
    with np.errstate(all="ignore"):  # what is too large is infinite
        weights = contiguous(weights.astype(dtype, copy=False))
    if weights.size and not (weights.min() >= 0 and weights.max() < math.inf):  # a NaN is the least, too
        wrong = ~((weights >= 0) & (weights < math.inf))
        first = np.unravel_index(int(wrong.argmax()), shape)
        place = ", ".join(str(i) for i in first) or "0"
        raise ValueError(f"{name}: expected finite weights from 0 up, got {weights[first]} at {place}")
    return weights


def mean_of_nothing(total: float) -> float:
    """Give a mean over rows that weigh nothing: 0 / 0 is NaN."""
    return math.inf if total > 0 else math.nan


def mean_factor(factor: float, divisor: float, counted: int) -> float:
    """Divide the factor of a gradient likewise; 0 where no row counts, for then no row has a gradient."""
    if divisor:
        return factor / divisor
    return math.copysign(math.inf, factor) if counted and factor else 0.0
