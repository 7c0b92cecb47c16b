"""Rows so long that no cache holds them, in blocks: all threads share each row.

A block is read while its maximum is found, and is in the second-level cache when its exponentials are added up,
relative to a power of two of its own; the maxima give the row's, and the powers cancel exactly. So sums read each logit
from memory once. A result reads it once more, takes e^z anew, which costs less than to keep it in memory, and is
written past the caches, unless it is in place. 4 × 8,388,608 float32, a thread a row and in blocks: logsumexp took 7.0
and 4.7 ms; one row of as many elements, 12 and 4.7, its cross entropy with the gradient 18 and 11 in place.
"""

import math

import numpy as np
from numba import prange

from .compiling.jit import Doubles, Labels, Line, Matrix, kernel
from .compiling.staging import apart, staged
from .cross_entropy import cross_entropy_again, weight_of
from .rows.cached import row_range, softmax_row
from .rows.row import (
    CANCELS,
    cross_entropy_row,
    exp_sum,
    log_softmax_row,
    log_sum_of,
    loss_and_sum,
    nan_or_zero,
    put_label,
    row_max,
    row_quotient,
    subtract,
)
from .rows.slow_path import careful_logsumexp
from .rows.streamed import store_row, stream_row
from .simd.accumulate import sum_all
from .simd.memory import finish_streams, overlap
from .simd.reduce import first_lane
from .simd.vector import splat
from .tuning import BLOCK_CLASSES
from .vecmath.exp import EXACT, exp_scaled, exponent_of, scale_of
from .vecmath.quotient import least_quotient, multiply


