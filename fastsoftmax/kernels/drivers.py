"""The loops over rows, one driver for each regime: each does one task, and takes what is done with a row.

`args` is what the functions of a row share; they get it first. Where there are labels (`args.options` is not None),
rows that `is_ignored` go to `leave_out`. Loops over tasks, `prange`, are the kernels' own.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .compiling.numbers import Number
from .compiling.staging import staged
from .rows.blocks import empty_parts, merge, sum_block, write_block
from .rows.bundles import Bundle, bundle_of, empty_lanes, to_lanes
from .rows.logits import has_slope, view_lanes
from .rows.options import is_ignored, leave_out, skips
from .rows.passes import Place, Range, Row, row_max, row_range
from .rows.planes import Strip, later_rows, planes_to_strip, room_for_results, rows_of_a_strip, strip_to_planes
from .rows.streamed import Pending, stream_row
from .simd.memory import finish_streams
from .simd.vector import lanes_of
from .tuning import FEWEST_RUNS, LONGEST_RUN, SPATIAL_SIZE


class Rows(NamedTuple):
    """The rows of a task: from the first to the one before the last."""

    first: Number
    last: Number


@staged
def run_of(n_rows):
    """Choose how many rows a thread takes at a time: some runs for each of many threads, whatever the rows."""
    return max(1, min(LONGEST_RUN, n_rows // FEWEST_RUNS))


@staged
def task_rows(task, size, n_rows):
    """Give the rows of a task, of `size` each."""
    first = np.intp(task) * size
    return Rows(first, min(first + size, n_rows))


@staged
def independent_rows(do_row, args, n_classes, rows):
    """Go through rows that know nothing of each other: do_row(*args, start, stop)."""
    for index in range(rows.first, rows.last):
        start = index * n_classes
        do_row(*args, start, start + n_classes)


@staged
def _find(logits, start, stop, near):
    """Find a row's range, or its maximum alone."""
    return row_range(logits, start, stop) if near else Range(row_max(logits, start, stop), None)


@staged
def each_row(do_row, near, args, logits, rows, state=None):
    """Go through rows one after the other: give (a bit for each that must be done again, the last state).

    do_row(args, logits, index, row, state) gives (the next row's range, whether this row must be done again, the next
    state); `near` says whether ranges tell that rows are near.
    """
    flat, n_classes = logits.flat, logits.shape[1]
    skips_ignored = skips(args.options)
    found, known, again = Range(flat.dtype.type(0), False if near else None), False, 0
    if not skips_ignored:
        found = _find(flat, rows.first * n_classes, (rows.first + 1) * n_classes, near)
    for index in range(rows.first, rows.last):
        start = index * n_classes
        stop = start + n_classes
        if skips_ignored:
            if is_ignored(args, index):
                leave_out(args, index, start, stop)
                continue
            if not known:
                found = _find(flat, start, stop, near)
            known = index + 1 < rows.last and not is_ignored(args, index + 1)
            following = n_classes if known else 0
        else:
            following = n_classes if index + 1 < rows.last else 0
        row = Row(start, stop, found.top, found.near, following)
        found, uncertain, state = do_row(args, flat, index, row, state)
        again |= uncertain << (index - rows.first)
    return again, state


@staged
def redo_rows(redo, again, args, logits, rows):
    """Call redo(args, logits, index, start, stop) for those rows that `each_row` says."""
    n_classes = logits.shape[1]
    for index in range(rows.first, rows.last):
        if again >> (index - rows.first) & 1:
            redo(args, logits.flat, index, index * n_classes, (index + 1) * n_classes)


class Streaming(NamedTuple):
    """What goes from a streamed row to the next."""

    do_row: Callable
    pending: Pending
    place: Number | None  # of this row's e_j
    other_place: Number | None  # of the pending row's


@staged
def streamed_rows(do_row, nothing, keeps, args, logits, out, rows):
    """Go through rows whose results no cache holds, each written during the next: give a bit for each to do again.

    do_row(args, logits, index, row, exps, pending) writes what is pending and gives (the finish of this row with its
    arguments, the next row's maximum, whether it must be done again). `nothing` is such a finish with arguments of the
    same kind. Where it `keeps` e_j, `exps` is a place for them; else the finish reads the logits once more.
    """
    flat, n_classes, zero = logits.flat, logits.shape[1], np.intp(0)
    # One array for the e_j of this row and of the pending one: of two that are freed together, glibc hands the pages
    # back each time, and long rows took four times as long (M12).
    values = np.empty(2 * n_classes, flat.dtype) if keeps else flat
    pending = Pending(*nothing, values, zero, out.flat, zero, zero)
    state = Streaming(do_row, pending, zero if keeps else None, zero + n_classes if keeps else None)
    again, state = each_row(_stream_one, False, args, logits, rows, state)
    stream_row(state.pending)
    finish_streams()
    return again


