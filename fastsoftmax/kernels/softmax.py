"""Softmax, log-softmax, logsumexp and their backward over all rows."""

import numpy as np
from numba import prange

from .compiling.jit import Line, Matrix, kernel
from .drivers import distance_to_next, rows_in_a_run
from .rows.backward import log_softmax_backward_row, softmax_backward_row
from .rows.bundles import empty_lanes, from_lanes, to_lanes
from .rows.cached import row_range, softmax_row
from .rows.few import log_softmax_lanes, logsumexp_lanes, softmax_lanes
from .rows.row import log_softmax_row, logsumexp_row, row_exps, row_log_sums, row_max, row_quotient, subtract
from .rows.slow_path import careful_logsumexp
from .rows.streamed import stream_row, two_rows
from .simd.memory import finish_streams, store_first
from .simd.vector import lanes_of, splat
from .tuning import CHUNK_ROWS
from .vecmath.quotient import multiply


@kernel
def softmax(logits: Matrix, probs: Matrix):
    """Write the probabilities of each row."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_out = logits.flat, probs.flat
        first = np.intp(task) * run
        last = min(first + run, n_rows)
        m, near = row_range(flat, first * n_classes, (first + 1) * n_classes)
        for row in range(first, last):
            start = row * n_classes
            entries, following = (start, start + n_classes, m, near), distance_to_next(row, last, n_classes)
            m, near = softmax_row(flat, entries, flat_out, following)


@kernel
def log_softmax(logits: Matrix, log_probs: Matrix):
    """Write the log-probabilities of each row."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_out = logits.flat, log_probs.flat
        first = np.intp(task) * run
        for row in range(first, min(first + run, n_rows)):
            start = row * n_classes
            log_softmax_row(flat, start, start + n_classes, flat_out)


@kernel
def logsumexp(logits: Matrix, lse: Line):
    """Write log Σ_j e^z_j of each row."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat = logits.flat
        first = np.intp(task) * run
        last = min(first + run, n_rows)
        m = row_max(flat, first * n_classes, (first + 1) * n_classes)
        uncertain = 0  # a bit for each row of the run
        for row in range(first, last):
            start = row * n_classes
            entries, following = (start, start + n_classes, m), distance_to_next(row, last, n_classes)
            lse[row], certain, m = logsumexp_row(flat, entries, following)
            uncertain |= (not certain) << (row - first)
        for row in range(first, last):
            if uncertain >> (row - first) & 1:
                lse[row] = careful_logsumexp(flat, row * n_classes, (row + 1) * n_classes)


@kernel
def softmax_streamed(logits: Matrix, probs: Matrix):
    """Do `softmax` for results that no cache holds: each row is written during the next one."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    n_runs = -(-n_rows // run)
    for task in prange(n_runs):
        flat, flat_out = logits.flat, probs.flat
        first = np.intp(task) * run
        exps, place, other_place, nothing = two_rows(flat, n_classes)
        pending = (row_quotient(flat, 0.0, 1.0), exps, nothing, flat_out, nothing, nothing)
        last = min(first + run, n_rows)
        m = row_max(flat, first * n_classes, (first + 1) * n_classes)
        for row in range(first, last):
            start = row * n_classes
            stop = start + n_classes
            entries, following = (start, stop, m), distance_to_next(row, last, n_classes)
            quotient, m = row_exps(flat, entries, exps, place, multiply, pending, following)
            pending = (quotient, exps, place, flat_out, start, stop)
            place, other_place = other_place, place
        stream_row(multiply, pending)
        finish_streams()


@kernel
def log_softmax_streamed(logits: Matrix, log_probs: Matrix):
    """Do `log_softmax` for results that no cache holds: each row is written during the next one."""
    n_rows, n_classes = logits.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_out = logits.flat, log_probs.flat
        first = np.intp(task) * run
        nothing = np.intp(0)
        no_sums = (splat(flat, 0.0), splat(flat, 0.0))
        pending = (no_sums, flat, nothing, flat_out, nothing, nothing)
        last = min(first + run, n_rows)
        m = row_max(flat, first * n_classes, (first + 1) * n_classes)
        for row in range(first, last):
            start = row * n_classes
            stop = start + n_classes
            entries, following = (start, stop, m), distance_to_next(row, last, n_classes)
            sums, m = row_log_sums(flat, entries, subtract, pending, following)
            pending = (sums, flat, start, flat_out, start, stop)
        stream_row(subtract, pending)
        finish_streams()


