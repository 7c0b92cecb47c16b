"""Cross entropy over all rows, with and without its gradient."""

import numpy as np
from numba import prange

from .bundles import CHUNK, any_ignored, empty_lanes, from_lanes, load_labels, store_losses, to_lanes
from .elementary import multiply
from .few import cross_entropy_lanes, cross_entropy_with_grad_lanes
from .jit import apart, inline, require_all, serial, twins
from .lanes import lanes_of
from .memory import finish_streams, load
from .rows import cross_entropy_row, put_label, row_max, row_quotient
from .runs import rows_in_a_run
from .stores import cross_entropy_with_grad_row, is_small, row_range
from .streams import stream_row, two_rows
from .sums import sum_all
from .views import flat_of


@twins
def cross_entropy(logits, labels, ignore_index, losses):
    """Write each row's loss; 0 for ignored rows."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat = flat_of(logits)
        first = np.intp(task) * run
        last = min(first + run, n_rows)
        m, known = flat.dtype.type(0), False
        for row in range(first, last):
            start = row * n_classes
            stop = start + n_classes
            if labels[row] == ignore_index:
                losses[row] = 0.0
                continue
            if not known:
                m = row_max(flat, start, stop)
            known = row + 1 < last and labels[row + 1] != ignore_index
            following = n_classes if known else 0
            entries, label = (start, stop, m), start + labels[row]
            losses[row], _, _, m = cross_entropy_row(flat, entries, label, None, start, None, None, following)


@inline
def weight_of(row, weight, dloss):
    """Give the factor of a row's gradient; `dloss` is empty where all rows share theirs."""
    return weight * dloss[row] if dloss.size else weight


@twins
def cross_entropy_with_grad(logits, labels, ignore_index, weight, dloss, losses, dlogits):
    """Write each row's loss, and weight · dloss · (a − onehot(y)); both are 0 for ignored rows."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_out = flat_of(logits), flat_of(dlogits)
        first = np.intp(task) * run
        last = min(first + run, n_rows)
        m, near, known = flat.dtype.type(0), False, False
        for row in range(first, last):
            start = row * n_classes
            stop = start + n_classes
            if labels[row] == ignore_index:
                losses[row] = 0.0
                flat_out[start:stop] = 0
                continue
            if not known:
                m, near = row_range(flat, start, stop)
            known = row + 1 < last and labels[row + 1] != ignore_index
            following = n_classes if known else 0
            entries, label, factor = (start, stop, m, near), start + labels[row], weight_of(row, weight, dloss)
            losses[row], m, near = cross_entropy_with_grad_row(flat, entries, label, factor, flat_out, following)


@twins
def cross_entropy_with_grad_streamed(logits, labels, ignore_index, weight, dloss, losses, dlogits):
    """Do `cross_entropy_with_grad` for results that no cache holds: each row is written during the next one."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    n_runs = -(-n_rows // run)
    done = 0
    for task in prange(n_runs):
        flat, flat_out = flat_of(logits), flat_of(dlogits)
        first = np.intp(task) * run
        exps, place, other_place, nothing = two_rows(flat, n_classes)
        pending = (row_quotient(flat, 0.0, 1.0), exps, nothing, flat_out, nothing, nothing)
        last = min(first + run, n_rows)
        m, known = flat.dtype.type(0), False
        small = 0  # a bit for each row of the run
        for row in range(first, last):
            start = row * n_classes
            stop = start + n_classes
            if labels[row] == ignore_index:
                losses[row] = 0.0
                flat_out[start:stop] = 0
                continue
            if not known:
                m = row_max(flat, start, stop)
            known = row + 1 < last and labels[row + 1] != ignore_index
            following = n_classes if known else 0
            label, factor = start + labels[row], weight_of(row, weight, dloss)
            losses[row], others, total, m = cross_entropy_row(
                flat, (start, stop, m), label, exps, place, multiply, pending, following
            )
            put_label(exps, place + labels[row], others)
            small |= is_small(flat, factor, total) << (row - first)
            pending = (row_quotient(flat, factor, total), exps, place, flat_out, start, stop)
            place, other_place = other_place, place
        stream_row(multiply, pending)
        finish_streams()
        for row in range(first, last):
            if small >> (row - first) & 1:
                _again(flat, row, n_classes, labels[row], weight_of(row, weight, dloss), flat_out)
        done += 1
    require_all(done, n_runs)


