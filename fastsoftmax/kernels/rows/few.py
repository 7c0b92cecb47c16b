"""The mathematics of rows with few classes, a lane each: as many rows at a time as a vector has lanes.

One short row does not fill a vector, and its maximum, sum and logarithm across lanes cost more than its exponentials.
So a bundle of rows is transposed into an array of lanes (classes × rows), and each step of `rows` is done for the whole
bundle at once: 65,536 × 10 took 0.3 ms where row by row took 1.0.
"""

import math

from ..compiling.staging import apart, staged
from ..simd.accumulate import add_four_to_sum, add_to_sum, empty_sum, halves_of_sum
from ..simd.convert import halves, join
from ..simd.memory import load, store
from ..simd.reduce import greatest_lane
from ..simd.vector import greater, lanes_of, less, magnitude, splat, where_equal, where_greater, wide
from ..vecmath.double_double import add_exp, log1p_twofold, settled
from ..vecmath.exp import LEAST_NEAR_QUOTIENT, NO_HEADROOM, exp_near, exp_scaled, is_near, scale_of
from ..vecmath.log1p import log1p, log1p_quotient
from ..vecmath.quotient import least_quotient, multiply, multiply_near, quotient_of
from .bundles import IGNORED, NO_LABEL
from .row import CANCELS, loss_of


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


@staged
def lanes_exp_sum(lanes, n_classes, labels, near, scale, out):
    """Store e_j in `out`; compute each row's Σ_{j≠y} e_j in float64 halves, and find z_y: (sums, z_y)."""
    if near:
        others, z_label = _lanes_exp_sum(exp_near, lanes, n_classes, labels, scale, out)
    else:
        others, z_label = _lanes_exp_sum(exp_scaled, lanes, n_classes, labels, scale, out)
    return halves_of_sum(others, labels), z_label


@staged
def _lanes_exp_sum(exp, lanes, n_classes, labels, scale, out):
    others, z_label = empty_sum(), splat(lanes, 0.0)
    fours = n_classes // 4 * 4
    for j in range(0, fours, 4):
        e0, z_label = _lanes_exp(exp, lanes, j, labels, scale, out, z_label)
        e1, z_label = _lanes_exp(exp, lanes, j + 1, labels, scale, out, z_label)
        e2, z_label = _lanes_exp(exp, lanes, j + 2, labels, scale, out, z_label)
        e3, z_label = _lanes_exp(exp, lanes, j + 3, labels, scale, out, z_label)
        others = add_four_to_sum(others, e0, e1, e2, e3)
    for j in range(fours, n_classes):
        e, z_label = _lanes_exp(exp, lanes, j, labels, scale, out, z_label)
        others = add_to_sum(others, e)
    return others, z_label


@staged
def _lanes_exp(exp, lanes, j, labels, scale, out, z_label):
    """Store e_j in `out`, and give it, but 0 where j is the label; z_y becomes z_j there."""
    at = j * lanes_of(lanes)
    z, number = load(lanes, at), splat(lanes, j)
    e = exp(z, scale)
    store(out, at, e)
    return where_equal(labels, number, splat(lanes, 0.0), e), where_equal(labels, number, z, z_label)


@staged
def lanes_multiply(lanes, n_classes, quotient, near, labels, at_label):
    """Do `stores.multiply_row`; `at_label` takes the label's place first, as `rows.put_label` does it."""
    if near:
        _lanes_multiply(multiply_near, lanes, n_classes, quotient, labels, at_label)
    else:
        _lanes_multiply(multiply, lanes, n_classes, quotient, labels, at_label)


@staged
def _lanes_multiply(product, lanes, n_classes, quotient, labels, at_label):
    width = lanes_of(lanes)
    for j in range(n_classes):
        value = where_equal(labels, splat(lanes, j), at_label, load(lanes, j * width))
        store(lanes, j * width, product(value, quotient))


@staged
def softmax_lanes(lanes, n_classes):
    """Do `stores.softmax_row`."""
    labels = splat(lanes, NO_LABEL)
    m, near = lanes_range(lanes, n_classes)
    totals, _ = lanes_exp_sum(lanes, n_classes, labels, near, scale_of(m), lanes)
    lanes_multiply(lanes, n_classes, quotient_of(labels, (wide(1.0), wide(1.0)), totals), near, labels, labels)


@staged
def log_sum_lanes(lanes, n_classes, scratch):
    """Do `rows.log_sum_row`: (m, the halves of log Σ_j e^(z_j − m))."""
    width = lanes_of(lanes)
    m, near = lanes_range(lanes, n_classes)
    scale = scale_of(m)
    others, _ = lanes_exp_sum(lanes, n_classes, lanes_position(lanes, n_classes, m), near, scale, scratch)
    e_tops = halves(exp_scaled(m, scale))
    low, high = log1p_quotient(m, others[0], e_tops[0]), log1p_quotient(m, others[1], e_tops[1])
    size = magnitude(m)
    if math.isinf(greatest_lane(size)):  # there the sum is m itself, unless there is a NaN
        poison = splat(lanes, 0.0)
        for j in range(n_classes):
            z = load(lanes, j * width)
            poison = where_equal(z, z, poison, z)
        sizes, poisons = halves(size), halves(poison)
        low = where_equal(sizes[0], wide(math.inf), poisons[0], low)
        high = where_equal(sizes[1], wide(math.inf), poisons[1], high)
    return m, low, high


