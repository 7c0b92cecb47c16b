"""Classes that do not lie next to each other: what lies next to a logit is the one of the next row, as in images.

The logits of one class are a plane, or a run of one, `class_step` elements before those of the next class. Rows in
lanes need no transposing there: a vector of the first class, one of the second, and so on, are a bundle. Several
bundles are copied into a strip at a time: of one alone each class is a single line of the cache, far from the others,
and memory is slow to read and to write that.
"""

from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..simd.memory import load, load_first, prefetch, store, store_first, stream, unaligned
from ..simd.vector import lanes_of
from ..tuning import STRIP_BUNDLES, STRIP_SIZE


class Planes(NamedTuple):
    """How the elements of an array and of a result lie: numbers of elements."""

    n_rows: int
    n_classes: int
    n_inner: int  # rows that lie next to each other
    outer_step: int  # from such rows to the next ones
    class_step: int
    out_outer_step: int
    out_class_step: int
    streams: bool  # whether the result is written past the caches


class Neighbours(NamedTuple):
    """Some rows that lie next to each other: where their first class is, and how far it is to the next."""

    n_rows: Number
    at: Number
    step: Number
    out_at: Number
    out_step: Number
    streams: Number


@staged
def neighbours(planes, row, most):
    """Give a row and those that lie next to it, up to so many."""
    outer, inner = row // planes.n_inner, row % planes.n_inner
    return Neighbours(
        min(most, planes.n_inner - inner),
        outer * planes.outer_step + inner,
        planes.class_step,
        outer * planes.out_outer_step + inner,
        planes.out_class_step,
        planes.streams,
    )


@staged
def rows_before_a_line(out, rows):
    """Count the rows before those whose results begin a line of the cache; 0 if that makes no difference."""
    if rows.streams & (rows.out_step % lanes_of(out) == 0):
        return min(unaligned(out, rows.out_at), rows.n_rows)
    return 0


@staged
def rows_of_a_strip(like, n_classes):
    """Choose how many rows are copied at a time: whole bundles, as many as a second-level cache has room for."""
    width = lanes_of(like)
    return max(1, min(STRIP_BUNDLES, STRIP_SIZE // (n_classes * width))) * width


@staged
def planes_to_strip(array, rows, n_classes, strip):
    """Copy rows into lanes, one bundle behind the other; lanes without a row hold zeros."""
    width = lanes_of(strip)
    whole = rows.n_rows // width * width
    for j in range(n_classes):
        at, target = rows.at + j * rows.step, j * width
        for i in range(0, whole, width):
            prefetch(array, at + i + rows.n_rows)
            store(strip, i * n_classes + target, load(array, at + i))
        if whole < rows.n_rows:
            store(strip, whole * n_classes + target, load_first(array, at + whole, rows.n_rows - whole, 0.0))


@staged
def strip_to_planes(strip, rows, n_classes, out):
    """Copy lanes back into rows."""
    width = lanes_of(strip)
    aligned = (unaligned(out, rows.out_at) == 0) & (rows.out_step % width == 0) & (rows.n_rows % width == 0)
    if rows.streams & aligned:
        _stream_strip(strip, rows, n_classes, out)
    else:
        _store_strip(strip, rows, n_classes, out)


@staged
def _store_strip(strip, rows, n_classes, out):
    width = lanes_of(strip)
    whole = rows.n_rows // width * width
    for j in range(n_classes):
        at, source = rows.out_at + j * rows.out_step, j * width
        for i in range(0, whole, width):
            store(out, at + i, load(strip, i * n_classes + source))
        if whole < rows.n_rows:
            store_first(out, at + whole, rows.n_rows - whole, load(strip, whole * n_classes + source))


@staged
def _stream_strip(strip, rows, n_classes, out):
    """Write past the caches."""
    width = lanes_of(strip)
    for j in range(n_classes):
        at, source = rows.out_at + j * rows.out_step, j * width
        for i in range(0, rows.n_rows, width):
            stream(out, at + i, load(strip, i * n_classes + source))