@kernel
def softmax_few(logits: Matrix, probs: Matrix):
    """Do `softmax` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    width = lanes_of(logits)
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        flat, flat_out = logits.flat, probs.flat
        lanes = empty_lanes(logits)
        first = np.intp(chunk) * CHUNK_ROWS
        for row in range(first, min(first + CHUNK_ROWS, n_rows), width):
            count = min(width, n_rows - row)
            to_lanes(flat, row, count, n_classes, lanes)
            softmax_lanes(lanes, n_classes)
            from_lanes(lanes, count, n_classes, flat_out, row)


@kernel
def log_softmax_few(logits: Matrix, log_probs: Matrix):
    """Do `log_softmax` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    width = lanes_of(logits)
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        flat, flat_out = logits.flat, log_probs.flat
        lanes, scratch = empty_lanes(logits), empty_lanes(logits)
        first = np.intp(chunk) * CHUNK_ROWS
        for row in range(first, min(first + CHUNK_ROWS, n_rows), width):
            count = min(width, n_rows - row)
            to_lanes(flat, row, count, n_classes, lanes)
            log_softmax_lanes(lanes, n_classes, scratch)
            from_lanes(lanes, count, n_classes, flat_out, row)


@kernel
def logsumexp_few(logits: Matrix, lse: Line):
    """Do `logsumexp` for few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    width = lanes_of(logits)
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        flat = logits.flat
        lanes, scratch = empty_lanes(logits), empty_lanes(logits)
        first = np.intp(chunk) * CHUNK_ROWS
        for row in range(first, min(first + CHUNK_ROWS, n_rows), width):
            count = min(width, n_rows - row)
            to_lanes(flat, row, count, n_classes, lanes)
            store_first(lse, row, count, logsumexp_lanes(lanes, n_classes, scratch))


@kernel
def softmax_backward(probs: Matrix, dprobs: Matrix, dlogits: Matrix):
    """Write each row's gradient behind a softmax."""
    n_rows, n_classes = probs.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_grad, flat_out = probs.flat, dprobs.flat, dlogits.flat
        first = np.intp(task) * run
        for row in range(first, min(first + run, n_rows)):
            start = row * n_classes
            softmax_backward_row(flat, flat_grad, start, start + n_classes, flat_out, False)


@kernel
def softmax_backward_streamed(probs: Matrix, dprobs: Matrix, dlogits: Matrix):
    """Do `softmax_backward` for results that no cache holds, past the caches."""
    n_rows, n_classes = probs.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_grad, flat_out = probs.flat, dprobs.flat, dlogits.flat
        first = np.intp(task) * run
        for row in range(first, min(first + run, n_rows)):
            start = row * n_classes
            softmax_backward_row(flat, flat_grad, start, start + n_classes, flat_out, True)
        finish_streams()


@kernel
def log_softmax_backward(log_probs: Matrix, dlog_probs: Matrix, dlogits: Matrix):
    """Write each row's gradient behind a log-softmax."""
    n_rows, n_classes = log_probs.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_grad, flat_out = log_probs.flat, dlog_probs.flat, dlogits.flat
        first = np.intp(task) * run
        for row in range(first, min(first + run, n_rows)):
            start = row * n_classes
            log_softmax_backward_row(flat, flat_grad, start, start + n_classes, flat_out, False)


@kernel
def log_softmax_backward_streamed(log_probs: Matrix, dlog_probs: Matrix, dlogits: Matrix):
    """Do `log_softmax_backward` for results that no cache holds, past the caches."""
    n_rows, n_classes = log_probs.shape
    run = rows_in_a_run(n_rows)
    for task in prange(-(-n_rows // run)):
        flat, flat_grad, flat_out = log_probs.flat, dlog_probs.flat, dlogits.flat
        first = np.intp(task) * run
        for row in range(first, min(first + run, n_rows)):
            start = row * n_classes
            log_softmax_backward_row(flat, flat_grad, start, start + n_classes, flat_out, True)
        finish_streams()
