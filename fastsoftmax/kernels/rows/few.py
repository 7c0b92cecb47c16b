"""The mathematics of rows with few classes, a lane each: as many rows at a time as a vector has lanes.

One short row does not fill a vector, and its maximum, sum and logarithm across lanes cost more than its exponentials.
So a bundle of rows is transposed into a structure of arrays, `lanes` (classes × rows), and each step of `whole` is done
for the whole bundle at once: ten classes took three times as long row by row (M1).
"""

import math
from typing import NamedTuple

from ..compiling.staging import noinline, staged
from ..compiling.values import Vector
from ..simd.accumulate import Sum, add_four_to_sum, add_to_sum, empty_sum, lane_sums
from ..simd.convert import demote, promote
from ..simd.memory import load, store
from ..simd.reduce import greatest_lane
from ..simd.vector import greater, is_double, lanes_of, less, magnitude, splat, where_equal, where_greater
from ..vecmath.double_double import ExpSum, add_exp, log1p_double_double, settled
from ..vecmath.exp import exp_near, exp_scaled, is_near, scale_of
from ..vecmath.log1p import log1p, log1p_quotient
from ..vecmath.quotient import multiply, multiply_near, quotient_of
from .bundles import NO_LABEL, empty_lanes
from .loss import (
    smoothed,
    weight_of_class,
    weighted,
)
from .whole import CANCELS


@staged
def lanes_range(lanes, n_classes):
    """Find each row's max_j z_j (NaN is passed over), and whether `exp_near` will do for all of them."""
    width = lanes_of(lanes)
    m, low = splat(lanes, -math.inf), splat(lanes, math.inf)
    for j in range(n_classes):
        z = load(lanes, j * width)
        m, low = greater(z, m), less(z, low)
    return m, is_near(m, low)


@staged
def lanes_position(lanes, n_classes, top):
    """Find each row's first entry equal to `top`, as a float; NO_LABEL where there is none."""
    width = lanes_of(lanes)
    position = splat(lanes, NO_LABEL)
    number = splat(lanes, n_classes)
    for j in range(n_classes - 1, -1, -1):
        number = number - splat(lanes, 1.0)
        position = where_equal(load(lanes, j * width), top, number, position)
    return position


class LaneSums(NamedTuple):
    """What one pass over a bundle finds of each row."""

    others: Sum  # Σ_{j≠label} e_j
    z_label: Vector
    w_label: Vector | None
    shortfall: Sum | None  # Σ_j w_j (m − z_j)


@staged
def lanes_exp_sum(lanes, n_classes, labels, top, near, scale, out, options=None):
    """Store e_j in `out`, and find the sums of each row."""
    if near:
        sums = _lanes_exp_sum(exp_near, lanes, n_classes, labels, top, scale, out, options)
    else:
        sums = _lanes_exp_sum(exp_scaled, lanes, n_classes, labels, top, scale, out, options)
    return sums


@staged
def _lanes_exp_sum(exp, lanes, n_classes, labels, top, scale, out, options):
    zero = splat(lanes, 0.0)
    has_weights = options is not None and options.class_weight is not None
    smooths = smoothed(options) is not None
    sums = LaneSums(empty_sum(lanes), zero, zero if has_weights else None, empty_sum(lanes) if smooths else None)
    fours = n_classes // 4 * 4
    for j in range(0, fours, 4):
        e0, b0, sums = _lanes_exp(exp, lanes, j, labels, top, scale, out, options, sums)
        e1, b1, sums = _lanes_exp(exp, lanes, j + 1, labels, top, scale, out, options, sums)
        e2, b2, sums = _lanes_exp(exp, lanes, j + 2, labels, top, scale, out, options, sums)
        e3, b3, sums = _lanes_exp(exp, lanes, j + 3, labels, top, scale, out, options, sums)
        others = add_four_to_sum(sums.others, e0, e1, e2, e3)
        shortfall = add_four_to_sum(sums.shortfall, b0, b1, b2, b3) if smooths else None
        sums = LaneSums(others, sums.z_label, sums.w_label, shortfall)
    for j in range(fours, n_classes):
        e, b, sums = _lanes_exp(exp, lanes, j, labels, top, scale, out, options, sums)
        shortfall = add_to_sum(sums.shortfall, b) if smooths else None
        sums = LaneSums(add_to_sum(sums.others, e), sums.z_label, sums.w_label, shortfall)
    return sums


