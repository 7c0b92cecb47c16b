"""The mathematics of rows with few classes, a lane each: as many rows at a time as a vector has lanes.

One short row does not fill a vector, and its maximum, sum and logarithm across lanes cost more than its exponentials.
So a bundle of rows is transposed into a structure of arrays, `lanes` (classes × rows), and each step of `whole` is done
for the whole bundle at once: ten classes took three times as long row by row (M1).
"""

import math
from typing import NamedTuple

from ..compiling.staging import noinline, staged
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.accumulate import Sum, add_four_to_sum, add_to_sum, empty_sum, lane_sums
from ..simd.convert import demote, promote
from ..simd.memory import load, store
from ..simd.reduce import greatest_lane
from ..simd.vector import greater, is_double, lanes_of, less, magnitude, splat, where_equal, where_greater
from ..vecmath.double_double import ExpSum, add_exp, log1p_double_double, settled
from ..vecmath.log1p import log1p, log1p_quotient
from ..vecmath.quotient import multiply, multiply_near, quotient_of
from .bundles import NO_LABEL, empty_lanes
from .further import finite, shortfall_of
from .logits import (
    are_near,
    exp_logit,
    exp_near_logit,
    exp_top,
    gap,
    has_slope,
    in_two_parts,
    logit,
    scale_in,
    scale_of,
    wide_top,
)
from .options import LossOptions, has_stats
from .targets import class_spread, spreads, sums_weights, weight_of_class
from .whole import CANCELS, LogSums, log_probability


@staged
def lanes_range(lanes, n_classes):
    """Find each row's max_j z_j (NaN is passed over), and whether `exp_near` will do for all of them."""
    width = lanes_of(lanes)
    m, low = splat(lanes, -math.inf), splat(lanes, math.inf)
    for j in range(n_classes):
        z = load(lanes, j * width)
        m, low = greater(z, m), less(z, low)
    return m, False if has_slope(lanes) else are_near(lanes, m, low)


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
    """What one pass over a bundle finds of each row; what nobody asked for is None."""

    others: Sum  # Σ_{j≠skip} e_j
    z_label: Vector
    w_label: Vector | None
    shortfall: Sum | None  # Σ_j u_j (m − q_j)
    weight: Sum | None  # Σ_j u_j
    dispersion: Sum | None  # Σ_j e_j (m − q_j)


class BundleSums(NamedTuple):
    """What is asked for of a bundle beside Σ e_j, and of what."""

    labels: Vector  # whose z_y and w_y are wanted, NO_LABEL where there is none
    skip: Vector  # the classes that Σ e_j leaves out
    options: LossOptions | None = None
    spread: Array | None = None  # u_j: see `targets.spread_lanes`


@staged
def lanes_exp_sum(lanes, n_classes, asked, near, scale, out):
    """Store e_j in `out`, and find the sums of each row."""
    if near:
        sums = _lanes_exp_sum(exp_near_logit, lanes, n_classes, asked, scale, out)
    else:
        sums = _lanes_exp_sum(exp_logit, lanes, n_classes, asked, scale, out)
    return sums


def _no_sums(lanes, options):
    zero = splat(lanes, 0.0)
    if options is None:
        return LaneSums(empty_sum(lanes), zero, None, None, None, None)
    wanted = spreads(options), sums_weights(options), has_stats(options)
    further = [empty_sum(lanes) if each else None for each in wanted]
    return LaneSums(empty_sum(lanes), zero, None if options.class_weight is None else zero, *further)


@staged
def _lanes_exp_sum(exp, lanes, n_classes, asked, scale, out):
    sums = _no_sums(lanes, asked.options)
    fours = 0 if has_slope(lanes) else n_classes // 4 * 4  # of a softcap one is code enough
    for j in range(0, fours, 4):
        sums = _add_classes(exp, lanes, (j, j + 1, j + 2, j + 3), asked, scale, out, sums)
    for j in range(fours, n_classes):
        sums = _add_classes(exp, lanes, (j,), asked, scale, out, sums)
    return sums


def _add_classes(exp, lanes, classes, asked, scale, out, sums):
    """Add one class or four, the addends of which go to each other first: see `add_four_to_sum`."""
    found, z_label, w_label = [], sums.z_label, sums.w_label
    for j in classes:
        addends, z_label, w_label = _one_class(exp, lanes, j, asked, scale, out, z_label, w_label)
        found.append(addends)
    add = add_to_sum if len(classes) == 1 else add_four_to_sum
    running = sums.others, sums.shortfall, sums.weight, sums.dispersion
    others, *further = (
        None if total is None else add(total, *parts)
        for total, parts in zip(running, zip(*found, strict=True), strict=True)
    )
    return LaneSums(others, z_label, w_label, *further)


