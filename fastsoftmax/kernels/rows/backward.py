"""The mathematics of one row behind a softmax or log-softmax: `rows`, backward."""

import math

from ..compiling.staging import staged
from ..simd.accumulate import add_four_to_sum, add_to_sum, empty_sum, lane_sums, sum_of
from ..simd.convert import demote, promote
from ..simd.memory import load, load_first, store, store_first, stream, unaligned
from ..simd.reduce import first_lane
from ..simd.vector import fma, lanes_of, magnitude, splat, where_greater
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.quotient import NO_HEADROOM, least_quotient
from .bundles import ask_for_class, store_class
from .vector_sums import begin_sums, fold_lanes, keep_sums, kept_sums


@staged
def sum_of_products(values, factors, start, stop):
    """Compute Σ_j v_j f_j, or Σ_j v_j if `factors` is None."""
    width = lanes_of(values)
    total = empty_sum(values)
    i = start
    while i + 4 * width <= stop:
        v0, v1 = load(values, i), load(values, i + width)
        v2, v3 = load(values, i + 2 * width), load(values, i + 3 * width)
        if factors is not None:
            v0, v1 = v0 * load(factors, i), v1 * load(factors, i + width)
            v2, v3 = v2 * load(factors, i + 2 * width), v3 * load(factors, i + 3 * width)
        total = add_four_to_sum(total, v0, v1, v2, v3)
        i += 4 * width
    while i < stop:
        value = load_first(values, i, stop - i, 0.0)
        if factors is not None:
            value = value * load_first(factors, i, stop - i, 0.0)
        total = add_to_sum(total, value)
        i += width
    return sum_of(total)


@staged
def _sums_of_lanes(values, factors, n_classes, later):
    """Compute the same of rows in lanes, to the same bits, in float64 lanes, and ask for what is needed later."""
    width, none = lanes_of(values), (empty_sum(values),)
    room = begin_sums(values, none)
    fours = n_classes // (4 * width) * (4 * width)
    for first in range(0, fours, 4 * width):
        for j in range(first, first + width):
            (total,) = kept_sums(room, j - first, none)
            keep_sums(room, j - first, (add_four_to_sum(total, *_products(values, factors, j, width, 4, later)),))
    for j in range(fours, n_classes):
        (total,) = kept_sums(room, (j - fours) % width, none)
        keep_sums(room, (j - fours) % width, (add_to_sum(total, *_products(values, factors, j, width, 1, later)),))
    (total,) = fold_lanes(room, none)
    return lane_sums(total)


def _products(values, factors, j, step, count, later):
    """Load v_j f_j, or v_j, of some classes of rows in lanes, each `step` after the one before."""
    for vectors in later:
        for k in range(count):
            ask_for_class(vectors, j + k * step)
    places = [(j + k * step) * lanes_of(values) for k in range(count)]
    return [load(values, at) if factors is None else load(values, at) * load(factors, at) for at in places]


@staged
def _combine_rows(function, arguments, first, second, start, stop, out, streamed):
    """Write function(first_j, second_j, arguments) to `out`, past the caches if `streamed`."""
    width = lanes_of(out)
    i = start
    if streamed:
        left = min(unaligned(out, i), stop - i)
        a, b = load_first(first, i, left, 0.0), load_first(second, i, left, 0.0)
        store_first(out, i, left, function(a, b, arguments))
        i += left
    while i + width <= stop:
        result = function(load(first, i), load(second, i), arguments)
        if streamed:
            stream(out, i, result)
        else:
            store(out, i, result)
        i += width
    if i < stop:
        a, b = load_first(first, i, stop - i, 0.0), load_first(second, i, stop - i, 0.0)
        store_first(out, i, stop - i, function(a, b, arguments))


@staged
def softmax_backward_row(probs, dprobs, dlogits, streamed, start, stop):
    """Compute ∂L/∂z_j = a_j (g_j − Σ_s a_s g_s) from g = ∂L/∂a."""
    mean = splat(probs, sum_of_products(probs, dprobs, start, stop))
    _combine_rows(_softmax_grad, mean, probs, dprobs, start, stop, dlogits, streamed)


@staged
def softmax_backward_lanes(probs, dprobs, n_classes, results, later):
    """Write ∂L/∂z_j of rows in lanes."""
    mean, width = demote(_sums_of_lanes(probs, dprobs, n_classes, later), probs), lanes_of(probs)
    for j in range(n_classes):
        store_class(results, j, _softmax_grad(load(probs, j * width), load(dprobs, j * width), mean))


@staged
def _softmax_grad(a, g, mean):
    return a * (g - mean)


@staged
def log_softmax_backward_row(log_probs, dlog_probs, dlogits, streamed, start, stop):
    """Compute ∂L/∂z_j = g_j − a_j Σ_s g_s from g = ∂L/∂log a."""
    total = sum_of_products(dlog_probs, None, start, stop)
    # A total that is small is not divided by the headroom of e^z: then e^z has none.
    scale = scale_of(
        splat(log_probs, -math.log(NO_HEADROOM) if abs(total) < least_quotient(log_probs) / NO_HEADROOM else 0.0)
    )
    minus_total = splat(log_probs, -total / first_lane(exp_scaled(splat(log_probs, 0.0), scale)))
    _combine_rows(_log_softmax_grad, (scale, minus_total), log_probs, dlog_probs, start, stop, dlogits, streamed)


@staged
def log_softmax_backward_lanes(log_probs, dlog_probs, n_classes, results, later):
    """Write ∂L/∂z_j of rows in lanes."""
    width, zero = lanes_of(log_probs), splat(log_probs, 0.0)
    total = _sums_of_lanes(dlog_probs, None, n_classes, later)
    least, wide_zero = splat(total, least_quotient(log_probs) / NO_HEADROOM), splat(total, 0.0)
    top = where_greater(least, magnitude(total), splat(total, -math.log(NO_HEADROOM)), wide_zero)
    scale = scale_of(demote(top, log_probs))
    arguments = scale, demote(-total / promote(exp_scaled(zero, scale)), log_probs)
    for j in range(n_classes):
        grad = _log_softmax_grad(load(log_probs, j * width), load(dlog_probs, j * width), arguments)
        store_class(results, j, grad)


@staged
def _log_softmax_grad(log_a, g, arguments):
    scale, minus_total = arguments
    return fma(exp_scaled(log_a, scale), minus_total, g)