@staged
def empty_parts(n_classes):
    """Make room for each block's m, Σ e_j and e_m."""
    return np.empty((3, -(-n_classes // BLOCK_CLASSES)))


@staged
def sum_block(logits, start, stop, block, skip, parts):
    """Find m, Σ_{j≠skip} e_j and e_m of a block of the row from start to stop; `skip` is as in `exp_sum`."""
    first = start + np.intp(block) * BLOCK_CLASSES
    last = min(first + BLOCK_CLASSES, stop)
    m = row_max(logits, first, last)
    parts[0, block] = m
    if math.isinf(m):
        parts[1, block], parts[2, block] = nan_or_zero(logits, first, last), 0.0
    else:
        scale = scale_of(splat(logits, m))
        parts[1, block], _ = exp_sum(exp_scaled, logits, (first, last, m), skip, scale, None, first, None, None, None)
        parts[2, block] = first_lane(exp_scaled(splat(logits, m), scale))


@staged
def merge(logits, skip, parts):
    """Merge a row's blocks into (m, Σ_{j≠skip} e_j), where e_j is relative to the row's own power of two.

    The sum is NaN where a logit is, where m is infinite, and where maxima are too large for powers of two to tell the
    blocks' scales apart.
    """
    maxima, sums, tops = parts[0], parts[1], parts[2]
    m = maxima[0]
    for block in range(1, maxima.size):
        m = max(m, maxima[block])
    exponent = _exponent(logits, m)
    kept = -1
    for block in range(maxima.size):
        if abs(m) > EXACT or EXACT < abs(maxima[block]) < math.inf:
            sums[block] = math.nan
        elif maxima[block] > -math.inf:
            if skip is None:
                if kept < 0 and maxima[block] == m:
                    kept = block
                else:
                    sums[block] += tops[block]
            sums[block] = math.ldexp(sums[block], np.intp(_exponent(logits, maxima[block]) - exponent))
    return logits.dtype.type(m), sum_all(sums)


@staged
def _exponent(logits, m):
    return first_lane(exponent_of(splat(logits, m)))


@staged
def exp_of_max(logits, m):
    """Compute e_m, as `merge` relates it to the row."""
    top = splat(logits, m)
    return first_lane(exp_scaled(top, scale_of(top)))


@staged
def write_block(finish, arguments, logits, start, stop, block, out):
    """Write finish(z, arguments) for a block of a row, past the caches unless in place."""
    first = start + np.intp(block) * BLOCK_CLASSES
    last = min(first + BLOCK_CLASSES, stop)
    pending = (arguments, logits, first, out, first, last)
    if overlap(logits, out):
        store_row(finish, pending)
    else:
        stream_row(finish, pending)
        finish_streams()


@staged
def quotient_of_exp(z, arguments):
    """Compute e^z · weight / total."""
    scale, quotient = arguments
    return multiply(exp_scaled(z, scale), quotient)


# What rows do that are not finite, or too large for their blocks to share a power of two: see `merge`.


@apart
def _softmax_whole(logits, start, stop, probs):
    m, near = row_range(logits, start, stop)
    softmax_row(logits, (start, stop, m, near), probs, 0)


@apart
def _log_softmax_whole(logits, start, stop, log_probs):
    log_softmax_row(logits, start, stop, log_probs)


@apart
def _cross_entropy_whole(logits, start, stop, label):
    row = start, stop, row_max(logits, start, stop)
    return cross_entropy_row(logits, row, label, None, start, None, None, None)[0]


@kernel
def logsumexp_blocked(logits: Matrix, lse: Line):
    """Do `logsumexp` for rows that no cache holds."""
    n_rows, n_classes = logits.shape
    flat = logits.flat
    parts = empty_parts(n_classes)
    for row in range(n_rows):
        start, stop = row * n_classes, (row + 1) * n_classes
        for block in prange(parts.shape[1]):
            sum_block(flat, start, stop, block, None, parts)
        m, others = merge(flat, None, parts)
        log_sum = log_sum_of(flat, others, exp_of_max(flat, m))
        certain = abs(m + log_sum) >= CANCELS * log_sum  # NaN never is
        lse[row] = m + log_sum if certain else careful_logsumexp(flat, start, stop)


@kernel
def softmax_blocked(logits: Matrix, probs: Matrix):
    """Do `softmax` for rows that no cache holds."""
    n_rows, n_classes = logits.shape
    flat, flat_out = logits.flat, probs.flat
    parts = empty_parts(n_classes)
    for row in range(n_rows):
        start, stop = row * n_classes, (row + 1) * n_classes
        for block in prange(parts.shape[1]):
            sum_block(flat, start, stop, block, -1, parts)
        m, total = merge(flat, -1, parts)
        if math.isnan(total):
            _softmax_whole(flat, start, stop, flat_out)
            continue
        for block in prange(parts.shape[1]):
            arguments = scale_of(splat(flat, m)), row_quotient(flat, 1.0, total)
            write_block(quotient_of_exp, arguments, flat, start, stop, block, flat_out)


@kernel
def log_softmax_blocked(logits: Matrix, log_probs: Matrix):
    """Do `log_softmax` for rows that no cache holds."""
    n_rows, n_classes = logits.shape
    flat, flat_out = logits.flat, log_probs.flat
    parts = empty_parts(n_classes)
    for row in range(n_rows):
        start, stop = row * n_classes, (row + 1) * n_classes
        for block in prange(parts.shape[1]):
            sum_block(flat, start, stop, block, None, parts)
        m, others = merge(flat, None, parts)
        if math.isnan(others):
            _log_softmax_whole(flat, start, stop, flat_out)
            continue
        log_sum = log_sum_of(flat, others, exp_of_max(flat, m))
        for block in prange(parts.shape[1]):
            sums = splat(flat, m), splat(flat, log_sum)
            write_block(subtract, sums, flat, start, stop, block, flat_out)


@kernel
def cross_entropy_blocked(logits: Matrix, labels: Labels, ignore_index: int, losses: Doubles):
    """Do `cross_entropy` for rows that no cache holds."""
    n_rows, n_classes = logits.shape
    flat = logits.flat
    parts = empty_parts(n_classes)
    for row in range(n_rows):
        if labels[row] == ignore_index:
            losses[row] = 0.0
            continue
        start, stop = row * n_classes, (row + 1) * n_classes
        label = start + labels[row]
        for block in prange(parts.shape[1]):
            sum_block(flat, start, stop, block, label, parts)
        m, others = merge(flat, label, parts)
        if math.isnan(others):
            losses[row] = _cross_entropy_whole(flat, start, stop, label)
        else:
            losses[row], _ = loss_and_sum(flat, m, flat[label], scale_of(splat(flat, m)), others)


@kernel
def cross_entropy_with_grad_blocked(
    logits: Matrix, labels: Labels, ignore_index: int, weight: float, dloss: Line, losses: Doubles, dlogits: Matrix
):
    """Do `cross_entropy_with_grad` for rows that no cache holds."""
    n_rows, n_classes = logits.shape
    flat, flat_out = logits.flat, dlogits.flat
    parts = empty_parts(n_classes)
    for row in range(n_rows):
        start, stop = row * n_classes, (row + 1) * n_classes
        if labels[row] == ignore_index:
            losses[row] = 0.0
            flat_out[start:stop] = 0
            continue
        label = start + labels[row]
        for block in prange(parts.shape[1]):
            sum_block(flat, start, stop, block, label, parts)
        m, others = merge(flat, label, parts)
        loss, total = loss_and_sum(flat, m, flat[label], scale_of(splat(flat, m)), others)
        factor = weight_of(row, weight, dloss)
        if math.isnan(others) or 0 < abs(factor) < least_quotient(flat) * total:
            losses[row] = cross_entropy_again(flat, start, stop, label, factor, flat_out)
            continue
        losses[row] = loss
        for block in prange(parts.shape[1]):
            arguments = scale_of(splat(flat, m)), row_quotient(flat, factor, total)
            write_block(quotient_of_exp, arguments, flat, start, stop, block, flat_out)
        put_label(flat_out, label, others)
        flat_out[label] = first_lane(multiply(splat(flat, flat_out[label]), row_quotient(flat, factor, total)))
