"""Statistics of a row beside its loss: lse, the prediction (the first greatest class, as of argmax), the entropy."""

import math
from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import noinline, staged
from ..simd.convert import promote
from ..simd.memory import load, load_first, store_first, store_integers
from ..simd.reduce import count_equal, first_lane, matching_lane
from ..simd.vector import lanes_of, magnitude, splat, where_equal, where_greater
from .options import has_stats, store_loss


class Prediction(NamedTuple):
    """The first greatest class of a row, and its logit."""

    number: Number
    logit: Number


@staged
def predict(logits, start, stop, top):
    """Find a row's first logit that is `top`, its maximum.

    A NaN is left to `settled_prediction`, unless the maximum is infinite: then the sum is NaN anyway.
    """
    width, greatest = lanes_of(logits), splat(logits, top)
    i, at = start, stop
    while i + 4 * width <= stop and _none_equals(logits, i, greatest):
        i += 4 * width
    while (i < stop) & (at == stop):
        lane = matching_lane(load_first(logits, i, stop - i, math.nan), greatest)
        if lane < width:
            at = i + lane
        i += width
    if math.isinf(top) | (at == stop):
        at = _nan_or(logits, start, stop, at)
    return Prediction(at - start, logits[at])


@staged
def _none_equals(logits, i, greatest):
    """Whether none of four vectors has a lane that is the maximum."""
    width = lanes_of(logits)
    return (
        count_equal(load(logits, i), greatest)
        + count_equal(load(logits, i + width), greatest)
        + count_equal(load(logits, i + 2 * width), greatest)
        + count_equal(load(logits, i + 3 * width), greatest)
    ) == 0


@noinline
def _nan_or(values, start, stop, otherwise):
    """Find the first NaN; give another index where there is none."""
    for i in range(start, stop):
        if math.isnan(values[i]):
            return i
    return otherwise


@staged
def settled_prediction(prediction, total, top, values, start, stop):
    """Give the prediction of a row whose Σ e_j is known; `values` are its logits or its e_j: both are NaN together."""
    number = prediction.number
    if math.isnan(total) & (not math.isinf(top)):
        number = _nan_or(values, start, stop, start + number) - start
    return Prediction(number, prediction.logit)


@staged
def predict_lanes(lanes, n_classes, top, first):
    """Give the predictions of a bundle, in float64 lanes: the first NaN, else the `first` that is the maximum."""
    width, number = lanes_of(lanes), splat(lanes, n_classes)
    nan = none = splat(lanes, -1.0)
    for j in range(n_classes - 1, -1, -1):
        number = number - splat(lanes, 1.0)
        z = load(lanes, j * width)
        nan = where_equal(z, z, nan, number)
    prediction = where_greater(nan, none, nan, first)
    return Prediction(promote(prediction), promote(where_greater(nan, none, splat(lanes, math.nan), top)))


@staged
def store_stats(args, row, found):
    """Store a row's statistics, if they are asked for; log Σ e^q of an infinite maximum is the maximum."""
    options = args.options
    if has_stats(options):
        number, logit = found.prediction
        options.predictions[row] = number
        options.lse[row] = first_lane(found.lse)
        if math.isinf(logit):
            options.lse[row] = logit
        options.entropy[row] = first_lane(found.entropy)


@staged
def store_found(args, row, found):
    """Store a row's loss and its statistics; an ignored row's loss is left to `leave_out_after`."""
    store_loss(args, row, first_lane(found.loss))
    store_stats(args, row, found)


@staged
def store_lane_stats(args, row, n_rows, found):
    """Store the statistics of a bundle likewise."""
    options = args.options
    if has_stats(options):
        number, logit = found.prediction
        lse = where_equal(magnitude(logit), splat(logit, math.inf), logit, found.lse)
        store_integers(options.predictions, row, n_rows, number)
        store_first(options.lse, row, n_rows, lse)
        store_first(options.entropy, row, n_rows, found.entropy)
