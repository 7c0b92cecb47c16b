"""Classes that do not lie next to each other: what lies next to a logit is the one of the next row, as in images.

The logits of one class are a plane, or a run of one, `class_step` elements before those of the next class. Rows in
lanes need no transposing there: a vector of the first class, one of the second, and so on, are a bundle. Several
bundles are copied into a strip at a time: of one alone each class is a single line of the cache, far from the others,
and memory is slow to read and to write that. Results wait in a strip of another order, from where they go to planes.
"""

from typing import NamedTuple

import numpy as np

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.memory import load, load_first, store, store_first, store_parts, stream, unaligned
from ..simd.vector import lanes_of
from ..tuning import STRIP_BUNDLES, STRIP_SIZE
from .bundles import ClassVectors


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


class Strip(NamedTuple):
    """Some bundles of rows, copied: the first row, and how many there are."""

    row: Number
    n_rows: Number
    lanes: tuple[Array, ...]  # of each array, one bundle behind the other
    results: ClassVectors | None
    later: tuple[ClassVectors, ...]  # in each array the first bundle of the next strip, to be asked for


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
    )


@staged
def rows_of_a_strip(like, planes):
    """Choose how many rows are copied at a time: whole bundles, fewer of many classes (M65)."""
    width = lanes_of(like)
    size = planes.n_classes * width
    fewest = 2 if planes.streams & (size <= STRIP_SIZE) else 1
    return max(fewest, min(STRIP_BUNDLES, STRIP_SIZE // size)) * width


@staged
def room_for_results(lanes, planes, n_rows):
    """Make room for the results of so many rows of a strip, those of a class next to each other, and a vector before.

    From there they can be written to lines wherever those begin, which for each class may be elsewhere. Classes are an
    odd number of vectors apart, or a few sets of the caches would have to hold them all. The results of one bundle that
    do not go past the caches are left in its lanes: where one fills a cache there is no room for two.
    """
    width, n_bundles = lanes_of(lanes), n_rows // lanes_of(lanes)
    stay = False if planes.streams else n_bundles == 1
    step = 2 * width if n_bundles == 1 else (n_bundles + 1 | 1) * width
    room = np.empty(width if stay else planes.n_classes * step, lanes.dtype)
    return ClassVectors(lanes, 0, width) if stay else ClassVectors(room, width, step)


@staged
def later_rows(array, planes, row, n_rows):
    """Give what to ask for ahead: of each bundle of the next strip the last row, and with it the line that it ends in.

    The line that it begins in, if that is another, is asked for by the bundle before (M64).
    """
    after = neighbours(planes, row, n_rows).at + n_rows
    return ClassVectors(array, after + lanes_of(array) - 1, planes.class_step)


@staged
def planes_to_strip(array, planes, first, n_rows, strip):
    """Copy rows into lanes, one bundle behind the other; lanes without a row hold zeros."""
    done = np.intp(0)
    while done < n_rows:
        rows = neighbours(planes, first + done, n_rows - done)
        _copy_in(array, rows, done, planes.n_classes, strip)
        done += rows.n_rows


@staged
def strip_to_planes(results, planes, first, n_rows, out, rows):
    """Copy the results of a strip back; `rows` are all those of its task.

    Past the caches a line that two strips share is written once, by the second of them (M64).
    """
    done = np.intp(0)
    while done < n_rows:
        row = first + done
        run = neighbours(planes, row, n_rows - done)
        before = min(row - rows.first, row % planes.n_inner)
        after = row + run.n_rows
        goes_on = (after < rows.last) & (after % planes.n_inner > 0)
        for j in range(planes.n_classes):
            source, at = results.at + j * results.step + done, run.out_at + j * run.out_step
            i = _stream_out(results.array, source, run.n_rows, before, out, at) if planes.streams else np.intp(0)
            if planes.streams & goes_on:  # what is left, to where those before the next strip are
                width = lanes_of(results.array)
                left = load(results.array, source + run.n_rows - width)
                store(results.array, results.at + j * results.step - width, left)
            else:
                _store_out(results.array, source, i, run.n_rows, out, at)
        done += run.n_rows


@staged
def _copy_in(array, rows, done, n_classes, strip):
    """Copy neighbours to where the rows that are done end: some to fill the last bundle, whole ones, what is left."""
    width = lanes_of(strip)
    lane = done % width
    head = min(width - lane, rows.n_rows) if lane else 0
    whole = head + (rows.n_rows - head) // width * width
    for j in range(n_classes):
        at, target = rows.at + j * rows.step, j * width
        if head:
            place = (done - lane) * n_classes + target + lane
            store_first(strip, place, head, load_first(array, at, head, 0.0))
        for i in range(head, whole, width):
            store(strip, (done + i) * n_classes + target, load(array, at + i))
        if whole < rows.n_rows:
            z = load_first(array, at + whole, rows.n_rows - whole, 0.0)
            store(strip, (done + whole) * n_classes + target, z)


@staged
def _store_out(results, source, i, n_rows, out, at):
    """Copy one class of neighbours back, from one of them on."""
    width = lanes_of(results)
    while i + width <= n_rows:
        store(out, at + i, load(results, source + i))
        i += width
    if i < n_rows:
        store_first(out, at + i, n_rows - i, load_first(results, source + i, n_rows - i, 0.0))


@staged
def _stream_out(results, source, n_rows, before, out, at):
    """Copy whole lines of them past the caches, and where the first line is not all theirs what they have of it.

    `before` says how many neighbours there were in strips before. Gives how many of these need no more than that.
    """
    width, i = lanes_of(results), unaligned(out, at)
    if (i > 0) & (width - i <= before):
        i = i - width
    else:
        i = min(i, n_rows)
        store_parts(out, at, i, load_first(results, source, i, 0.0))
    while i + width <= n_rows:
        stream(out, at + i, load(results, source + i))
        i += width
    return i
