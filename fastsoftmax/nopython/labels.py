"""Class labels and class probabilities, as kernels take them."""

import numpy as np
from numba import types
from numba.np.numpy_support import as_dtype

from .calls import run
from .memory import room
from .problems import (
    IGNORE_INDEX,
    LABEL,
    LABELS_SHAPE,
    PROB,
    PROBS_SHAPE,
    fine,
    problem,
)
from .rows import line_of, rows_of
from .typing import by_type, compute_dtype, is_integer, jitable, refuse

_PROBS_SPAN = 2**16


def are_probs(labels):
    """Whether there are class probabilities in place of labels."""
    return isinstance(labels, types.Array) and isinstance(labels.dtype, types.Float)


def check_labels(logits, labels):
    """Require labels of a type that goes with logits."""
    if are_probs(labels):
        if labels.dtype not in (types.float32, types.float64) or labels.ndim != logits.ndim:
            refuse("labels", f"probabilities of float32 or float64 in {logits.ndim} dimensions", labels)
    elif logits.ndim == 1:
        if not is_integer(labels) and not (isinstance(labels, types.Array) and labels.ndim == 0):
            refuse("labels", "an integer, for logits of one row", labels)
    elif not (isinstance(labels, types.Array) and isinstance(labels.dtype, types.Integer) and labels.ndim == 1):
        refuse("labels", "an array of integers, one per row, or probabilities of the shape of logits", labels)


@by_type
def take_labels(labels, ignore_index):
    """View or copy labels as a line of int64; none beside class probabilities."""
    if are_probs(labels):
        return lambda labels, ignore_index: room((0,), np.int64)
    if not isinstance(labels, types.Array):

        def of_one(labels, ignore_index):
            line = room((1,), np.int64)
            line[0] = int64_of(labels, ignore_index)
            return line

        return of_one
    if labels.dtype == types.int64:
        return lambda labels, ignore_index: line_of(labels)

    def convert(labels, ignore_index):
        line = room((labels.size,), np.int64)
        for i in range(labels.size):
            line[i] = int64_of(labels[i], ignore_index)
        return line

    return convert


@by_type
def int64_of(label, ignore_index):
    """Convert a label; what does not fit is no class, and must not become one, nor the index to ignore."""
    if label != types.uint64:
        return lambda label, ignore_index: np.int64(label)

    def convert(label, ignore_index):
        if label >= np.uint64(2**63):
            return np.int64(-1 if ignore_index != -1 else -2)
        return np.int64(label)

    return convert


@jitable
def count_labels(labels, n_rows, n_classes, ignore_index):
    """Count the labels that are not ignored, and find what is wrong with them."""
    if labels.size != n_rows:
        return 0, problem(LABELS_SHAPE, 0.0, n_rows, labels.size, 0)
    counted = run("helpers", "count_labels", None, 0, (), (labels, n_classes, ignore_index))
    if counted < 0:
        row = -1 - counted
        return 0, problem(LABEL, ignore_index, n_classes - 1, labels[row], row)
    return counted, fine()


@by_type
def take_probs(labels, axis, rows, ignore_index):
    """Give rows of class probabilities in the dtype that logits are computed in, None beside labels; the problem."""
    if not are_probs(labels):
        return lambda labels, axis, rows, ignore_index: (None, fine())
    dtype = compute_dtype(rows)
    is_computed = as_dtype(labels.dtype) == dtype

    def take(labels, axis, rows, ignore_index):
        given = rows_of(labels, axis)
        probs = given if is_computed else _converted(given, dtype)
        if given.shape != rows.shape:
            return probs, problem(PROBS_SHAPE, 0.0, given.shape[0], given.shape[1], 0)
        if ignore_index != -100:
            return probs, problem(IGNORE_INDEX, 0.0, ignore_index, 0, 0)
        wrong = _first_wrong(probs, rows)
        if wrong >= 0:
            row, j = wrong // probs.shape[1], wrong % probs.shape[1]
            return probs, problem(PROB, given[row, j], row, j, 0)
        return probs, fine()

    return take


@jitable
def _converted(given, dtype):
    """Convert probabilities: what is too small is 0, but nothing below 0 is."""
    probs = room(given.shape, dtype)
    for i in range(given.shape[0]):
        for j in range(given.shape[1]):
            probs[i, j] = -1.0 if given[i, j] < 0 else given[i, j]
    return probs


@jitable
def _first_wrong(probs, rows):
    """Find the first element that is no finite number from 0 up; −1 if there is none."""
    spans = room((max(1, probs.size // _PROBS_SPAN),), np.int64)
    run("helpers", "check_probs", rows, probs.size, (), (probs, spans))
    for wrong in spans:
        if wrong >= 0:
            return wrong
    return -1
