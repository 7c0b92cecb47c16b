"""Softmax, log-softmax and logsumexp over whole arrays, by regime."""

import math

from numba import prange

from .compiling.jit import Line, Matrix, kernel
from .compiling.staging import staged
from .drivers import blocked_rows, bundled_rows, each_row, independent_rows, redo_rows, run_of, streamed_rows, task_rows
from .rows import blocked
from .rows.blocked import Results, results_of
from .rows.bundles import write_lanes
from .rows.cached import room_for_exps, softmax_row
from .rows.few import log_softmax_lanes, logsumexp_lanes, softmax_lanes
from .rows.logits import view_logits, view_results
from .rows.options import LogitOptions, LogProbOptions
from .rows.passes import Range
from .rows.slow_path import careful_logsumexp
from .rows.whole import log_probability, log_softmax_row, log_sums, logsumexp_row, probability, row_exps, row_log_sums
from .simd.memory import store_first
from .tuning import CHUNK_ROWS
from .vecmath.quotient import row_quotient


@kernel
def softmax(logits: Matrix, options: LogitOptions, probs: Matrix):
    """Write the probabilities of each row."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    for task in prange(-(-n_rows // run)):
        args, z = results_of(probs, options, 0.0), view_logits(logits, options)
        each_row(softmax_of_row, True, args, z, task_rows(task, run, n_rows), room_for_exps(probs, probs.shape[1]))


@staged
def softmax_of_row(results, logits, index, row, room):
    """Write one row's probabilities: what `each_row` takes."""
    return softmax_row(logits, row, results.out.flat, room), False, room


@kernel
def log_softmax(logits: Matrix, options: LogProbOptions, log_probs: Matrix):
    """Write the log-probabilities of each row."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    for task in prange(-(-n_rows // run)):
        args = view_logits(logits.flat, options), view_results(log_probs.flat, options, -math.inf)
        independent_rows(log_softmax_row, args, logits.shape[1], task_rows(task, run, n_rows))


@kernel
def logsumexp(logits: Matrix, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of each row."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    for task in prange(-(-n_rows // run)):
        rows, z = task_rows(task, run, n_rows), view_logits(logits, options)
        again, _ = each_row(logsumexp_of_row, False, Results(lse), z, rows)
        redo_rows(logsumexp_again, again, Results(lse), z, rows)


@staged
def logsumexp_of_row(results, logits, index, row, state):
    """Write one row's logsumexp: what `each_row` takes."""
    results.out[index], certain, top = logsumexp_row(logits, row, row.following)
    return Range(top, None), not certain, state


@staged
def logsumexp_again(results, logits, index, start, stop):
    """Write it with care: what `redo_rows` takes."""
    results.out[index] = careful_logsumexp(logits, start, stop)


@kernel
def softmax_streamed(logits: Matrix, options: LogitOptions, probs: Matrix):
    """Write the probabilities of each row past the caches, while the next row is computed."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    for task in prange(-(-n_rows // run)):
        nothing, z = (probability, row_quotient(logits, 0.0, 1.0)), view_logits(logits, options)
        args = results_of(probs, options, 0.0)
        streamed_rows(_stream_softmax, nothing, True, args, z, args.out, task_rows(task, run, n_rows))


@staged
def _stream_softmax(results, logits, index, row, exps, pending):
    quotient, top = row_exps(logits, row, exps, pending, row.following)
    return (probability, quotient), top, False


@kernel
def log_softmax_streamed(logits: Matrix, options: LogProbOptions, log_probs: Matrix):
    """Write the log-probabilities of each row past the caches, while the next row is computed."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    for task in prange(-(-n_rows // run)):
        rows, z = task_rows(task, run, n_rows), view_logits(logits, options)
        nothing, args = (log_probability, log_sums(z, 0.0, 0.0)), results_of(log_probs, options, -math.inf)
        streamed_rows(_stream_log_softmax, nothing, False, args, z, args.out, rows)


@staged
def _stream_log_softmax(results, logits, index, row, exps, pending):
    sums, top = row_log_sums(logits, row, pending, row.following)
    return (log_probability, sums), top, False


@kernel
def softmax_few(logits: Matrix, options: LogitOptions, probs: Matrix):
    """Write the probabilities of each row of few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, n_rows)
        args, z = results_of(probs, options, 0.0), view_logits(logits.flat, options)
        bundled_rows(bundle_softmax, args, z, n_classes, rows)


@staged
def bundle_softmax(results, lanes, bundle):
    """Write the probabilities of a bundle."""
    softmax_lanes(lanes, bundle)
    write_lanes(lanes, bundle, results.out.flat)


@kernel
def log_softmax_few(logits: Matrix, options: LogProbOptions, log_probs: Matrix):
    """Write the log-probabilities of each row of few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, n_rows)
        args, z = results_of(log_probs, options, -math.inf), view_logits(logits.flat, options)
        bundled_rows(bundle_log_softmax, args, z, n_classes, rows)


@staged
def bundle_log_softmax(results, lanes, bundle):
    """Write the log-probabilities of a bundle."""
    log_softmax_lanes(lanes, bundle)
    write_lanes(lanes, bundle, results.out.flat)


@kernel
def logsumexp_few(logits: Matrix, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of each row of few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, n_rows)
        bundled_rows(bundle_logsumexp, Results(lse), view_logits(logits.flat, options), n_classes, rows)


@staged
def bundle_logsumexp(results, lanes, bundle):
    """Write the logsumexp of a bundle."""
    store_first(results.out, bundle.row, bundle.n_rows, logsumexp_lanes(lanes, bundle))


@kernel
def softmax_blocked(logits: Matrix, options: LogitOptions, probs: Matrix):
    """Write the probabilities of long rows, which all threads share."""
    args = results_of(probs, options, 0.0)
    blocked_rows(prange, blocked.SOFTMAX, args, view_logits(logits, options), args.out)


@kernel
def log_softmax_blocked(logits: Matrix, options: LogProbOptions, log_probs: Matrix):
    """Write the log-probabilities of long rows, which all threads share."""
    args = results_of(log_probs, options, -math.inf)
    blocked_rows(prange, blocked.LOG_SOFTMAX, args, view_logits(logits, options), args.out)


@kernel
def logsumexp_blocked(logits: Matrix, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of long rows, which all threads share."""
    blocked_rows(prange, blocked.LOGSUMEXP, Results(lse), view_logits(logits, options))
