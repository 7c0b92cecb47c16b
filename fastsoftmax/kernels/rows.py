"""The mathematics of one row: entries start to stop of a flat array."""

import math

from .elementary import exp_scaled, scale_of
from .jit import inline
from .lanes import (
    add_to_sum,
    drop_lane,
    empty_sum,
    first_lane,
    greater,
    greatest_lane,
    lanes_of,
    load,
    load_first,
    prefetch,
    smallest_normal,
    splat,
    store,
    store_first,
    sum_lanes,
    zero_below,
)

@inline
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


@inline
def exp_sum(logits, start, stop, skip, scale, out):
    """Compute Σ_{j≠skip} e_j with e_j = e^z_j scaled, and store e_j in `out` (0 at skip), or nowhere if it is None."""
    width = lanes_of(logits)
    total = empty_sum(logits)
    i = start
    while i + 4 * width <= stop:
        e0 = exp_scaled(load(logits, i), scale)
        e1 = exp_scaled(load(logits, i + width), scale)
        e2 = exp_scaled(load(logits, i + 2 * width), scale)
        e3 = exp_scaled(load(logits, i + 3 * width), scale)
        if i <= skip < i + 4 * width:
            e0 = drop_lane(e0, skip - i)
            e1 = drop_lane(e1, skip - i - width)
            e2 = drop_lane(e2, skip - i - 2 * width)
            e3 = drop_lane(e3, skip - i - 3 * width)
        if out is not None:
            store(out, i, e0)
            store(out, i + width, e1)
            store(out, i + 2 * width, e2)
            store(out, i + 3 * width, e3)
        total = add_to_sum(total, (e0 + e1) + (e2 + e3))
        i += 4 * width
    while i < stop:
        e0 = drop_lane(exp_scaled(load_first(logits, i, stop - i, -math.inf), scale), skip - i)
        if out is not None:
            store_first(out, i, stop - i, e0)
        total = add_to_sum(total, e0)
        i += width
    return sum_lanes(total[0]) + sum_lanes(total[1])


@inline
def multiply_row(values, start, stop, factor):
    """Multiply a row by a factor; what falls below the smallest normal number becomes zero."""
    width = lanes_of(values)
    factors = splat(values, factor)
    floor = splat(values, smallest_normal(values) / abs(factor))
    i = start
    while i + width <= stop:
        v = load(values, i)
        store(values, i, zero_below(v, v, floor) * factors)
        i += width
    if i < stop:
        v = load_first(values, i, stop - i, 0.0)
        store_first(values, i, stop - i, zero_below(v, v, floor) * factors)


@inline
def cross_entropy_with_grad_row(logits, start, stop, label, weight, dlogits):
    m = row_max(logits, start, stop)
    scale = scale_of(m, logits)
    z = logits[label]
    e_m = first_lane(exp_scaled(splat(logits, m), scale))
    e_label = first_lane(exp_scaled(splat(logits, z), scale))
    others = exp_sum(logits, start, stop, label, scale, dlogits)
    total = others + e_label
    multiply_row(dlogits, start, stop, weight / total)
    dlogits[label] = -weight * (others / total)
    if z == m:
        return math.log1p(others / e_label)
    return (float(m) - float(z)) + math.log(total / e_m)
