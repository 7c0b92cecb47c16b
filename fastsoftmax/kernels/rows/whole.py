"""One row's softmax, logsumexp and cross entropy, in one pass that adds up its exponentials.

What becomes of a result is the caller's: see `cached`, `streamed` and `blocked`.
"""

import math
from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import noinline, staged
from ..compiling.values import Vector
from ..simd.reduce import first_lane
from ..simd.vector import fma, is_double, lone, splat
from ..vecmath.log1p import log1p_quotient
from ..vecmath.quotient import multiply, row_quotient
from .logits import (
    exp_logit,
    exp_top,
    in_units,
    logit,
    row_scale,
    scale_in,
    scale_of,
    transform_of,
    wide_gap,
    wide_top,
)
from .loss import RowSums, leaves_out_top, row_loss
from .options import has_stats
from .passes import Row, exp_sum, row_max
from .stats import Prediction, predict, settled_prediction
from .streamed import Pending, store_row, stream_row
from .targets import weight_of_class

# Below this share of log Σ_j e^(q_j − m), m + log Σ has lost too many digits.
CANCELS = 0.25


@staged
def row_exps(logits, row, exps, pending, following):
    """Store e_j in `exps`; give 1 / Σ_s e_s for `probability`, and the next row's maximum."""
    sums = exp_sum(exp_logit, logits, row, row_scale(logits, row.top), -1, exps, pending, following)
    return row_quotient(logits, 1.0, sums.others), sums.next_top


@staged
def probability(e, j, left, quotient):
    """Compute a_j = e_j / Σ_s e_s."""
    return multiply(e, quotient)


@staged
def log_sum_row(logits, row, pending=None, following=None):
    """Compute (log Σ_j e^(q_j − m), the next row's maximum); m plus the first is logsumexp.

    The maximum's own term is left out of the sum and put back by log1p, which keeps what a term of 1 would swallow.
    """
    if math.isinf(row.top):
        if pending is not None:
            stream_row(pending)
        log_sum, m_next = nan_or_zero(logits, row.start, row.stop), -math.inf  # for the sum is m itself
        if following is not None:
            m_next = row_max(logits, row.start + following, row.stop + following)
    else:
        top = splat(logits, row.top)
        scale = scale_of(logits, top)
        sums = exp_sum(exp_logit, logits, row, scale, None, None, pending, following)
        log_sum, m_next = log_sum_of(logits, sums.others, first_lane(exp_top(scale))), sums.next_top
    return log_sum, m_next


@staged
def log_sum_of(like, others, e_top):
    """Compute log Σ_j e^(q_j − m) from the sum without the maximum's own term, and from that."""
    return first_lane(log1p_quotient(like, lone(others), lone(e_top)))


@noinline
def nan_or_zero(logits, start, stop):
    """Give NaN if there is one among the logits, else 0."""
    for i in range(start, stop):
        if math.isnan(logits[i]):
            return math.nan
    return 0.0


def row_top(logits, top):
    """Compute q of a row's greatest logit."""
    return top if transform_of(logits) is None else first_lane(wide_top(row_scale(logits, top)))


@staged
def logsumexp_row(logits, row, following):
    """Compute (m + log Σ_j e^(q_j − m), whether that is certain, the next row's maximum).

    In float32 the maximum's own term is added to its neighbours, and taken off at the end: to leave it out, as
    `log_sum_row` does, takes a tenth longer (M14). That costs half an ulp of its share in the sum, and is certain where
    the result is larger by far (M59). `slow_path.careful_logsumexp` is left to the caller, after its loop: a call
    within takes from the loop the registers that hold its constants, another tenth.
    """
    if is_double(logits):
        log_sum, m_next = log_sum_row(logits, row, None, following)
        share = 0.0
    else:
        top = splat(logits, row.top)
        scale = scale_of(logits, top)
        sums = exp_sum(exp_logit, logits, row, scale, following=following)
        e_top = first_lane(exp_top(scale))  # not before: the loop has a register more then
        total, m_next = sums.others, sums.next_top
        log_sum = log_sum_of(logits, total - e_top, e_top)
        share = e_top / total
    lse = row_top(logits, row.top) + log_sum
    return lse, abs(lse) >= max(CANCELS * log_sum, 8 * share), m_next


