"""Cross entropy of rows with few classes, a lane each: see `few`."""

from typing import NamedTuple

from ..compiling.staging import staged
from ..compiling.values import Vector
from ..simd.accumulate import lane_sums
from ..simd.convert import demote, promote
from ..simd.memory import load, store
from ..simd.reduce import greatest_lane
from ..simd.vector import lanes_of, magnitude, splat, where_equal, where_greater
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.quotient import LEAST_NEAR_QUOTIENT, NO_HEADROOM, least_quotient, multiply, multiply_near, quotient_of
from .bundles import IGNORED
from .few import finish_lanes, lanes_exp_sum, lanes_range
from .loss import (
    Gradient,
    Target,
    label_entry,
    log_sum_with_label,
    loss_of,
    target_of,
    weighted,
)


class LaneLosses(NamedTuple):
    """The rows' losses, and what their gradients are made of."""

    losses: Vector
    totals: Vector  # Σ_j e_j
    entries: Vector  # what takes the place of e_y
    target: Target
    near: bool


@staged
def cross_entropy_lanes(lanes, n_classes, labels, options):
    """Compute the losses of a bundle in float64 lanes, and replace z_j by e_j; ignored rows have no loss."""
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(m)
    sums = lanes_exp_sum(lanes, n_classes, demote(labels, m), m, near, scale, lanes, options)
    others = lane_sums(sums.others)
    top, e_top = promote(m), promote(exp_scaled(m, scale))
    z_label, e_label = promote(sums.z_label), promote(exp_scaled(sums.z_label, scale))
    target = target_of(top, None if sums.w_label is None else promote(sums.w_label), options, n_classes)
    log_sum = log_sum_with_label(m, top, z_label, e_top, e_label, others)
    shortfall = None if sums.shortfall is None else lane_sums(sums.shortfall)
    losses = loss_of(top, z_label, log_sum, target, shortfall)
    losses = where_equal(labels, splat(labels, IGNORED), splat(labels, 0.0), losses)
    totals = others + e_label
    return LaneLosses(losses, totals, label_entry(others, e_label, target), target, near)


@staged
def cross_entropy_with_grad_lanes(lanes, n_classes, labels, factors, options):
    """Compute the losses of a bundle, and replace z_j by s (T a_j − t_j), with s the factor of each lane."""
    found = cross_entropy_lanes(lanes, n_classes, labels, options)
    weights, totals, entries = weighted(factors, found.target.total), found.totals, found.entries
    near = found.near and not _any_small(weights, totals, LEAST_NEAR_QUOTIENT)
    if not near and _any_small(weights, totals, least_quotient(lanes)):
        headroom = _headroom(weights, totals, lanes)
        width = lanes_of(lanes)
        less_headroom = demote(headroom, load(lanes, 0))
        for j in range(n_classes):
            store(lanes, j * width, load(lanes, j * width) * less_headroom)
        entries, totals = entries * headroom, totals * headroom
    like = load(lanes, 0)
    at_label, places = demote(entries, like), demote(labels, like)
    quotient = quotient_of(like, weights, totals)
    uniform = None if found.target.uniform is None else demote(factors * found.target.uniform, like)
    if near:
        _write_gradient(multiply_near, lanes, n_classes, places, at_label, quotient, uniform, options)
    else:
        _write_gradient(multiply, lanes, n_classes, places, at_label, quotient, uniform, options)
    return found.losses


@staged
def _write_gradient(multiply, lanes, n_classes, labels, entries, quotient, uniform, options):
    given = Gradient(multiply, quotient, uniform, options.class_weight)
    finish_lanes(_lane_gradient, lanes, n_classes, labels, entries, given)


@staged
def _lane_gradient(e, j, given):
    """Compute s ∂L/∂z_j of one class, as `loss.gradient` does."""
    product = given.multiply(e, given.quotient)
    if given.uniform is None:
        return product
    w = None if given.class_weight is None else splat(e, given.class_weight[j])
    return product - weighted(given.uniform, w)


@staged
def _any_small(weights, totals, least):
    """Whether any lane's weight / total is below `least`, but not 0."""
    return greatest_lane(_smallness(weights, totals, least)) > 0


@staged
def _smallness(weights, totals, least):
    """Give 1 in the lanes whose weight / total is below `least`, but not 0, and 0 in the others."""
    zero, one = splat(totals, 0.0), splat(totals, 1.0)
    small = where_greater(splat(totals, least) * totals, magnitude(weights), one, zero)
    return where_equal(weights, zero, zero, small)


@staged
def _headroom(weights, totals, like):
    """Give what to multiply e_j by, so that they lose their headroom where they must: see `cached.sum_for_grad`."""
    smallness = _smallness(weights, totals, least_quotient(like))
    return where_greater(smallness, splat(totals, 0.0), splat(totals, NO_HEADROOM), splat(totals, 1.0))
