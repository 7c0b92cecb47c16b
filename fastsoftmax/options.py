"""Options of a loss: what may come in, every message about it, and what kernels take of it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastsoftmax import arrays, kernels, threads
from fastsoftmax.arrays import contiguous
from fastsoftmax.conversions import Array, floats
from fastsoftmax.reference import RowStats
from fastsoftmax.targets import Targets, probs_in

if TYPE_CHECKING:
    from fastsoftmax.kernels.compiling.jit import Bound, Kernel

# What each option is to a kernel. Class probabilities in place of labels count as one: kernels know it by its fields.
FIELDS = {
    "class_weight": ("class_weight",),
    "sample_weight": ("sample_weight",),
    "label_smoothing": ("label_smoothing", "mean_weight"),
    "label_probs": ("label_probs",),
    "z_loss": ("z_loss",),
    "softcap": ("softcap",),
    "scale": ("scale",),
    "where": ("where",),
    "return_stats": ("lse", "predictions", "entropy"),
}

_ORDER = tuple(dict.fromkeys(field for fields in FIELDS.values() for field in fields))  # in which kernels take them
_OF_ROWS = ("sample_weight", "label_probs", "lse", "predictions", "entropy")  # what each row has its own of
_READ = ("class_weight", "sample_weight", "label_probs", "where")
WEIGHTS = ("class_weight", "sample_weight")  # which rows weigh by in a mean


# The default of options that are numbers: a plain call is told by it at no cost.
OFF = 0.0


def fields_of(names: Collection[str]) -> tuple[str, ...]:
    """Give what a kernel takes for options, by their names: that is what `Kernel.variant` goes by."""
    fields = {field for name in names for field in FIELDS[name]}
    return tuple(field for field in _ORDER if field in fields)


class Asked(NamedTuple):
    """The options of a loss as a user gave them."""

    class_weight: object
    sample_weight: object
    label_smoothing: object
    z_loss: object
    softcap: object
    scale: object
    where: object
    return_stats: object

    def has_any(self) -> bool:
        """Whether any of them is not at its default, told by identity: another zero is checked like any number."""
        return any(value is not default for value, default in zip(self, _DEFAULTS, strict=True))


_DEFAULTS = Asked(None, None, OFF, OFF, None, None, None, False)


class Options(NamedTuple):
    """Options that were checked, those that are on: see `kernels.rows.options.LossOptions`."""

    values: dict[str, Any]
    divisor: float  # of the mean: how many rows count, or the sum of their labels' weights

    @property
    def arrays(self) -> tuple[Array, ...]:
        """Arrays that kernels read: no result may be written to them."""
        read = [self.values[name] for name in _READ if name in self.values]
        return tuple(array.reshape(-1) for array in read)  # which are not the elements of any result

    @property
    def scale(self) -> float:
        """The scale of the logits, a factor of their gradient."""
        return float(self.values.get("scale", 1.0))

    def bound(self, kernel: Kernel, rows: slice = slice(None)) -> Bound:
        """Give a kernel that takes these options, with their values for some of the rows."""
        values = {name: value[rows] if name in _OF_ROWS else value for name, value in self.values.items()}
        return kernel.bound(values)

    def stats(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> tuple[RowStats, ...]:
        """Give the rows' statistics, if they were asked for."""
        if "lse" not in self.values:
            return ()
        with np.errstate(all="ignore"):  # what is too large is infinite
            lse, entropy = (self.values[name].astype(dtype, copy=False) for name in ("lse", "entropy"))
        return (RowStats(*(each.reshape(shape)[()] for each in (lse, self.values["predictions"], entropy))),)


def transform(dtype: np.dtype[Any], softcap: object, scale: object) -> dict[str, Any]:
    """Check what the logits go through, in their dtype; a scale of 1 is none."""
    values = {}
    if softcap is not None:
        values["softcap"] = _factor("softcap", softcap, dtype)
    if scale is not None and (factor := _factor("scale", scale, dtype)) != 1:
        values["scale"] = factor
    if softcap is not None and not 1e-290 <= (quotient := values.get("scale", 1.0) / values["softcap"]) <= 1e290:
        raise ValueError(f"scale: expected one whose quotient with the softcap float64 can hold, got {quotient}")
    return values


def checked(asked: Asked, dtype: np.dtype[Any], shape: tuple[int, ...], axis: int, targets: Targets) -> Options | None:
    """Check the options of a loss, for logits of a shape with an axis of classes; give None if all are off."""
    rows, n_classes = arrays.row_shape(shape, axis), shape[axis]
    values = transform(dtype, asked.softcap, asked.scale)
    if asked.where is not None:
        values["where"] = arrays.mask(asked.where, shape, (axis,))
    if asked.class_weight is not None:
        what = "a weight for each class"
        values["class_weight"] = _weights("class_weight", asked.class_weight, (n_classes,), what, dtype)
    if asked.sample_weight is not None:
        weights = _weights("sample_weight", asked.sample_weight, rows, "a weight for each row", np.dtype(np.float64))
        values["sample_weight"] = weights.reshape(-1)
    if targets.probs is not None:
        values["label_probs"] = probs_in(dtype, targets.probs, rows, axis)
    smoothing = number("label_smoothing", asked.label_smoothing, 1.0, "from 0 to 1")
    if smoothing:
        w = values.get("class_weight")
        mean_weight = 1.0 if w is None else kernels.operations.HELPERS.total_class_weight.serial(w) / n_classes
        values |= {"label_smoothing": smoothing, "mean_weight": mean_weight}
    factor = number("z_loss", asked.z_loss, math.inf, "from 0 up")
    if factor:
        values["z_loss"] = factor
    if _flag("return_stats", asked.return_stats):
        n_rows = math.prod(rows)
        values |= {"lse": np.empty(n_rows), "predictions": np.empty(n_rows, np.int64), "entropy": np.empty(n_rows)}
    if not values:
        return None
    return Options({name: values[name] for name in _ORDER if name in values}, _divisor(targets, values))


def _divisor(targets: Targets, values: dict[str, Any]) -> float:
    """Give what a mean divides by, the sum of what rows weigh; with class probabilities their class weights do not."""
    given = {name: values[name] for name in WEIGHTS if name in values}
    if targets.probs is not None:
        given.pop("class_weight", None)
    if not given:
        return float(targets.counted)
    weights = given.get("sample_weight")
    if targets.probs is None:
        weights = np.empty(targets.labels.size)
        kernel = kernels.operations.HELPERS.row_weights.bound(given)
        threads.run(kernel, weights.size, targets.labels, targets.ignored, weights)
    return float(kernels.operations.HELPERS.total_loss.serial(weights))


def number(name: str, value: object, most: float, expected: str) -> float:
    """Take a finite number from 0 up to another."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: expected a number {expected}, got {type(value).__name__}")
    if not (0 <= value <= most and value < math.inf):
        raise ValueError(f"{name}: expected a number {expected}, got {value}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}: expected a number {expected} that a float64 can hold, got {value}") from None


def _factor(name: str, value: object, dtype: np.dtype[Any]) -> float:
    """Take a finite number above 0 as one of a dtype."""
    given = number(name, value, math.inf, "above 0")
    with np.errstate(all="ignore"):
        rounded = float(dtype.type(given))
    if not 0 < rounded < math.inf:
        raise ValueError(f"{name}: expected a number above 0 that {dtype} can hold, got {value}")
    return rounded


def _flag(name: str, value: object) -> bool:
    """Take a truth value."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {type(value).__name__}")
    return bool(value)


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
