"""One row's softmax, logsumexp and cross entropy, in one pass that adds up its exponentials.

What becomes of a result is the caller's: see `cached`, `streamed` and `blocked`.
"""

import math

from ..compiling.staging import noinline, staged
from ..simd.reduce import first_lane
from ..simd.vector import is_double, lone, splat
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.log1p import log1p_quotient
from ..vecmath.quotient import multiply, row_quotient
from .loss import LabelSums, row_loss, smoothed, weight_of_class
from .passes import Row, exp_sum, row_max
from .streamed import Pending, store_row, stream_row

# Below this share of log Σ_j e^(z_j − m), m + log Σ has lost too many digits.
CANCELS = 0.25


@staged
def row_exps(logits, row, exps, pending, following):
    """Store e_j in `exps`; give 1 / Σ_s e_s for `probability`, and the next row's maximum."""
    sums = exp_sum(exp_scaled, logits, row, scale_of(splat(logits, row.top)), -1, exps, pending, following)
    return row_quotient(logits, 1.0, sums.others), sums.next_top


@staged
def probability(e, j, left, quotient):
    """Compute a_j = e_j / Σ_s e_s."""
    return multiply(e, quotient)


@staged
def log_sum_row(logits, row, pending=None, following=None):
    """Compute (log Σ_j e^(z_j − m), the next row's maximum); m plus the first is logsumexp.

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
        scale = scale_of(top)
        sums = exp_sum(exp_scaled, logits, row, scale, None, None, pending, following)
        log_sum, m_next = log_sum_of(logits, sums.others, first_lane(exp_scaled(top, scale))), sums.next_top
    return log_sum, m_next


@staged
def log_sum_of(like, others, e_top):
    """Compute log Σ_j e^(z_j − m) from the sum without the maximum's own term, and from that."""
    return first_lane(log1p_quotient(like, lone(others), lone(e_top)))


@noinline
def nan_or_zero(logits, start, stop):
    """Give NaN if there is one among the logits, else 0."""
    for i in range(start, stop):
        if math.isnan(logits[i]):
            return math.nan
    return 0.0


@staged
def logsumexp_row(logits, row, following):
    """Compute (m + log Σ_j e^(z_j − m), whether that is certain, the next row's maximum).

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
        scale = scale_of(top)
        sums = exp_sum(exp_scaled, logits, row, scale, following=following)
        e_top = first_lane(exp_scaled(top, scale))  # not before: the loop has a register more then
        total, m_next = sums.others, sums.next_top
        log_sum = log_sum_of(logits, total - e_top, e_top)
        share = e_top / total
    lse = row.top + log_sum
    return lse, abs(lse) >= max(CANCELS * log_sum, 8 * share), m_next


@staged
def log_softmax_row(logits, log_probs, start, stop):
    """Compute log a_j = (z_j − m) − log Σ_s e^(z_s − m)."""
    row = Row(start, stop, row_max(logits, start, stop))
    sums, _ = row_log_sums(logits, row)
    store_row(Pending(log_probability, sums, logits, start, log_probs, start, stop))


@staged
def row_log_sums(logits, row, pending=None, following=None):
    """Prepare `log_probability` for a row: (what it takes, the next row's maximum)."""
    log_sum, m_next = log_sum_row(logits, row, pending, following)
    return (splat(logits, row.top), splat(logits, log_sum)), m_next


@staged
def log_probability(z, j, left, sums):
    """Compute log a_j = (z_j − m) − log Σ_s e^(z_s − m)."""
    return (z - sums[0]) - sums[1]


@staged
def loss_from_sums(logits, row, y, z_label, scale, sums, options):
    """Compute a row's loss, and what its gradient is made of, from the sums of `exp_sum`."""
    e_top = exp_scaled(splat(logits, row.top), scale)
    e_label = exp_scaled(splat(logits, z_label), scale)
    w_label = weight_of_class(options, y)
    found = LabelSums(
        lone(row.top),
        lone(z_label),
        lone(first_lane(e_top)),
        lone(first_lane(e_label)),
        lone(sums.others),
        None if w_label is None else lone(w_label),
        None if sums.shortfall is None else lone(sums.shortfall),
    )
    return row_loss(logits, found, options, row.stop - row.start)


@staged
def cross_entropy_row(logits, row, y, options, exps=None, pending=None, following=None):
    """Compute (a row's loss, the next row's maximum); store the e_j in `exps`, 0 at the label."""
    scale, z_label = scale_of(splat(logits, row.top)), logits[row.start + y]  # before e_j takes its place
    sums = exp_sum(exp_scaled, logits, row, scale, row.start + y, exps, pending, following, smoothed(options))
    return loss_from_sums(logits, row, y, z_label, scale, sums, options), sums.next_top
