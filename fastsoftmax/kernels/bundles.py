"""Bundles of rows: as many as a vector has lanes, their labels and their losses, in and out.

A bundle is transposed, so that each of its rows has a lane: the vectors of `lanes` hold a class each.
"""

import numpy as np

from .jit import inline
from .lanes import lanes_of, splat, where_equal, wide
from .memory import load_integers, store_first, transpose, unaligned
from .sums import join, matching_lane

CHUNK = 512  # rows that a thread takes at a time

# Labels of rows that have none, and of rows to leave out.
NO_LABEL = -2.0
IGNORED = -1.0


@inline
def empty_lanes(like, n_classes):
    """Make room for a bundle of rows: whole tiles of classes, each vector within a cache line (a tenth faster)."""
    width = lanes_of(like)
    size = -(-n_classes // width) * width * width
    room = np.empty(size + width, like.dtype)
    start = unaligned(room, 0)
    return room[start : start + size]


@inline
def to_lanes(rows, first, n_rows, n_classes, lanes):
    """Transpose rows into lanes; lanes without a row hold zeros."""
    width = lanes_of(lanes)
    for j in range(0, n_classes, width):
        start, left = first * n_classes + j, n_classes - j
        transpose(rows, start, n_classes, n_rows, left, lanes, j * width, width, width, width)


@inline
def from_lanes(lanes, n_rows, n_classes, rows, first):
    """Transpose lanes back into rows."""
    width = lanes_of(lanes)
    for j in range(0, n_classes, width):
        start, left = first * n_classes + j, n_classes - j
        transpose(lanes, j * width, width, width, width, rows, start, n_classes, n_rows, left)


@inline
def load_labels(labels, row, n_rows, ignore_index):
    """Load the labels of a bundle as float64 halves, IGNORED for those to ignore; eight lanes need the first."""
    low, high = load_integers(labels, row, n_rows), load_integers(labels, row + 8, n_rows - 8)
    ignored = wide(ignore_index)
    return where_equal(low, ignored, wide(IGNORED), low), where_equal(high, ignored, wide(IGNORED), high)


@inline
def any_ignored(lanes, label_halves):
    """Whether a bundle has rows to ignore, or may have: lanes without a row hold label 0."""
    return matching_lane(join(splat(lanes, 0.0), *label_halves), splat(lanes, IGNORED)) < lanes_of(lanes)


@inline
def store_losses(losses, row, n_rows, lanes, values):
    """Store the float64 halves of a bundle's losses."""
    store_first(losses, row, n_rows, values[0])
    if lanes_of(lanes) == 16:
        store_first(losses, row + 8, n_rows - 8, values[1])
