"""Classes that do not lie next to each other: what lies next to a logit is the one of the next row, as in images.

The logits of one class are a plane, or a run of one, `class_step` elements before those of the next class. Rows in
lanes need no transposing there: a vector of the first class, one of the second, and so on, are a bundle. Several
bundles are copied into a strip at a time: of one alone each class is a single line of the cache, far from the others,
and memory is slow to read and to write that.
"""

from typing import NamedTuple

import numpy as np

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
def rows_of_a_strip(like, n_classes):
    """Choose how many rows are copied at a time: whole bundles, as many as a second-level cache has room for."""
    width = lanes_of(like)
    return max(1, min(STRIP_BUNDLES, STRIP_SIZE // (n_classes * width))) * width


@staged
def rows_from(planes, row, most, out):
    """Choose how many rows from one on to copy next: up to so many, or those before the first that begins a line.

    That is where the result is written past the caches, and rows of all classes begin lines alike.
    """
    count = most
    if out is not None:
        left = unaligned(out, neighbours(planes, row, most).out_at)
        if planes.streams & (planes.out_class_step % lanes_of(out) == 0) & (left > 0):
            count = min(left, most)
    return count


@staged
def planes_to_strip(array, planes, first, n_rows, strip):
    """Copy rows into lanes, one bundle behind the other; lanes without a row hold zeros."""
    _copy(_copy_in, array, planes, first, n_rows, strip)


@staged
def strip_to_planes(strip, planes, first, n_rows, out):
    """Copy lanes back into rows."""
    _copy(_copy_out, out, planes, first, n_rows, strip)


@staged
def _copy(copy, array, planes, first, n_rows, strip):
    """Copy rows, those that lie next to each other at a time: copy(array, rows, done, n_classes, strip)."""
    done = np.intp(0)
    while done < n_rows:
        rows = neighbours(planes, first + done, n_rows - done)
        copy(array, rows, done, planes.n_classes, strip)
        done += rows.n_rows


class _Parts(NamedTuple):
    """Neighbours in a strip: those that fill the last bundle, whole bundles from there on, and what is left."""

    lane: Number  # of the last bundle, which is next
    head: Number  # how many go there
    whole: Number  # how many there are with those in whole bundles


@staged
def _parts(rows, done, width):
    lane = done % width
    head = min(width - lane, rows.n_rows) if lane else 0
    return _Parts(lane, head, head + (rows.n_rows - head) // width * width)


@staged
def _copy_in(array, rows, done, n_classes, strip):
    """Copy neighbours to where the rows that are done end."""
    width = lanes_of(strip)
    parts = _parts(rows, done, width)
    for j in range(n_classes):
        at, target = rows.at + j * rows.step, j * width
        if parts.head:
            place = (done - parts.lane) * n_classes + target + parts.lane
            store_first(strip, place, parts.head, load_first(array, at, parts.head, 0.0))
        for i in range(parts.head, parts.whole, width):
            prefetch(array, at + i + rows.n_rows)
            store(strip, (done + i) * n_classes + target, load(array, at + i))
        if parts.whole < rows.n_rows:
            z = load_first(array, at + parts.whole, rows.n_rows - parts.whole, 0.0)
            store(strip, (done + parts.whole) * n_classes + target, z)


@staged
def _copy_out(out, rows, done, n_classes, strip):
    """Copy neighbours back; past the caches what can be: whole bundles that begin lines."""
    width = lanes_of(strip)
    parts = _parts(rows, done, width)
    in_lines = (unaligned(out, rows.out_at) == 0) & (rows.out_step % width == 0)
    if rows.streams & in_lines & (parts.lane == 0) & (parts.whole == rows.n_rows):
        for j in range(n_classes):
            at, source = rows.out_at + j * rows.out_step, done * n_classes + j * width
            for i in range(0, parts.whole, width):
                stream(out, at + i, load(strip, i * n_classes + source))
    else:
        _store_out(strip, rows, parts, done, n_classes, out)


@staged
def _store_out(strip, rows, parts, done, n_classes, out):
    width = lanes_of(strip)
    for j in range(n_classes):
        at, source = rows.out_at + j * rows.out_step, j * width
        if parts.head:
            place = (done - parts.lane) * n_classes + source + parts.lane
            store_first(out, at, parts.head, load_first(strip, place, parts.head, 0.0))
        for i in range(parts.head, parts.whole, width):
            store(out, at + i, load(strip, (done + i) * n_classes + source))
        if parts.whole < rows.n_rows:
            value = load(strip, (done + parts.whole) * n_classes + source)
            store_first(out, at + parts.whole, rows.n_rows - parts.whole, value)
