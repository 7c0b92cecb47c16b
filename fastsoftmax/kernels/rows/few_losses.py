"""Cross entropy of rows with few classes, a lane each: see `few`."""

from ..compiling.staging import staged
from ..simd.accumulate import lane_sums
from ..simd.convert import demote, promote
from ..simd.memory import load, store
from ..simd.reduce import greatest_lane
from ..simd.vector import lanes_of, magnitude, splat, where_equal, where_greater
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.quotient import LEAST_NEAR_QUOTIENT, NO_HEADROOM, least_quotient, multiply, multiply_near, quotient_of
from .bundles import IGNORED
from .few import finish_lanes, lanes_exp_sum, lanes_range
from .gradient import Gradient, class_gradient
from .loss import LabelSums, row_loss, weighted


@staged
def cross_entropy_lanes(lanes, n_classes, labels, options):
    """Replace z_j by e_j; give (a bundle's losses and what its gradients are made of, whether all rows are near)."""
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(m)
    sums = lanes_exp_sum(lanes, n_classes, demote(labels, m), m, near, scale, lanes, options)
    found = LabelSums(
        promote(m),
        promote(sums.z_label),
        promote(exp_scaled(m, scale)),
        promote(exp_scaled(sums.z_label, scale)),
        lane_sums(sums.others),
        None if sums.w_label is None else promote(sums.w_label),
        None if sums.shortfall is None else lane_sums(sums.shortfall),
    )
    return row_loss(m, found, options, n_classes), near


@staged
def without_ignored(values, labels):
    """Set the lanes of rows to ignore to zero."""
    return where_equal(labels, splat(labels, IGNORED), splat(labels, 0.0), values)


@staged
def cross_entropy_with_grad_lanes(lanes, n_classes, labels, factors, options):
    """Replace z_j by s (T' a_j − t_j), with s the factor of each lane, and give the losses of a bundle."""
    found, near = cross_entropy_lanes(lanes, n_classes, labels, options)
    weights, totals, entries = weighted(factors, found.slope), found.total, found.entry
    near = near and not _any_small(weights, totals, LEAST_NEAR_QUOTIENT)
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
    uniform = None if found.uniform is None else demote(factors * found.uniform, like)
    if near:
        _write_gradient(multiply_near, lanes, n_classes, places, at_label, quotient, uniform, options.class_weight)
    else:
        _write_gradient(multiply, lanes, n_classes, places, at_label, quotient, uniform, options.class_weight)
    return without_ignored(found.loss, labels)


@staged
def _write_gradient(multiply, lanes, n_classes, labels, entries, quotient, uniform, class_weight):
    given = Gradient(multiply, quotient, uniform, class_weight)
    finish_lanes(class_gradient, lanes, n_classes, labels, entries, given)


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
