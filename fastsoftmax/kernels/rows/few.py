"""The mathematics of rows with few classes, a lane each: as many rows at a time as a vector has lanes.

One short row does not fill a vector, and its maximum, sum and logarithm across lanes cost more than its exponentials.
So a bundle of rows is transposed into a structure of arrays, `lanes` (classes × rows), and each step of `whole` is done
for the whole bundle at once: ten classes took three times as long row by row (M1).
"""

import math
from typing import NamedTuple

from ..compiling.staging import noinline, staged
from ..compiling.values import Vector
from ..simd.accumulate import empty_sum, lane_sums
from ..simd.convert import demote, promote
from ..simd.memory import load
from ..simd.reduce import greatest_lane
from ..simd.vector import greater, is_double, lanes_of, magnitude, splat, where_equal, where_greater
from ..vecmath.double_double import ExpSum, add_exp, log1p_double_double, settled
from ..vecmath.log1p import log1p, log1p_quotient
from ..vecmath.quotient import multiply, multiply_near, quotient_of
from .bundles import NO_LABEL, results_of_bundle, store_class
from .few_sums import BundleSums, finish_lanes, lanes_exp_sum, lanes_position, lanes_range
from .logits import exp_logit, exp_top, in_two_parts, logit, scale_in, scale_of, wide_top
from .whole import CANCELS, LogSums, log_probability


@staged
def softmax_lanes(lanes, bundle):
    """Write a_j = e_j / Σ_s e_s, and e_j to the lanes."""
    none, n_classes, results = splat(lanes, NO_LABEL), bundle.n_classes, results_of_bundle(lanes, bundle)
    m, near = lanes_range(lanes, n_classes)
    scale, asked = scale_of(lanes, m), BundleSums(none, none, m, by_vectors=bundle.by_vectors, later=bundle.later)
    totals = lane_sums(lanes_exp_sum(lanes, n_classes, asked, near, scale, lanes).others)
    quotient = quotient_of(m, splat(totals, 1.0), totals)
    if near:
        finish_lanes(_near_probability, lanes, n_classes, none, None, quotient, results)
    else:
        finish_lanes(_probability, lanes, n_classes, none, None, quotient, results)


@staged
def _probability(e, j, quotient):
    return multiply(e, quotient)


@staged
def _near_probability(e, j, quotient):
    return multiply_near(e, quotient)


@staged
def log_sum_lanes(lanes, bundle):
    """Compute (m, log Σ_j e^(q_j − m) in float64) of each row, without the maximum's own term in the sum."""
    width, n_classes = lanes_of(lanes), bundle.n_classes
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(lanes, m)
    skip, ties = _skip_of_top(lanes, bundle, m)
    asked = BundleSums(splat(lanes, NO_LABEL), skip, m, by_vectors=bundle.by_vectors, later=bundle.later)
    others = _with_ties(lane_sums(lanes_exp_sum(lanes, n_classes, asked, near, scale, None).others), ties, scale)
    log_sum = log1p_quotient(m, others, promote(exp_top(scale)))
    size = magnitude(m)
    if math.isinf(greatest_lane(size)):  # there the sum is m itself, unless there is a NaN
        poison = splat(lanes, 0.0)
        for j in range(n_classes):
            z = load(lanes, j * width)
            poison = where_equal(z, z, poison, z)
        log_sum = where_equal(promote(size), splat(log_sum, math.inf), promote(poison), log_sum)
    return m, log_sum


@staged
def _skip_of_top(lanes, bundle, m):
    """Give the class of each row's maximum, that its sum leaves out: (which, how many such classes are no more in it).

    The first that has it; by vectors all of them, None, and all but one must be put back by `_with_ties`.
    """
    if not bundle.by_vectors:
        return lanes_position(lanes, bundle.n_classes, m), None
    zero = ties = splat(lanes, 0.0)
    for j in range(bundle.n_classes):
        ties = ties + where_equal(load(lanes, j * lanes_of(lanes)), m, splat(lanes, 1.0), zero)
    return None, ties


def _with_ties(others, ties, scale):
    """Put all classes of the maximum but one back into sums that leave them out."""
    if ties is None:
        return others
    return others + (promote(ties) - splat(others, 1.0)) * promote(exp_top(scale))


@staged
def logsumexp_lanes(lanes, bundle):
    """Compute m + log Σ_j e^(q_j − m) of each row, with more digits where the two cancel."""
    n_classes = bundle.n_classes
    m, log_sum = log_sum_lanes(lanes, bundle)
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


class LogSumExps(NamedTuple):
    """What `logsumexp_by_vectors` finds of a bundle, in float64 lanes."""

    lse: Vector
    uncertain: Vector  # 1 where it is not certain, else 0


@staged
def logsumexp_by_vectors(lanes, bundle):
    """Compute m + log Σ_j e^(q_j − m) as `whole.logsumexp_row` does."""
    if is_double(lanes):
        m, log_sum = log_sum_lanes(lanes, bundle)
        scale, share = scale_of(lanes, m), splat(log_sum, 0.0)
    else:
        none = splat(lanes, NO_LABEL)
        m, near = lanes_range(lanes, bundle.n_classes)
        scale, asked = scale_of(lanes, m), BundleSums(none, none, m, by_vectors=True, later=bundle.later)
        total = lane_sums(lanes_exp_sum(lanes, bundle.n_classes, asked, near, scale, None).others)
        e_top = promote(exp_top(scale))
        log_sum, share = log1p_quotient(m, total - e_top, e_top), e_top / total
    lse = wide_top(scale) + log_sum
    one, least = splat(lse, 1.0), greater(splat(lse, CANCELS) * log_sum, splat(lse, 8.0) * share)
    uncertain = where_greater(least, magnitude(lse), one, splat(lse, 0.0))
    return LogSumExps(lse, where_equal(lse, lse, uncertain, one))


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
def log_softmax_lanes(lanes, bundle):
    """Write log a_j = (q_j − m) − log Σ_s e^(q_s − m)."""
    width, n_classes, results = lanes_of(lanes), bundle.n_classes, results_of_bundle(lanes, bundle)
    m, log_sum = log_sum_lanes(lanes, bundle)
    sums = LogSums(m, demote(log_sum, m), scale_in(lanes, m))
    for j in range(n_classes):
        store_class(results, j, log_probability(load(lanes, j * width), j, width, sums))
