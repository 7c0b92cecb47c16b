"""The mathematics of one row: the entries start to stop of a flat array.

A tuple (start, stop, m) is a row whose maximum m is known. `following`, where it is not None, is how many entries
further the next row of this thread is, 0 if there is none: its maximum is found while this row's exponentials are added
up, for arithmetic has time left then. 1,024 × 32,000 cross entropy took 4.1 ms with a pass of its own for the maximum,
3.85 now. Where the exponentials are stored to the result it does not pay: addresses of the two rows that agree in their
last 12 bits make loads wait for stores (8,192 × 1,000 took 1.9 ms where it takes 1.6). See `stores` for those rows.

e_j stands for e^z_j over a power of two that the row shares (see `elementary.scale_of`); it cancels in every quotient.
"""

import math

from ..compiling.staging import apart, staged
from ..simd.accumulate import add_four_to_sum, add_to_sum, empty_sum, sum_of
from ..simd.memory import load, load_first, prefetch, store, store_first
from ..simd.reduce import count_equal, first_lane, greatest_lane
from ..simd.vector import drop_lane, greater, lanes_of, splat, where_equal, wide
from ..tuning import LONG_ROW_LEAD, ROW_LEAD
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.log1p import log1p_quotient
from ..vecmath.quotient import quotient_of
from .streamed import store_row, stream_four, stream_head, stream_rest, stream_row

# Below this share of log Σ_j e^(z_j − m), m + log Σ has lost too many digits.
CANCELS = 0.25


@staged
def row_max(logits, start, stop):
    """Find max_j z_j; NaN is passed over."""
    width = lanes_of(logits)
    m0 = m1 = m2 = m3 = splat(logits, -math.inf)
    i = start
    while i + 4 * width <= stop:
        m0 = greater(load(logits, i), m0)
        m1 = greater(load(logits, i + width), m1)
        m2 = greater(load(logits, i + 2 * width), m2)
        m3 = greater(load(logits, i + 3 * width), m3)
        i += 4 * width
    while i < stop:
        m0 = greater(load_first(logits, i, stop - i, -math.inf), m0)
        i += width
    return greatest_lane(greater(greater(m0, m1), greater(m2, m3)))


@staged
def exp_sum(exp, logits, row, skip, scale, out, at, finish, pending, following):
    """Compute (Σ_{j≠skip} e_j, the next row's maximum, or −inf where `following` is None).

    `exp` is `exp_scaled` or `exp_near`. `skip` is an entry, −1 for none, or None for one that holds the maximum. e_j is
    stored in `out` from `at` on (0 at skip), or nowhere if that is None. Meanwhile the next row is asked for: 1,024 ×
    32,000 logsumexp took 5.7 ms without, 4.2 with it. And a `pending` row, if there is one, is written: see `streams`.
    """
    start, stop, m = row
    width = lanes_of(logits)
    total = empty_sum()
    top, ties = splat(logits, m), 0
    m_next = splat(logits, -math.inf)
    ahead = stop - start + (ROW_LEAD if following is None else LONG_ROW_LEAD)
    if pending is not None:
        done = stream_head(finish, pending)
    i = start
    while i + 4 * width <= stop:
        for k in range(0, 4 * width, width):
            prefetch(logits, i + k + ahead)
            if following is not None:
                m_next = greater(load(logits, i + k + following), m_next)
        z0, z1 = load(logits, i), load(logits, i + width)
        z2, z3 = load(logits, i + 2 * width), load(logits, i + 3 * width)
        e0, e1, e2, e3 = exp(z0, scale), exp(z1, scale), exp(z2, scale), exp(z3, scale)
        if skip is None:
            ties += count_equal(z0, top) + count_equal(z1, top) + count_equal(z2, top) + count_equal(z3, top)
            e0, e1 = drop_equal(e0, z0, top), drop_equal(e1, z1, top)
            e2, e3 = drop_equal(e2, z2, top), drop_equal(e3, z3, top)
        elif i <= skip < i + 4 * width:
            e0 = drop_lane(e0, skip - i)
            e1 = drop_lane(e1, skip - i - width)
            e2 = drop_lane(e2, skip - i - 2 * width)
            e3 = drop_lane(e3, skip - i - 3 * width)
        if out is not None:
            here = at + i - start
            store(out, here, e0)
            store(out, here + width, e1)
            store(out, here + 2 * width, e2)
            store(out, here + 3 * width, e3)
        total = add_four_to_sum(total, e0, e1, e2, e3)
        if pending is not None:
            done = stream_four(finish, pending, done)
        i += 4 * width
    while i < stop:
        prefetch(logits, i + ahead)
        if following is not None:
            m_next = greater(load_first(logits, i + following, stop - i, -math.inf), m_next)
        z = load_first(logits, i, stop - i, -math.inf)
        e = exp_scaled(z, scale)  # zero for what is no entry
        if skip is None:
            ties += count_equal(z, top)
            e = drop_equal(e, z, top)
        else:
            e = drop_lane(e, skip - i)
        if out is not None:
            store_first(out, at + i - start, stop - i, e)
        total = add_to_sum(total, e)
        i += width
    if pending is not None:
        stream_rest(finish, pending, done)
    value = sum_of(total, logits)
    if skip is None:
        value += (ties - 1) * first_lane(exp_scaled(top, scale))
    return value, greatest_lane(m_next)