@staged
def log_softmax_row(logits, log_probs, start, stop):
    """Compute log a_j = (q_j − m) − log Σ_s e^(q_s − m)."""
    row = Row(start, stop, row_max(logits, start, stop))
    sums, _ = row_log_sums(logits, row)
    store_row(Pending(log_probability, sums, logits, start, log_probs, start, stop))


@staged
def row_log_sums(logits, row, pending=None, following=None):
    """Prepare `log_probability` for a row: (what it takes, the next row's maximum)."""
    log_sum, m_next = log_sum_row(logits, row, pending, following)
    return log_sums(logits, row.top, log_sum), m_next


class LogSums(NamedTuple):
    """What log-probabilities are made of, in vectors."""

    top: Vector  # the greatest logit
    log_sum: Vector  # log Σ_j e^(q_j − m)
    scale: Vector | None


def log_sums(logits, top, log_sum):
    """Prepare `log_probability` for a row."""
    return LogSums(splat(logits, top), splat(logits, log_sum), scale_in(logits, logits))


def log_probability(z, j, left, sums):
    """Compute log a_j = (q_j − m) − log Σ_s e^(q_s − m)."""
    below = z - sums.top
    return below - sums.log_sum if sums.scale is None else fma(below, sums.scale, -sums.log_sum)


# Cross entropy -------------------------------------------------------------------------------------------------------


class Found(NamedTuple):
    """What a row is asked about before its e_j may take the place of its logits."""

    y: Number | None
    z_label: Number | None
    prediction: Prediction | None


@staged
def look_up(logits, row, y, options):
    """Look a row's label up, and its first greatest class if that is asked for."""
    prediction = predict(logits, row.start, row.stop, row.top) if has_stats(options) else None
    return Found(y, None if y is None else logits[row.start + y], prediction)


@staged
def skip_of(options, start, found):
    """Give the entry that the sum of e_j leaves out: see `loss.leaves_out_top`."""
    if found.prediction is not None:
        return start + found.prediction.number
    return None if leaves_out_top(options) else start + found.y


@staged
def loss_from_sums(logits, row, found, scale, sums, options, exps=None):
    """Compute a row's loss, and what its gradient is made of, from the sums of `exp_sum`.

    `exps` is the place where e_j are, if the logits are there no more.
    """
    labelled = found.z_label is not None
    label = logit(splat(logits, found.z_label), scale.transform) if labelled else None
    w_label = weight_of_class(options, found.y) if labelled else None
    prediction = found.prediction
    if prediction is not None:
        values, start = (logits, row.start) if exps is None else (exps.values, exps.at)
        prediction = settled_prediction(prediction, sums.others, row.top, values, start, start + (row.stop - row.start))
    of_row = RowSums(
        _lone(wide_top(scale)),
        in_units(logits, _lone(wide_gap(scale, label))) if labelled else None,
        _lone(exp_top(scale)),
        _lone(exp_logit(label, scale)) if labelled else None,
        lone(sums.others),
        None if w_label is None else lone(w_label),
        None if sums.shortfall is None else in_units(logits, lone(sums.shortfall)),
        None if sums.weight is None else lone(sums.weight),
        None if sums.dispersion is None else in_units(logits, lone(sums.dispersion)),
        prediction,
    )
    return row_loss(logits, of_row, options, row.stop - row.start)


def _lone(vector):
    """Make a vector of one lane of what all lanes hold."""
    return lone(first_lane(vector))


@staged
def cross_entropy_row(logits, row, y, options, exps=None, pending=None, following=None):
    """Compute (a row's loss, the next row's maximum); store the e_j in `exps`."""
    scale, found = row_scale(logits, row.top), look_up(logits, row, y, options)
    skip = skip_of(options, row.start, found)
    sums = exp_sum(exp_logit, logits, row, scale, skip, exps, pending, following, options)
    return loss_from_sums(logits, row, found, scale, sums, options), sums.next_top