def _one_class(exp, lanes, j, asked, scale, out, z_label, w_label):
    """Store e_j in `out`, and give what it adds to the sums (0 where j is to be skipped), and z_y and w_y so far."""
    options, zero, number = asked.options, splat(lanes, 0.0), splat(lanes, j)
    z = load(lanes, j * lanes_of(lanes))
    x = logit(z, scale.transform)
    e = exp(x, scale)
    store(out, j * lanes_of(lanes), e)
    shortfall = weight = dispersion = None
    if w_label is not None:
        w_label = where_equal(asked.labels, number, splat(lanes, weight_of_class(options, j)), w_label)
    if options is not None and (spreads(options) or has_stats(options)):
        below = gap(scale, x)
        if spreads(options):
            u = class_spread(options, asked.spread, j, lanes)
            shortfall = shortfall_of(options, u, below)
            weight = u if sums_weights(options) else None
        if has_stats(options):
            dispersion = e * finite(below)
    z_label = where_equal(asked.labels, number, z, z_label)
    return (where_equal(asked.skip, number, zero, e), shortfall, weight, dispersion), z_label, w_label


@staged
def finish_lanes(finish, exps, n_classes, labels, entry, given, lanes):
    """Make finish(e_j, …) of e_j in `exps`, and of e_y what it makes of `entry`, if there is one."""
    width = lanes_of(lanes)
    for j in range(n_classes):
        value = load(exps, j * width)
        if entry is not None:
            value = where_equal(labels, splat(lanes, j), entry, value)
        store(lanes, j * width, finish(value, j, given))


@staged
def softmax_lanes(lanes, n_classes):
    """Replace z_j by a_j = e_j / Σ_s e_s."""
    none = splat(lanes, NO_LABEL)
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(lanes, m)
    totals = lane_sums(lanes_exp_sum(lanes, n_classes, BundleSums(none, none), near, scale, lanes).others)
    quotient = quotient_of(m, splat(totals, 1.0), totals)
    if near:
        finish_lanes(_near_probability, lanes, n_classes, none, None, quotient, lanes)
    else:
        finish_lanes(_probability, lanes, n_classes, none, None, quotient, lanes)


@staged
def _probability(e, j, quotient):
    return multiply(e, quotient)


@staged
def _near_probability(e, j, quotient):
    return multiply_near(e, quotient)


@staged
def log_sum_lanes(lanes, n_classes):
    """Compute (m, log Σ_j e^(q_j − m) in float64) of each row, without the maximum's own term in the sum."""
    width = lanes_of(lanes)
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(lanes, m)
    positions = lanes_position(lanes, n_classes, m)
    asked = BundleSums(positions, positions)
    sums = lanes_exp_sum(lanes, n_classes, asked, near, scale, empty_lanes(lanes))
    log_sum = log1p_quotient(m, lane_sums(sums.others), promote(exp_top(scale)))
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
    """Compute m + log Σ_j e^(q_j − m) of each row, with more digits where the two cancel."""
    m, log_sum = log_sum_lanes(lanes, n_classes)
    top = wide_top(scale_of(lanes, m))
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
    scale = scale_of(lanes, top)
    others = number = splat(top, 0.0)
    for j in range(n_classes):
        z = promote(load(lanes, j * width))
        others = where_equal(position, number, others, others + exp_logit(logit(z, scale.transform), scale))
        number = number + splat(top, 1.0)
    return wide_top(scale) + log1p(others / exp_top(scale))


@noinline
def _exact_logsumexps(lanes, n_classes):
    """Compute log1p(−1 + Σ_j e^z_j) in double-double, of lanes where that cancels; others hold anything."""
    running = ExpSum(splat(lanes, -1.0), empty_sum(lanes))
    for j in range(n_classes):
        running = add_exp(running, *in_two_parts(lanes, load(lanes, j * lanes_of(lanes))))
    x, rest = settled(running)
    return log1p_double_double(x, rest)


@staged
def log_softmax_lanes(lanes, n_classes):
    """Replace z_j by log a_j = (q_j − m) − log Σ_s e^(q_s − m)."""
    width = lanes_of(lanes)
    m, log_sum = log_sum_lanes(lanes, n_classes)
    sums = LogSums(m, demote(log_sum, m), scale_in(lanes, m))
    for j in range(n_classes):
        store(lanes, j * width, log_probability(load(lanes, j * width), j, width, sums))
