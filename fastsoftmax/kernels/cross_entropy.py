"""Cross entropy over all rows, with and without its gradient."""

import numpy as np
from numba import prange

from .compiling.jit import Doubles, Labels, Line, Matrix, kernel
from .compiling.staging import apart, staged
from .drivers import rows_in_a_run
from .rows.bundles import any_ignored, empty_lanes, from_lanes, load_labels, store_losses, to_lanes
from .rows.cached import cross_entropy_with_grad_row, is_small, row_range
from .rows.few import cross_entropy_lanes, cross_entropy_with_grad_lanes
from .rows.row import cross_entropy_row, put_label, row_max, row_quotient
from .rows.streamed import stream_row, two_rows
from .simd.accumulate import sum_all
from .simd.memory import finish_streams, load, store
from .simd.vector import lanes_of, wide
from .tuning import CHUNK_ROWS
from .vecmath.quotient import multiply


@kernel
def cross_entropy(logits: Matrix, labels: Labels, ignore_index: int, losses: Doubles):
    """Write each row's loss; 0 for ignored rows."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat = logits.flat
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


@staged
def weight_of(row, weight, dloss):
    """Give the factor of a row's gradient; `dloss` is empty where all rows share theirs."""
    return weight * dloss[row] if dloss.size else weight


@kernel
def cross_entropy_with_grad(
    logits: Matrix, labels: Labels, ignore_index: int, weight: float, dloss: Line, losses: Doubles, dlogits: Matrix
):
    """Write each row's loss, and weight · dloss · (a − onehot(y)); both are 0 for ignored rows."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_out = logits.flat, dlogits.flat
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


@kernel
def cross_entropy_with_grad_streamed(
    logits: Matrix, labels: Labels, ignore_index: int, weight: float, dloss: Line, losses: Doubles, dlogits: Matrix
):
    """Do `cross_entropy_with_grad` for results that no cache holds: each row is written during the next one."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    n_runs = -(-n_rows // run)
    for task in prange(n_runs):
        flat, flat_out = logits.flat, dlogits.flat
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
                start = row * n_classes
                factor = weight_of(row, weight, dloss)
                cross_entropy_again(flat, start, start + n_classes, start + labels[row], factor, flat_out)


@apart
def cross_entropy_again(logits, start, stop, label, weight, dlogits):
    """Write a row's gradient once more, for `multiply` had to leave out what its small quotient makes too small."""
    m, near = row_range(logits, start, stop)
    return cross_entropy_with_grad_row(logits, (start, stop, m, near), label, weight, dlogits, 0)[0]


@staged
def few_rows(logits, n_classes, labels, ignore_index, losses, first, last, offset):
    """Write the losses of rows first to last, a bundle at a time; their logits begin `offset` rows earlier."""
    lanes, width = empty_lanes(logits), lanes_of(logits)
    for row in range(first, last, width):
        n_rows = min(width, last - row)
        to_lanes(logits, row - offset, n_rows, n_classes, lanes)
        bundle_labels = load_labels(labels, row, n_rows, width, ignore_index)
        bundle_losses, _, _, _ = cross_entropy_lanes(lanes, n_classes, bundle_labels)
        store_losses(losses, row, n_rows, width, bundle_losses)


@staged
def few_rows_with_grad(logits, n_classes, labels, ignore_index, weight, dloss, losses, dlogits, first, last, offset):
    """Do the same, and write the gradient, which begins `offset` rows earlier too."""
    lanes, width = empty_lanes(logits), lanes_of(logits)
    weights = empty_lanes(losses)  # a float64 a row
    store(weights, 0, wide(weight))
    store(weights, 8, wide(weight))
    for row in range(first, last, width):
        n_rows = min(width, last - row)
        if dloss.size:
            for lane in range(n_rows):
                weights[lane] = weight_of(row + lane, weight, dloss)
        to_lanes(logits, row - offset, n_rows, n_classes, lanes)
        bundle_labels = load_labels(labels, row, n_rows, width, ignore_index)
        bundle_weights = load(weights, 0), load(weights, 8)
        bundle_losses = cross_entropy_with_grad_lanes(lanes, n_classes, bundle_labels, bundle_weights)
        store_losses(losses, row, n_rows, width, bundle_losses)
        from_lanes(lanes, n_rows, n_classes, dlogits, row - offset)
        if any_ignored(lanes, bundle_labels):
            for lane in range(n_rows):
                if labels[row + lane] == ignore_index:
                    start = (row - offset + lane) * n_classes
                    dlogits[start : start + n_classes] = 0


@kernel
def cross_entropy_few(logits: Matrix, labels: Labels, ignore_index: int, losses: Doubles):
    """Do `cross_entropy` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        flat = logits.flat
        first = np.intp(chunk) * CHUNK_ROWS
        few_rows(flat, n_classes, labels, ignore_index, losses, first, min(first + CHUNK_ROWS, n_rows), 0)


@kernel
def cross_entropy_with_grad_few(
    logits: Matrix, labels: Labels, ignore_index: int, weight: float, dloss: Line, losses: Doubles, dlogits: Matrix
):
    """Do `cross_entropy_with_grad` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        flat, flat_out = logits.flat, dlogits.flat
        first = np.intp(chunk) * CHUNK_ROWS
        last = min(first + CHUNK_ROWS, n_rows)
        few_rows_with_grad(flat, n_classes, labels, ignore_index, weight, dloss, losses, flat_out, first, last, 0)


@kernel
def total_loss(losses: Doubles) -> float:
    """Add up the rows' losses, always in the same order."""
    return sum_all(losses)
