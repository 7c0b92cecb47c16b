"""Bundles of rows: as many as a vector has lanes, their labels and their losses, in and out.

A bundle is transposed, so that each of its rows has a lane: the vectors of `simd.vector` hold a class each.
"""

from typing import Any, NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.values import Pointer, scopes
from ..compiling.views import Array
from ..simd.convert import demote
from ..simd.memory import load, load_integers, prefetch, store
from ..simd.reduce import matching_lane
from ..simd.transpose import side_of, transpose_block, transpose_part
from ..simd.vector import lanes_of, splat, vector_type, where_equal
from ..tuning import BUNDLE_LEAD, FEW_CLASSES, HEAD_FEW_CLASSES

_MOST_CLASSES = max(*FEW_CLASSES.values(), HEAD_FEW_CLASSES)
# Room beside a bundle: what the compiler keeps behind it must not agree with the first classes in the last 12 bits of
# its address, or loads wait for stores (M18).
_APART = 32

# Labels of rows that have none, and of rows to leave out.
NO_LABEL = -2.0
IGNORED = -1.0


class ClassVectors(NamedTuple):
    """Vectors of a bundle in an array, one for each class: where the first is, and how far it is to the next."""

    array: Any
    at: Number
    step: Number


def bundle_of(first, i):
    """Give the vectors of a bundle that is i rows behind the first; of None there are none."""
    return None if first is None else first._replace(at=first.at + i)


class Bundle(NamedTuple):
    """Some rows of few classes, as many as a vector has lanes or what is left."""

    row: Number  # the index of the first
    n_rows: Number
    n_classes: Number
    logits: Any  # the flat array that they come from
    at: Number  # the index of the first in it
    results: ClassVectors | None = None  # where its results go, if not to the lanes
    later: ClassVectors | None = None  # logits of another bundle, which are asked for meanwhile
    by_vectors: bool = False  # whether sums have the order of rows one by one: see `few.lanes_exp_sum`
    room: Array | None = None  # for e_j of many classes, where the lanes have to keep their logits


def empty_lanes(like):
    """Make room on the stack for a vector of each of few classes, within a cache line each (a tenth faster: M17).

    Memory of its own could be missing.
    """
    vector = vector_type(like.dtype)
    room = scopes[-1].place(vector, _MOST_CLASSES + _APART, align=64)
    return Array(like.dtype, Pointer(room), (_MOST_CLASSES * vector.count,))


def ask_for_class(vectors, j):
    """Ask for one class of a bundle ahead."""
    prefetch(vectors.array, vectors.at + j * vectors.step)


def store_class(vectors, j, value):
    """Store one class of a bundle."""
    store(vectors.array, vectors.at + j * vectors.step, value)


def results_of_bundle(lanes, bundle):
    """Give where the results of a bundle go."""
    return ClassVectors(lanes, 0, lanes_of(lanes)) if bundle.results is None else bundle.results


@staged
def write_lanes(lanes, bundle, out):
    """Transpose lanes to where a result has the bundle, unless its results have gone elsewhere."""
    if bundle.results is None:
        from_lanes(lanes, bundle.n_rows, bundle.n_classes, out, bundle.at)


@staged
def to_lanes(rows, first, n_rows, n_classes, lanes):
    """Transpose rows into lanes; lanes without a row hold zeros."""
    width, side = lanes_of(lanes), side_of(lanes)
    start = first * n_classes
    if n_rows == width and n_classes >= side:
        for j in range(0, n_classes, side):
            column = min(j, n_classes - side)  # the last block is whole, too
            for i in range(0, width, side):
                at = start + i * n_classes + column
                transpose_block(rows, at, n_classes, lanes, column * width + i, width)
            _prefetch_later(rows, first, n_classes, j, side)
    else:
        for j in range(0, n_classes, width):
            left = n_classes - j
            transpose_part(rows, start + j, n_classes, n_rows, left, lanes, j * width, width, width, width)
            _prefetch_later(rows, first, n_classes, j, width)


@staged
def from_lanes(lanes, n_rows, n_classes, rows, first):
    """Transpose lanes back into rows."""
    width, side = lanes_of(lanes), side_of(lanes)
    start = first * n_classes
    if n_rows == width and n_classes >= side:
        for j in range(0, n_classes, side):
            column = min(j, n_classes - side)
            for i in range(0, width, side):
                at = start + i * n_classes + column
                transpose_block(lanes, column * width + i, width, rows, at, n_classes)
            _prefetch_later(rows, first, n_classes, j, side)
    else:
        for j in range(0, n_classes, width):
            left = n_classes - j
            transpose_part(lanes, j * width, width, width, width, rows, start + j, n_classes, n_rows, left)
            _prefetch_later(rows, first, n_classes, j, width)


@staged
def _prefetch_later(rows, first, n_classes, column, n_columns):
    """Ask for some columns' share of a later bundle's lines, whose rows no prefetcher foresees, to be read or written.

    Without, 65,536 × 100 cross entropy with its gradient took twice as long (M19).
    """
    width = lanes_of(rows)  # as many as there are elements in a line
    for line in range(column, column + n_columns):
        prefetch(rows, first * n_classes + max(width * n_classes, BUNDLE_LEAD) + line * width)


@staged
def load_labels(labels, row, n_rows, width, ignore_index):
    """Load the labels of a bundle as float64 lanes, IGNORED for those to ignore; lanes without a row hold 0."""
    found = load_integers(labels, row, width, width) if n_rows == width else load_integers(labels, row, n_rows, width)
    return where_equal(found, splat(found, ignore_index), splat(found, IGNORED), found)


@staged
def drop_ignored(results, n_classes, labels):
    """Set the lanes of rows to ignore to zero, if there are any."""
    places = demote(labels, load(results.array, results.at))
    ignored = splat(places, IGNORED)
    if matching_lane(places, ignored) < lanes_of(results.array):
        for j in range(n_classes):
            value = load(results.array, results.at + j * results.step)
            store_class(results, j, where_equal(places, ignored, splat(value, 0.0), value))
