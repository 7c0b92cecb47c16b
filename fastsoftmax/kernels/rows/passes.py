"""Passes over a row: its greatest logit, and the sum of its exponentials.

e_j stands for e^q_j over a power of two that the row shares (see `vecmath.exp.scale_of`); it cancels in every quotient.
"""

import math
from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.accumulate import add_four_to_sum, add_to_sum, empty_sum, sum_of
from ..simd.memory import load, load_first, prefetch, store, store_first
from ..simd.reduce import count_equal, first_lane, greatest_lane
from ..simd.vector import drop_lane, greater, lanes_of, less, splat, where_equal
from ..tuning import LONG_ROW_LEAD, ROW_LEAD
from .further import add_four_further, add_further, further_of, no_further_sums, prefetch_further, values_of
from .logits import are_near, exp_logit, exp_top, has_slope, logit
from .streamed import stream_four, stream_head, stream_rest


class Range(NamedTuple):
    """A row's greatest logit m, and whether `exp_near` will do for all of it: None where nobody asked."""

    top: Number
    near: Number | None


class Row(NamedTuple):
    """The entries start to stop of a flat array, whose range is known.

    `following` is how many entries further the next row of this thread is, 0 if there is none.
    """

    start: Number
    stop: Number
    top: Number
    near: Number | None = None
    following: Number | None = None


class Place(NamedTuple):
    """Where the e_j of a row are stored: in an array, from an index on."""

    values: Array
    at: Number


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
def row_range(logits, start, stop):
    """Find max_j z_j likewise, and whether `exp_near` will do for the row."""
    width = lanes_of(logits)
    m0 = m1 = splat(logits, -math.inf)
    low0 = low1 = splat(logits, math.inf)
    i = start
    while i + 2 * width <= stop:
        z0, z1 = load(logits, i), load(logits, i + width)
        m0, m1 = greater(z0, m0), greater(z1, m1)
        low0, low1 = less(z0, low0), less(z1, low1)
        i += 2 * width
    while i < stop:
        m0 = greater(load_first(logits, i, stop - i, -math.inf), m0)
        low0 = less(load_first(logits, i, stop - i, math.inf), low0)
        i += width
    m = greatest_lane(greater(m0, m1))
    return Range(m, are_near(logits, splat(logits, m), less(low0, low1)))


class ExpSums(NamedTuple):
    """What `exp_sum` finds."""

    others: Number  # Σ_{j≠skip} e_j
    next_top: Number  # the next row's greatest logit, −inf where it was not looked for
    shortfall: Number | None  # Σ_j u_j (m − q_j), where options ask for it
    weight: Number | None  # Σ_j u_j
    dispersion: Number | None  # Σ_j e_j (m − q_j)


@staged
def exp_sum(exp, logits, row, scale, skip=-1, exps=None, pending=None, following=None, options=None, first=None):
    """Add up Σ_{j≠skip} e_j.

    `exp` is `exp_logit` or `exp_near_logit`. `skip` is an entry, −1 for none, or None for one that holds the maximum.
    e_j is stored in `exps`, if there is such a place. Meanwhile the next row is asked for: without, logsumexp of long
    rows took a third longer (M6). A `pending` row, if there is one, is written: see `streamed`. And where `following`
    is not None the next row's maximum is found, for arithmetic has time left: a pass of its own for that takes a bit
    longer (M7). Where the e_j are stored to the result it does not pay: addresses of the two rows that agree in their
    last 12 bits make loads wait for stores, which took a fifth longer (M8). See `cached` for those rows.
    `options` ask for further sums: see `further`; `first` is where the row of the first class begins, if not here.
    """
    start, stop = row.start, row.stop
    width = lanes_of(logits)
    total, transform = empty_sum(logits), scale.transform
    asked = further_of(scale, options, start if first is None else first)
    sums = no_further_sums(logits, asked)
    top, ties = splat(logits, row.top), 0
    m_next = splat(logits, -math.inf)
    ahead = stop - start + (ROW_LEAD if following is None else LONG_ROW_LEAD)
    if pending is not None:
        done = stream_head(pending)
    i = start
    while not has_slope(logits) and i + 4 * width <= stop:  # of a softcap the code for one vector is long enough
        for k in range(0, 4 * width, width):
            prefetch(logits, i + k + ahead)
            prefetch_further(asked, i + k + ahead)
            if following is not None:
                m_next = greater(load(logits, i + k + following), m_next)
        z0, z1 = load(logits, i), load(logits, i + width)
        z2, z3 = load(logits, i + 2 * width), load(logits, i + 3 * width)
        x0, x1, x2, x3 = (logit(z0, transform), logit(z1, transform), logit(z2, transform), logit(z3, transform))
        e0, e1, e2, e3 = exp(x0, scale), exp(x1, scale), exp(x2, scale), exp(x3, scale)
        if exps is not None:
            here = exps.at + i - start
            store(exps.values, here, e0)
            store(exps.values, here + width, e1)
            store(exps.values, here + 2 * width, e2)
            store(exps.values, here + 3 * width, e3)
        if asked is not None:
            sums = add_four_further(sums, asked, i, (x0, x1, x2, x3), (e0, e1, e2, e3))
        if skip is None:
            ties += count_equal(z0, top) + count_equal(z1, top) + count_equal(z2, top) + count_equal(z3, top)
            e0, e1 = drop_equal(e0, z0, top), drop_equal(e1, z1, top)
            e2, e3 = drop_equal(e2, z2, top), drop_equal(e3, z3, top)
        elif i <= skip < i + 4 * width:
            e0 = drop_lane(e0, skip - i)
            e1 = drop_lane(e1, skip - i - width)
            e2 = drop_lane(e2, skip - i - 2 * width)
            e3 = drop_lane(e3, skip - i - 3 * width)
        total = add_four_to_sum(total, e0, e1, e2, e3)
        if pending is not None:
            done = stream_four(pending, done)
        i += 4 * width
    while i < stop:
        prefetch(logits, i + ahead)
        prefetch_further(asked, i + ahead)
        if following is not None:
            m_next = greater(load_first(logits, i + following, stop - i, -math.inf), m_next)
        z = load_first(logits, i, stop - i, -math.inf)
        x = logit(z, transform)
        e = exp_logit(x, scale)  # zero for what is no entry
        if asked is not None:  # before e_j takes the place of z_j; what is no entry is as great as the maximum
            like_top = logit(load_first(logits, i, stop - i, row.top), transform)
            sums = add_further(sums, asked, i, stop - i, like_top, e)
        if exps is not None:
            store_first(exps.values, exps.at + i - start, stop - i, e)
        if skip is None:
            ties += count_equal(z, top)
            e = drop_equal(e, z, top)
        else:
            e = drop_lane(e, skip - i)
        total = add_to_sum(total, e)
        i += width
    if pending is not None:
        stream_rest(pending, done)
    value = sum_of(total)
    if skip is None:
        value += (ties - 1) * first_lane(exp_top(scale))
    return ExpSums(value, greatest_lane(m_next), *values_of(sums))


@staged
def drop_equal(e, z, top):
    """Set e to zero where z is the maximum, instead of looking for its place (M16)."""
    return where_equal(z, top, splat(e, 0.0), e)