@staged
def logsumexp_lanes(lanes, n_classes, scratch):
    """Do `rows.logsumexp_row`."""
    m, low, high = log_sum_lanes(lanes, n_classes, scratch)
    tops = halves(m)
    lse = (tops[0] + low, tops[1] + high)
    lost = (_lost(lse[0], low), _lost(lse[1], high))
    if greatest_lane(greater(lost[0], lost[1])) > 0:
        if lanes_of(lanes) == 8:
            both = _twofold_logsumexps(lanes, n_classes)
            again = (both, both)
        else:
            log_sums = _wide_log_sums(lanes, n_classes, m)
            again = (tops[0] + log_sums[0], tops[1] + log_sums[1])
        low = where_greater(lost[0], wide(0.0), again[0], lse[0])
        high = where_greater(lost[1], wide(0.0), again[1], lse[1])
        lse = (low, high)
    return join(m, lse[0], lse[1])


@staged
def _lost(lse, log_sum):
    """Give a positive number in the lanes whose sum all but cancels, else 0: a NaN would hide the other lanes'."""
    lost = wide(CANCELS) * log_sum - magnitude(lse)
    return where_greater(lost, wide(0.0), lost, wide(0.0))


@apart
def _wide_log_sums(lanes, n_classes, m):
    """Do `careful._wide_log_sum`, in float64 halves."""
    width = lanes_of(lanes)
    tops, positions = halves(m), halves(lanes_position(lanes, n_classes, m))
    scale_low, scale_high = scale_of(tops[0]), scale_of(tops[1])
    low = high = number = wide(0.0)
    for j in range(n_classes):
        z = halves(load(lanes, j * width))
        low = where_equal(positions[0], number, low, low + exp_scaled(z[0], scale_low))
        high = where_equal(positions[1], number, high, high + exp_scaled(z[1], scale_high))
        number = number + wide(1.0)
    return log1p(low / exp_scaled(tops[0], scale_low)), log1p(high / exp_scaled(tops[1], scale_high))


@apart
def _twofold_logsumexps(lanes, n_classes):
    """Do `careful._twofold_logsumexp`; lanes that do not cancel hold anything."""
    total = wide(-1.0), empty_sum()
    for j in range(n_classes):
        total = add_exp(total, halves(load(lanes, j * lanes_of(lanes)))[0])
    x, rest = settled(total)
    return log1p_twofold(x, rest)


@staged
def log_softmax_lanes(lanes, n_classes, scratch):
    """Do `rows.log_softmax_row`."""
    width = lanes_of(lanes)
    m, low, high = log_sum_lanes(lanes, n_classes, scratch)
    log_sum = join(m, low, high)
    for j in range(n_classes):
        store(lanes, j * width, (load(lanes, j * width) - m) - log_sum)


@staged
def cross_entropy_lanes(lanes, n_classes, label_halves):
    """Do `rows.cross_entropy_row`, in float64 halves, and replace z_j by e_j; ignored rows have no loss."""
    top, near = lanes_range(lanes, n_classes)
    scale = scale_of(top)
    others, z_label = lanes_exp_sum(lanes, n_classes, join(top, *label_halves), near, scale, lanes)
    tops, e_tops = halves(top), halves(exp_scaled(top, scale))
    z_labels, e_labels = halves(z_label), halves(exp_scaled(z_label, scale))
    low = loss_of(top, tops[0], z_labels[0], e_tops[0], e_labels[0], others[0])
    high = loss_of(top, tops[1], z_labels[1], e_tops[1], e_labels[1], others[1])
    low = where_equal(label_halves[0], wide(IGNORED), wide(0.0), low)
    high = where_equal(label_halves[1], wide(IGNORED), wide(0.0), high)
    return (low, high), others, (others[0] + e_labels[0], others[1] + e_labels[1]), near


@staged
def cross_entropy_with_grad_lanes(lanes, n_classes, label_halves, weights):
    """Do `stores.cross_entropy_with_grad_row`, with `weights` in halves. The caller zeroes ignored rows."""
    losses, others, totals, near = cross_entropy_lanes(lanes, n_classes, label_halves)
    labels = join(splat(lanes, 0.0), *label_halves)
    near = near and not _any_small(weights, totals, LEAST_NEAR_QUOTIENT)
    if not near and _any_small(weights, totals, least_quotient(lanes)):
        factors = (_factor(weights[0], totals[0], lanes), _factor(weights[1], totals[1], lanes))
        factor, width = join(labels, factors[0], factors[1]), lanes_of(lanes)
        for j in range(n_classes):
            store(lanes, j * width, load(lanes, j * width) * factor)
        others = (others[0] * factors[0], others[1] * factors[1])
        totals = (totals[0] * factors[0], totals[1] * factors[1])
    at_label = splat(lanes, 0.0) - join(labels, others[0], others[1])
    lanes_multiply(lanes, n_classes, quotient_of(labels, weights, totals), near, labels, at_label)
    return losses


@staged
def _any_small(weights, totals, least):
    """Whether any lane's weight / total is below `least`, but not 0."""
    low, high = _smallness(weights[0], totals[0], least), _smallness(weights[1], totals[1], least)
    return greatest_lane(greater(low, high)) > 0


@staged
def _smallness(weights, totals, least):
    """Give 1 in the lanes whose weight / total is below `least`, but not 0, and 0 in the others."""
    small = where_greater(wide(least) * totals, magnitude(weights), wide(1.0), wide(0.0))
    return where_equal(weights, wide(0.0), wide(0.0), small)


@staged
def _factor(weights, totals, like):
    """Give what to multiply e_j by, so that they lose their headroom where they must: see `stores.sum_for_grad`."""
    smallness = _smallness(weights, totals, least_quotient(like))
    return where_greater(smallness, wide(0.0), wide(NO_HEADROOM), wide(1.0))