@staged
def _lanes_exp(exp, lanes, j, labels, top, scale, out, options, sums):
    """Store e_j in `out`, and give it, but 0 where j is the label; w_j (m − z_j); and z_y and w_y where j is y."""
    at = j * lanes_of(lanes)
    z, number = load(lanes, at), splat(lanes, j)
    e = exp(z, scale)
    store(out, at, e)
    below, w_label = None, sums.w_label
    w = None if w_label is None else splat(lanes, weight_of_class(options, j))
    if w is not None:
        w_label = where_equal(labels, number, w, w_label)
    if sums.shortfall is not None:
        below = weighted(top - z, w)
    sums = LaneSums(sums.others, where_equal(labels, number, z, sums.z_label), w_label, sums.shortfall)
    return where_equal(labels, number, splat(lanes, 0.0), e), below, sums


@staged
def finish_lanes(finish, lanes, n_classes, labels, entry, given):
    """Replace e_j by finish(e_j, …), and e_y by what it makes of `entry`."""
    width = lanes_of(lanes)
    for j in range(n_classes):
        value = where_equal(labels, splat(lanes, j), entry, load(lanes, j * width))
        store(lanes, j * width, finish(value, j, given))


@staged
def softmax_lanes(lanes, n_classes):
    """Replace z_j by a_j = e_j / Σ_s e_s."""
    labels = splat(lanes, NO_LABEL)
    m, near = lanes_range(lanes, n_classes)
    totals = lane_sums(lanes_exp_sum(lanes, n_classes, labels, m, near, scale_of(m), lanes).others)
    quotient = quotient_of(labels, splat(totals, 1.0), totals)
    if near:
        finish_lanes(_near_probability, lanes, n_classes, labels, labels, quotient)
    else:
        finish_lanes(_probability, lanes, n_classes, labels, labels, quotient)


@staged
def _probability(e, j, quotient):
    return multiply(e, quotient)


@staged
def _near_probability(e, j, quotient):
    return multiply_near(e, quotient)


@staged
def log_sum_lanes(lanes, n_classes):
    """Compute (m, log Σ_j e^(z_j − m) in float64) of each row, without the maximum's own term in the sum."""
    width = lanes_of(lanes)
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(m)
    positions = lanes_position(lanes, n_classes, m)
    sums = lanes_exp_sum(lanes, n_classes, positions, m, near, scale, empty_lanes(lanes))
    log_sum = log1p_quotient(m, lane_sums(sums.others), promote(exp_scaled(m, scale)))
    size = magnitude(m)
    if math.isinf(greatest_lane(size)):  # there the sum is m itself, unless there is a NaN
        poison = splat(lanes, 0.0)
        for j in range(n_classes):
            z = load(lanes, j * width)
            poison = where_equal(z, z, poison, z)
        log_sum = where_equal(promote(size), splat(log_sum, math.inf), promote(poison), log_sum)
    return m, log_sum


@staged
def logsumexp_lanes(lanes, n_classes):
    """Compute m + log Σ_j e^(z_j − m) of each row, with more digits where the two cancel."""
    m, log_sum = log_sum_lanes(lanes, n_classes)
    top = promote(m)
    lse = top + log_sum
    # A positive number in the lanes whose sum all but cancels, else 0: a NaN would hide the other lanes'.
    zero = splat(lse, 0.0)
    lost = splat(lse, CANCELS) * log_sum - magnitude(lse)
    lost = where_greater(lost, zero, lost, zero)
    if greatest_lane(lost) > 0:
        double = is_double(lanes)
        exact = _exact_logsumexps(lanes, n_classes) if double else _float64_logsumexps(lanes, n_classes, m)
        lse = where_greater(lost, zero, exact, lse)
    return demote(lse, m)


@noinline
def _float64_logsumexps(lanes, n_classes, m):
    """Compute logsumexp of float32 logits in float64."""
    width = lanes_of(lanes)
    top, position = promote(m), promote(lanes_position(lanes, n_classes, m))
    scale = scale_of(top)
    others = number = splat(top, 0.0)
    for j in range(n_classes):
        z = promote(load(lanes, j * width))
        others = where_equal(position, number, others, others + exp_scaled(z, scale))
        number = number + splat(top, 1.0)
    return top + log1p(others / exp_scaled(top, scale))


@noinline
def _exact_logsumexps(lanes, n_classes):
    """Compute log1p(−1 + Σ_j e^z_j) in double-double, of lanes where that cancels; others hold anything."""
    running = ExpSum(splat(lanes, -1.0), empty_sum(lanes))
    for j in range(n_classes):
        running = add_exp(running, load(lanes, j * lanes_of(lanes)))
    x, rest = settled(running)
    return log1p_double_double(x, rest)


@staged
def log_softmax_lanes(lanes, n_classes):
    """Replace z_j by log a_j = (z_j − m) − log Σ_s e^(z_s − m)."""
    width = lanes_of(lanes)
    m, log_sum = log_sum_lanes(lanes, n_classes)
    log_sum = demote(log_sum, m)
    for j in range(n_classes):
        store(lanes, j * width, (load(lanes, j * width) - m) - log_sum)