@staged
def _stream_one(args, logits, index, row, state):
    pending, place = state.pending, state.place
    exps = None if place is None else Place(pending.values, place)
    finish, top, uncertain = state.do_row(args, logits, index, row, exps, pending)
    at = row.start if place is None else place
    pending = Pending(*finish, pending.values, at, pending.out, row.start, row.stop)
    return Range(top, None), uncertain, Streaming(state.do_row, pending, state.other_place, place)


@staged
def bundled_rows(do_bundle, args, logits, n_classes, rows, offset=0):
    """Go through rows of few classes, a bundle at a time: do_bundle(args, lanes, bundle).

    The logits are a flat array, whose first row is the one of index `offset`.
    """
    lanes = view_lanes(empty_lanes(logits), logits)
    width = lanes_of(lanes)
    for row in range(rows.first, rows.last, width):
        bundle = Bundle(row, min(width, rows.last - row), n_classes, logits, row - offset)
        to_lanes(logits, bundle.at, bundle.n_rows, n_classes, lanes)
        do_bundle(args, lanes, bundle)


@staged
def spatial_run(planes, like):
    """Choose how many rows a thread takes at a time: whole strips, and some runs for each of many threads."""
    strip = rows_of_a_strip(like, planes)
    return max(1, min(SPATIAL_SIZE // (planes.n_classes * strip), planes.n_rows // (strip * FEWEST_RUNS))) * strip


@staged
def spatial_strips(do_strip, args, arrays, planes, out, rows):
    """Go through rows whose classes do not lie next to each other, some bundles of them at a time: see `rows.planes`.

    do_strip(args, n_classes, strip) writes the strip's results, which go to `out`, if that is not None.
    """
    most, row = rows_of_a_strip(arrays[0], planes), rows.first
    lanes = ()
    for k in range(len(arrays)):
        lanes = (*lanes, np.empty(most * planes.n_classes, arrays[k].dtype))
    results = None if out is None else room_for_results(lanes[0], planes, most)
    while row < rows.last:
        n_rows, later = min(most, rows.last - row), ()
        for k in range(len(arrays)):
            planes_to_strip(arrays[k], planes, row, n_rows, lanes[k])
            later = (*later, later_rows(arrays[k], planes, row, n_rows))
        do_strip(args, planes.n_classes, Strip(row, n_rows, lanes, results, later))
        if out is not None:
            strip_to_planes(results, planes, row, n_rows, out, rows)
        row += n_rows
    finish_streams()


@staged
def spatial_bundles(do_bundle, args, logits, planes, by_vectors, out, rows):
    """Go through such rows a bundle at a time: do_bundle(args, lanes, bundle)."""
    size = planes.n_classes * lanes_of(logits)
    room = np.empty(size, logits.dtype) if has_slope(logits) else None
    given = do_bundle, args, logits, by_vectors, room
    spatial_strips(_bundles_of_strip, given, (logits,), planes, out, rows)


@staged
def _bundles_of_strip(given, n_classes, strip):
    do_bundle, args, logits, by_vectors, room = given
    width = lanes_of(logits)
    for i in range(0, strip.n_rows, width):
        lanes = view_lanes(strip.lanes[0].view(i * n_classes, (n_classes * width,)), logits)
        row, count = strip.row + i, min(width, strip.n_rows - i)
        results, later = bundle_of(strip.results, i), bundle_of(strip.later[0], i)
        do_bundle(args, lanes, Bundle(row, count, n_classes, logits, row, results, later, by_vectors, room))


@staged
def blocked_rows(tasks, operation, args, logits, out=None):
    """Go through rows in blocks that threads share, by `tasks`, the kernel's `prange`: see `rows.blocked.Blocked`."""
    n_rows, n_classes = logits.shape
    flat = logits.flat
    options = args.options
    parts = empty_parts(n_classes, options)
    n_blocks = parts.tops.size
    for row in range(n_rows):
        start, stop = row * n_classes, (row + 1) * n_classes
        if skips(args.options) and is_ignored(args, row):
            leave_out(args, row, start, stop)
            continue
        skip = operation.skip(args, row, start)
        for block in tasks(n_blocks):
            sum_block(flat, start, stop, block, skip, parts, options)
        merged = merge(flat, skip, parts)
        done, given = operation.conclude(args, flat, row, start, stop, merged)
        if done:
            continue
        flat_out = out.flat
        for block in tasks(n_blocks):
            arguments = operation.prepare(flat, merged.top, given)
            write_block(operation.finish, arguments, flat, start, stop, block, flat_out)
