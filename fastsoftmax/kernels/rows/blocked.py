"""Rows so long that no cache holds them, in blocks: all threads share each row.

See `blocks` for how; here is what operations do with it.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from ..compiling.staging import noinline, staged
from ..compiling.views import Array
from ..simd.reduce import first_lane
from ..simd.vector import splat
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.quotient import least_quotient, multiply, row_quotient
from .cached import cross_entropy_with_grad_row, softmax_row
from .gradient import gradient, gradient_of, gradient_terms
from .loss import factor_of, store_loss
from .passes import Row, row_max, row_range
from .slow_path import careful_logsumexp
from .whole import (
    CANCELS,
    cross_entropy_row,
    log_probability,
    log_softmax_row,
    log_sum_of,
    loss_from_sums,
)


@staged
def _e_top(logits, m):
    """Compute e_m, as `merge` relates it to the row."""
    top = splat(logits, m)
    return first_lane(exp_scaled(top, scale_of(top)))


class Blocked(NamedTuple):
    """What is done with rows in blocks."""

    skip: Callable  # (args, row, start) → the entry that sums leave out
    conclude: Callable  # (args, logits, row, start, stop, m, sums) → (whether the row is done, what `prepare` takes)
    prepare: Callable | None = None  # (logits, m, given) → what `finish` takes
    finish: Callable | None = None  # for `write_block`
    settle: Callable | None = None  # (args, logits, out, row, start, m, given): what is left when blocks are written


# Softmax, log-softmax, logsumexp -----------------------------------------------------------------------------------
# A row whose sum is NaN is done as a whole: it is not finite, or its blocks do not share a power of two.


class Results(NamedTuple):
    """Where results go: an array of rows, or of one number per row."""

    out: Array
    options: None = None


@staged
def _skip_none(args, row, start):
    return -1


@staged
def _skip_maximum(args, row, start):
    return None


@staged
def _conclude_logsumexp(args, logits, row, start, stop, m, sums):
    log_sum = log_sum_of(logits, sums.others, _e_top(logits, m))
    certain = abs(m + log_sum) >= CANCELS * log_sum  # NaN never is
    args.out[row] = m + log_sum if certain else careful_logsumexp(logits, start, stop)
    return True, None


@staged
def _conclude_softmax(args, logits, row, start, stop, m, sums):
    whole = math.isnan(sums.others)
    if whole:
        _softmax_whole(logits, start, stop, args.out.flat)
    return whole, sums.others


@noinline
def _softmax_whole(logits, start, stop, probs):
    found = row_range(logits, start, stop)
    softmax_row(logits, Row(start, stop, found.top, found.near, 0), probs)


@staged
def _prepare_softmax(logits, m, total):
    return scale_of(splat(logits, m)), row_quotient(logits, 1.0, total)


@staged
def _probability_of_logit(z, j, left, given):
    """Compute e^z / Σ_s e^z_s."""
    scale, quotient = given[1]
    return multiply(exp_scaled(z, scale), quotient)


@staged
def _conclude_log_softmax(args, logits, row, start, stop, m, sums):
    whole = math.isnan(sums.others)
    if whole:
        _log_softmax_whole(logits, start, stop, args.out.flat)
    return whole, log_sum_of(logits, sums.others, _e_top(logits, m))


@noinline
def _log_softmax_whole(logits, start, stop, log_probs):
    log_softmax_row(logits, log_probs, start, stop)


@staged
def _prepare_log_softmax(logits, m, log_sum):
    return splat(logits, m), splat(logits, log_sum)


@staged
def _log_probability_of_logit(z, j, left, given):
    return log_probability(z, j, left, given[1])


LOGSUMEXP = Blocked(_skip_maximum, _conclude_logsumexp)
SOFTMAX = Blocked(_skip_none, _conclude_softmax, _prepare_softmax, _probability_of_logit)
LOG_SOFTMAX = Blocked(_skip_maximum, _conclude_log_softmax, _prepare_log_softmax, _log_probability_of_logit)


# Cross entropy ------------------------------------------------------------------------------------------------------


@staged
def _skip_label(args, row, start):
    return start + args.labels[row]


@staged
def _loss_of_row(args, logits, row, start, stop, m, sums):
    y = args.labels[row]
    scale = scale_of(splat(logits, m))
    return loss_from_sums(logits, Row(start, stop, m), y, logits[start + y], scale, sums, args.options)


@staged
def _conclude_loss(args, logits, row, start, stop, m, sums):
    if math.isnan(sums.others):
        store_loss(args, row, _loss_as_a_whole(logits, start, stop, args.labels[row], args.options))
    else:
        store_loss(args, row, first_lane(_loss_of_row(args, logits, row, start, stop, m, sums).loss))
    return True, None


@noinline
def _loss_as_a_whole(logits, start, stop, y, options):
    row = Row(start, stop, row_max(logits, start, stop))
    return first_lane(cross_entropy_row(logits, row, y, options)[0].loss)


@staged
def _conclude_gradient(args, logits, row, start, stop, m, sums):
    found = _loss_of_row(args, logits, row, start, stop, m, sums)
    terms = gradient_terms(found, factor_of(args, row), args.options)
    whole = math.isnan(sums.others) or 0 < abs(terms.weight) < least_quotient(logits) * terms.total
    if whole:
        store_loss(args, row, cross_entropy_again(args, logits, row, start, stop))
    else:
        store_loss(args, row, first_lane(found.loss))
    return whole, (terms, first_lane(found.entry))


@noinline
def cross_entropy_again(args, logits, row, start, stop):
    """Write a row's gradient as that of a cached row: one whose quotient is too small for `multiply`, or not finite."""
    found = row_range(logits, start, stop)
    whole = Row(start, stop, found.top, found.near, 0)
    factor, out = factor_of(args, row), args.dlogits.flat
    return cross_entropy_with_grad_row(logits, whole, args.labels[row], factor, args.options, out)[0]


@staged
def _prepare_gradient(logits, m, given):
    return scale_of(splat(logits, m)), gradient_of(logits, multiply, given[0])


@staged
def _gradient_of_logit(z, j, left, given):
    first, (scale, found) = given
    return gradient(exp_scaled(z, scale), first + j, left, found)


@staged
def _settle_gradient(args, logits, out, row, start, m, given):
    terms, entry = given
    y = args.labels[row]
    out[start + y] = first_lane(gradient(splat(logits, entry), y, 1, gradient_of(logits, multiply, terms)))


CROSS_ENTROPY = Blocked(_skip_label, _conclude_loss)
CROSS_ENTROPY_WITH_GRAD = Blocked(
    _skip_label, _conclude_gradient, _prepare_gradient, _gradient_of_logit, _settle_gradient
)
