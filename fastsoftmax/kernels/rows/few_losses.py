"""Cross entropy of rows with few classes, a lane each: see `few`."""

from ..compiling.staging import staged
from ..simd.accumulate import lane_sums
from ..simd.convert import demote, promote
from ..simd.memory import load, store
from ..simd.reduce import greatest_lane
from ..simd.vector import lanes_of, magnitude, splat, where_equal, where_greater
from ..vecmath.quotient import LEAST_NEAR_QUOTIENT, NO_HEADROOM, least_quotient, multiply, multiply_near, quotient_of
from .bundles import IGNORED, empty_lanes, results_of_bundle
from .few_sums import BundleSums, finish_lanes, lanes_exp_sum, lanes_position, lanes_range
from .gradient import LaneGradient, class_gradient
from .logits import exp_logit, exp_top, has_slope, in_units, logit, scale_of, wide_gap, wide_top
from .loss import RowSums, leaves_out_top, row_loss
from .options import has_label, has_stats
from .stats import predict_lanes
from .targets import weighted


@staged
def cross_entropy_lanes(lanes, bundle, labels, options, exps, spread):
    """Store e_j in `exps`; give (a bundle's losses and what its gradients are made of, whether all rows are near)."""
    n_classes = bundle.n_classes
    m, near = lanes_range(lanes, n_classes)
    scale, places = scale_of(lanes, m), demote(labels, m)
    if bundle.by_vectors and has_stats(options):  # which rows that are ignored have of any class: see `label_of`
        places = where_equal(places, splat(places, IGNORED), splat(places, 0.0), places)
    skip = lanes_position(lanes, n_classes, m) if leaves_out_top(options) else places
    prediction = predict_lanes(lanes, n_classes, m, skip) if has_stats(options) else None
    asked = BundleSums(places, skip, m, options, spread, bundle.by_vectors, bundle.later)
    sums = lanes_exp_sum(lanes, n_classes, asked, near, scale, exps)
    labelled = has_label(options)
    label = logit(sums.z_label, scale.transform) if labelled else None
    found = RowSums(
        wide_top(scale),
        in_units(lanes, wide_gap(scale, label)) if labelled else None,
        promote(exp_top(scale)),
        promote(exp_logit(label, scale)) if labelled else None,
        lane_sums(sums.others),
        None if sums.w_label is None else promote(sums.w_label),
        None if sums.shortfall is None else in_units(lanes, lane_sums(sums.shortfall)),
        None if sums.weight is None else lane_sums(sums.weight),
        None if sums.dispersion is None else in_units(lanes, lane_sums(sums.dispersion)),
        prediction,
    )
    return row_loss(m, found, options, n_classes), near


@staged
def without_ignored(values, labels):
    """Set the lanes of rows to ignore to zero."""
    return where_equal(labels, splat(labels, IGNORED), splat(labels, 0.0), values)


@staged
def cross_entropy_with_grad_lanes(lanes, bundle, labels, factors, options, spread):
    """Write s ∂L/∂z_j, with s the factor of each lane, and give the losses of a bundle."""
    n_classes = bundle.n_classes
    exps = lanes
    if has_slope(lanes):
        exps = empty_lanes(lanes) if bundle.room is None else bundle.room
    found, near = cross_entropy_lanes(lanes, bundle, labels, options, exps, spread)
    weights, totals, entries = weighted(factors, found.slope), found.total, found.entry
    near = near and not _any_small(weights, totals, LEAST_NEAR_QUOTIENT)
    if not near and _any_small(weights, totals, least_quotient(lanes)):
        headroom = _headroom(weights, totals, lanes)
        width = lanes_of(lanes)
        less_headroom = demote(headroom, load(lanes, 0))
        for j in range(n_classes):
            store(exps, j * width, load(exps, j * width) * less_headroom)
        totals = totals * headroom
        entries = None if entries is None else entries * headroom
    like = load(lanes, 0)
    at_label, places = None if entries is None else demote(entries, like), demote(labels, like)
    quotient = quotient_of(like, weights, totals)
    uniform = None if found.uniform is None else demote(factors * found.uniform, like)
    given = quotient, uniform, options, spread, lanes if has_slope(lanes) else None
    results = results_of_bundle(lanes, bundle)
    if near:
        _write_gradient(multiply_near, given, exps, n_classes, places, at_label, results)
    else:
        _write_gradient(multiply, given, exps, n_classes, places, at_label, results)
    return found


@staged
def _write_gradient(multiply, given, exps, n_classes, places, at_label, results):
    finish_lanes(class_gradient, exps, n_classes, places, at_label, LaneGradient(multiply, *given), results)


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
