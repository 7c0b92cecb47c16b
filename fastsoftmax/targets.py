"""What rows are to be: class labels, or class probabilities in place of them."""

from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import kernels, threads
from fastsoftmax.arrays import contiguous, integer, rows_of
from fastsoftmax.conversions import Array, array_of, compute_dtype, floats, is_half

_INT64 = np.dtype(np.int64)
_NO_LABELS = np.empty(0, np.int64)
_PROBS_SPAN = 2**16  # elements of class probabilities that a task checks


class Targets(NamedTuple):
    """What `take_targets` gives, by name."""

    labels: Array  # flat class indices; none of them beside probabilities
    ignored: int  # the index to ignore
    counted: int  # how many rows are not to be ignored
    probs: Array | None  # rows of probabilities, of any dtype: see `probs_in`


def take_targets(
    labels: object, ignore_index: object, rows: tuple[int, ...], shape: tuple[int, ...], axis: int
) -> tuple[Array, int, int, Array | None]:
    """Take class indices, one per row, or probabilities, for logits of a shape.

    Gives what `Targets` names, as a plain tuple and in one function: a small call would notice more.
    """
    array = labels if type(labels) is np.ndarray else array_of("labels", labels)
    if array.dtype.kind not in "iu":
        if array.size or array.shape == shape or not isinstance(labels, (list, tuple)):
            return _probabilities(labels, array, ignore_index, rows, shape, axis)
        array = array.astype(np.int64)  # NumPy takes an empty list for floats
    if array.shape != rows:
        raise ValueError(f"labels: expected shape {rows}, got {array.shape}")
    ignored = integer("ignore_index", ignore_index)
    if not -(2**63) <= ignored < 2**63:
        raise ValueError(f"ignore_index: expected a 64-bit integer, got {ignored}")
    flat = contiguous(array if array.dtype == _INT64 else _int64(array, ignored))
    if flat.ndim != 1:
        flat = flat.reshape(-1)
    counted = kernels.operations.HELPERS.count_labels.serial(flat, shape[axis], ignored)
    if counted < 0:
        wrong = -1 - counted
        place = ", ".join(str(i) for i in np.unravel_index(wrong, rows)) if rows else "0"
        raise ValueError(
            f"labels: expected classes 0 to {shape[axis] - 1} or ignore_index {ignored}, "
            f"got {array.reshape(-1)[wrong]} in row {place}"
        )
    return flat, ignored, counted, None


def _probabilities(
    labels: object, array: Array, ignore_index: object, rows: tuple[int, ...], shape: tuple[int, ...], axis: int
) -> tuple[Array, int, int, Array]:
    """Take class probabilities."""
    if not (array.dtype.kind == "f" or is_half(array.dtype)) or array.shape == rows:
        raise TypeError(f"labels: expected integers, one per row, or probabilities of shape {shape}, got {array.dtype}")
    probs = floats("labels", labels)
    if probs.shape != shape:
        expected = f"integers of shape {rows}, or probabilities of shape {shape}"
        raise ValueError(f"labels: expected {expected}, got {probs.dtype} of shape {probs.shape}")
    ignored = integer("ignore_index", ignore_index)
    if ignored != -100:
        raise ValueError(f"ignore_index: expected the default, -100, with class probabilities, got {ignored}")
    probs = rows_of(probs.astype(compute_dtype(probs.dtype), copy=False), axis)
    return _NO_LABELS, ignored, len(probs), probs


def _int64(labels: Array, ignored: int) -> Array:
    converted = labels.astype(np.int64)
    if labels.dtype.kind == "u" and labels.dtype.itemsize == 8:
        # What does not fit is no class, and must not become one, nor the index to ignore.
        converted[labels >= 2**63] = -1 if ignored != -1 else -2
    return converted


def probs_in(dtype: np.dtype[Any], given: Array, shape: tuple[int, ...], axis: int) -> Array:
    """Take rows of class probabilities in a dtype, all of them finite numbers from 0 up."""
    probs = given
    if given.dtype != dtype:
        with np.errstate(all="ignore"):  # what is too large is infinite
            probs = given.astype(dtype)
        probs[given < 0] = -1  # what is too small is 0
    spans = np.empty(max(1, probs.size // _PROBS_SPAN), np.int64)
    threads.run(kernels.operations.HELPERS.check_probs, probs.size, probs, spans)
    if spans.max() >= 0:
        wrong = int(spans[spans >= 0][0])
        at = [int(i) for i in np.unravel_index(wrong // probs.shape[1], shape)]
        at.insert(axis, wrong % probs.shape[1])
        place = ", ".join(map(str, at))
        raise ValueError(f"labels: expected finite probabilities from 0 up, got {given.flat[wrong]} at {place}")
    return probs
