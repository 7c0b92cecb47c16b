"""Rows so long that no cache holds them, in blocks: all threads share each row.

See `blocks` for how; here is what operations do with it.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..compiling.staging import noinline, staged
from ..simd.reduce import first_lane
from ..vecmath.quotient import least_quotient, multiply, row_quotient
from .cached import cross_entropy_with_grad_row, room_for_exps, softmax_row
from .gradient import gradient_anew, gradient_of_logits, gradient_terms, label_entry
from .logits import exp_logit, exp_top, logit, row_scale, view_results
from .loss import leaves_out_top
from .options import factor_of, is_left_out, label_of, leave_out_after
from .passes import Row, row_max, row_range
from .slow_path import careful_logsumexp
from .stats import store_found
from .whole import (
    CANCELS,
    Found,
    cross_entropy_row,
    log_probability,
    log_softmax_row,
    log_sum_of,
    log_sums,
    loss_from_sums,
    row_top,
)


@staged
def _e_top(logits, m):
    """Compute e_m, as `merge` relates it to the row."""
    return first_lane(exp_top(row_scale(logits, m)))


class Blocked(NamedTuple):
    """What is done with rows in blocks."""

    skip: Callable  # (args, row, start) → the entry that sums leave out
    conclude: Callable  # (args, logits, row, start, stop, merged) → (whether the row is done, what `prepare` takes)
    prepare: Callable | None = None  # (logits, m, given) → what `finish` takes
    finish: Callable | None = None  # for `write_block`


# Softmax, log-softmax, logsumexp -----------------------------------------------------------------------------------
# A row whose sum is NaN is done as a whole: it is not finite, or its blocks do not share a power of two.


class Results(NamedTuple):
    """Where results go, as options have them: an array of rows, or of one number per row."""

    out: Any
    options: None = None  # those of a loss


def results_of(out, options, fill):
    """Give an array that is `fill` for classes that a mask leaves out."""
    return Results(view_results(out, options, fill))


@staged
def _skip_none(args, row, start):
    return -1


@staged
def _skip_maximum(args, row, start):
    return None


@staged
def _conclude_logsumexp(args, logits, row, start, stop, merged):
    log_sum = log_sum_of(logits, merged.sums.others, _e_top(logits, merged.top))
    lse = row_top(logits, merged.top) + log_sum
    certain = abs(lse) >= CANCELS * log_sum  # NaN never is
    args.out[row] = lse if certain else careful_logsumexp(logits, start, stop)
    return True, None


@staged
def _conclude_softmax(args, logits, row, start, stop, merged):
    total = merged.sums.others
    whole = math.isnan(total)
    if whole:
        _softmax_whole(logits, start, stop, args.out.flat)
    return whole, total


@noinline
def _softmax_whole(logits, start, stop, probs):
    found = row_range(logits, start, stop)
    softmax_row(logits, Row(start, stop, found.top, found.near, 0), probs, room_for_exps(probs, stop - start))


@staged
def _prepare_softmax(logits, m, total):
    return row_scale(logits, m), row_quotient(logits, 1.0, total)


@staged
def _probability_of_logit(z, j, left, given):
    """Compute e^q / Σ_s e^q_s."""
    scale, quotient = given[1]
    return multiply(exp_logit(logit(z, scale.transform), scale), quotient)


@staged
def _conclude_log_softmax(args, logits, row, start, stop, merged):
    total = merged.sums.others
    whole = math.isnan(total)
    if whole:
        _log_softmax_whole(logits, start, stop, args.out.flat)
    return whole, log_sum_of(logits, total, _e_top(logits, merged.top))


@noinline
def _log_softmax_whole(logits, start, stop, log_probs):
    log_softmax_row(logits, log_probs, start, stop)


@staged
def _prepare_log_softmax(logits, m, log_sum):
    return log_sums(logits, m, log_sum)


@staged
def _log_probability_of_logit(z, j, left, given):
    return log_probability(z, j, left, given[1])


LOGSUMEXP = Blocked(_skip_maximum, _conclude_logsumexp)
SOFTMAX = Blocked(_skip_none, _conclude_softmax, _prepare_softmax, _probability_of_logit)
LOG_SOFTMAX = Blocked(_skip_maximum, _conclude_log_softmax, _prepare_log_softmax, _log_probability_of_logit)


# Cross entropy ------------------------------------------------------------------------------------------------------


@staged
def _skip_label(args, row, start):
    return None if leaves_out_top(args.options) else start + label_of(args, row)


@staged
def _loss_of_row(args, logits, row, start, stop, merged):
    y, m = label_of(args, row), merged.top
    found = Found(y, None if y is None else logits[start + y], merged.prediction)
    return loss_from_sums(logits, Row(start, stop, m), found, row_scale(logits, m), merged.sums, args.options)


@staged
def _conclude_loss(args, logits, row, start, stop, merged):
    if math.isnan(merged.sums.others):
        _loss_as_a_whole(args, logits, row, start, stop)
    else:
        store_found(args, row, _loss_of_row(args, logits, row, start, stop, merged))
    leave_out_after(args, row, start, stop)
    return True, None


@noinline
def _loss_as_a_whole(args, logits, row, start, stop):
    whole = Row(start, stop, row_max(logits, start, stop))
    store_found(args, row, cross_entropy_row(logits, whole, label_of(args, row), args.options)[0])


@staged
def _conclude_gradient(args, logits, row, start, stop, merged):
    found = _loss_of_row(args, logits, row, start, stop, merged)
    terms = gradient_terms(found, factor_of(args, row), args.options, start)
    whole = math.isnan(merged.sums.others) or 0 < abs(terms.weight) < least_quotient(logits) * terms.total
    if whole:
        cross_entropy_again(args, logits, row, start, stop)
    else:
        store_found(args, row, found)
    leave_out_after(args, row, start, stop)
    whole = whole | is_left_out(args, row)
    return whole, (terms, label_entry(found, label_of(args, row)))


@noinline
def cross_entropy_again(args, logits, row, start, stop):
    """Do a row as a cached one: where its quotient is too small for `multiply`, or it is not finite."""
    found = row_range(logits, start, stop)
    whole = Row(start, stop, found.top, found.near, 0)
    y, factor, dlogits = label_of(args, row), factor_of(args, row), args.gradients
    room = room_for_exps(dlogits, stop - start)
    store_found(args, row, cross_entropy_with_grad_row(logits, whole, y, factor, args.options, dlogits, room)[0])
    leave_out_after(args, row, start, stop)


@staged
def _prepare_gradient(logits, m, given):
    return gradient_of_logits(logits, m, *given)


@staged
def _gradient_of_logit(z, j, left, given):
    first, prepared = given
    return gradient_anew(z, first + j, left, prepared)


CROSS_ENTROPY = Blocked(_skip_label, _conclude_loss)
CROSS_ENTROPY_WITH_GRAD = Blocked(_skip_label, _conclude_gradient, _prepare_gradient, _gradient_of_logit)