@apart
def _again(logits, row, n_classes, label, weight, dlogits):
    """Write a row's gradient once more, for `multiply` had to leave out what its small quotient makes too small."""
    start = row * n_classes
    m, near = row_range(logits, start, start + n_classes)
    cross_entropy_with_grad_row(logits, (start, start + n_classes, m, near), start + label, weight, dlogits, 0)


@inline
def few_rows(logits, n_classes, labels, ignore_index, losses, first, last, offset):
    """Write the losses of rows first to last, a bundle at a time; their logits begin `offset` rows earlier."""
    width = lanes_of(logits)
    lanes = empty_lanes(logits)
    args = (logits, n_classes, labels, ignore_index, losses)
    whole = last - (last - first) % width
    for row in range(first, whole, width):  # the number of rows is a constant to the compiler here
        _bundle(args, row, width, offset, lanes)
    if whole < last:
        _bundle(args, whole, last - whole, offset, lanes)


@inline
def _bundle(args, row, n_rows, offset, lanes):
    logits, n_classes, labels, ignore_index, losses = args
    to_lanes(logits, row - offset, n_rows, n_classes, lanes)
    bundle_labels = load_labels(labels, row, n_rows, ignore_index)
    bundle_losses, _, _, _ = cross_entropy_lanes(lanes, n_classes, bundle_labels)
    store_losses(losses, row, n_rows, lanes, bundle_losses)


@inline
def few_rows_with_grad(logits, n_classes, labels, ignore_index, weight, dloss, losses, dlogits, first, last, offset):
    """Do the same, and write the gradient, which begins `offset` rows earlier too."""
    width = lanes_of(logits)
    weights = empty_lanes(losses)  # a float64 a row
    weights[:16] = weight
    room = (empty_lanes(logits), weights)
    args = (logits, n_classes, labels, ignore_index, weight, dloss, losses, dlogits)
    whole = last - (last - first) % width
    for row in range(first, whole, width):
        _bundle_with_grad(args, row, width, offset, room)
    if whole < last:
        _bundle_with_grad(args, whole, last - whole, offset, room)


@inline
def _bundle_with_grad(args, row, n_rows, offset, room):
    logits, n_classes, labels, ignore_index, weight, dloss, losses, dlogits = args
    lanes, weights = room
    if dloss.size:
        for lane in range(n_rows):
            weights[lane] = weight_of(row + lane, weight, dloss)
    to_lanes(logits, row - offset, n_rows, n_classes, lanes)
    bundle_labels = load_labels(labels, row, n_rows, ignore_index)
    bundle_weights = load(weights, 0), load(weights, 8)
    bundle_losses = cross_entropy_with_grad_lanes(lanes, n_classes, bundle_labels, bundle_weights)
    store_losses(losses, row, n_rows, lanes, bundle_losses)
    from_lanes(lanes, n_rows, n_classes, dlogits, row - offset)
    if any_ignored(lanes, bundle_labels):
        for lane in range(n_rows):
            if labels[row + lane] == ignore_index:
                start = (row - offset + lane) * n_classes
                dlogits[start : start + n_classes] = 0


@twins
def cross_entropy_few(logits, labels, ignore_index, losses):
    """Do `cross_entropy` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK)):
        flat = flat_of(logits)
        first = np.intp(chunk) * CHUNK
        few_rows(flat, n_classes, labels, ignore_index, losses, first, min(first + CHUNK, n_rows), 0)


@twins
def cross_entropy_with_grad_few(logits, labels, ignore_index, weight, dloss, losses, dlogits):
    """Do `cross_entropy_with_grad` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK)):
        flat, flat_out = flat_of(logits), flat_of(dlogits)
        first = np.intp(chunk) * CHUNK
        last = min(first + CHUNK, n_rows)
        few_rows_with_grad(flat, n_classes, labels, ignore_index, weight, dloss, losses, flat_out, first, last, 0)


@serial
def total_loss(losses):
    """Add up the rows' losses, always in the same order."""
    return sum_all(losses)