@staged
def drop_equal(e, z, top):
    """Set e to zero where z is the maximum."""
    return where_equal(z, top, splat(e, 0.0), e)


@staged
def row_quotient(values, weight, total):
    """Prepare `multiply` by weight / total for a row."""
    weights, totals = wide(weight), wide(total)
    return quotient_of(splat(values, 0.0), (weights, weights), (totals, totals))


@staged
def row_exps(logits, row, exps, at, finish, pending, following):
    """Store e_j in `exps` as `exp_sum` does; give 1 / Σ_s e_s for `multiply`, and the next row's maximum."""
    scale = scale_of(splat(logits, row[2]))
    total, m_next = exp_sum(exp_scaled, logits, row, -1, scale, exps, at, finish, pending, following)
    return row_quotient(logits, 1.0, total), m_next


@staged
def log_sum_row(logits, row, finish, pending, following):
    """Compute (log Σ_j e^(z_j − m), the next row's maximum); m plus the first is logsumexp.

    The maximum's own term is left out of the sum and put back by log1p, which keeps what a term of 1 would swallow.
    """
    start, stop, m = row
    if math.isinf(m):
        if pending is not None:
            stream_row(finish, pending)
        log_sum, m_next = nan_or_zero(logits, start, stop), -math.inf  # for the sum is m itself
        if following is not None:
            m_next = row_max(logits, start + following, stop + following)
    else:
        top = splat(logits, m)
        scale = scale_of(top)
        others, m_next = exp_sum(exp_scaled, logits, row, None, scale, None, start, finish, pending, following)
        log_sum = log_sum_of(logits, others, first_lane(exp_scaled(top, scale)))
    return log_sum, m_next


@staged
def log_sum_of(like, others, e_top):
    """Compute log Σ_j e^(z_j − m) from the sum without the maximum's own term, and from that."""
    return first_lane(log1p_quotient(like, wide(others), wide(e_top)))


@apart
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
    `log_sum_row` does, takes a tenth of the time. That costs half an ulp of its share in the sum, and is certain where
    the result is larger by far. `careful.careful_logsumexp` is left to the caller, after its loop: a call within takes
    from the loop the registers that hold its constants, another tenth.
    """
    if lanes_of(logits) == 8:
        log_sum, m_next = log_sum_row(logits, row, None, None, following)
        share = 0.0
    else:
        top = splat(logits, row[2])
        scale = scale_of(top)
        e_top = first_lane(exp_scaled(top, scale))
        total, m_next = exp_sum(exp_scaled, logits, row, -1, scale, None, row[0], None, None, following)
        log_sum = log_sum_of(logits, total - e_top, e_top)
        share = e_top / total
    lse = row[2] + log_sum
    return lse, abs(lse) >= max(CANCELS * log_sum, 8 * share), m_next


@staged
def log_softmax_row(logits, start, stop, log_probs):
    """Compute log a_j = (z_j − m) − log Σ_s e^(z_s − m)."""
    row = (start, stop, row_max(logits, start, stop))
    sums, _ = row_log_sums(logits, row, None, None, None)
    store_row(subtract, (sums, logits, start, log_probs, start, stop))


@staged
def row_log_sums(logits, row, finish, pending, following):
    """Prepare `subtract` for a row: (what it takes, the next row's maximum)."""
    log_sum, m_next = log_sum_row(logits, row, finish, pending, following)
    return (splat(logits, row[2]), splat(logits, log_sum)), m_next


@staged
def subtract(z, sums):
    """Subtract m, then log Σ_s e^(z_s − m)."""
    return (z - sums[0]) - sums[1]


@staged
def loss_of(like, top, z_label, e_top, e_label, others):
    """Compute −log a_y for float64 lanes, from m, z_y, e_m, e_y and Σ_{j≠y} e_j.

    log Σ − (z_y − m) would cancel where the model is sure. If the label is the maximum, the loss is log1p(Σ_{j≠y} e_j /
    e_y); if not, both terms of (m − z_y) + log Σ are positive.
    """
    others = where_equal(z_label, top, others, others + (e_label - e_top))
    return (top - z_label) + log1p_quotient(like, others, where_equal(z_label, top, e_label, e_top))


@staged
def cross_entropy_row(logits, row, label, out, at, finish, pending, following):
    """Compute (loss, Σ_{j≠y} e_j, Σ_j e_j, the next row's maximum), and store e_j as `exp_sum` does."""
    scale, z_label = scale_of(splat(logits, row[2])), logits[label]  # before e_j takes its place
    others, m_next = exp_sum(exp_scaled, logits, row, label, scale, out, at, finish, pending, following)
    loss, total = loss_and_sum(logits, row[2], z_label, scale, others)
    return loss, others, total, m_next


@staged
def loss_and_sum(logits, m, z_label, scale, others):
    """Compute (loss, Σ_j e_j) from m, z_y and Σ_{j≠y} e_j."""
    e_top = first_lane(exp_scaled(splat(logits, m), scale))
    e_label = first_lane(exp_scaled(splat(logits, z_label), scale))
    loss = first_lane(loss_of(logits, wide(m), wide(z_label), wide(e_top), wide(e_label), wide(others)))
    return loss, others + e_label


@staged
def put_label(exps, at, others):
    """Put −Σ_{j≠y} e_j in the label's place: over Σ_j e_j that is a_y − 1, which cancels where the model is sure."""
    exps[at] = -others
