"""logsumexp of the few rows whose result is not certain: see `whole.logsumexp_row`."""

import math

from ..compiling.staging import noinline
from ..simd.accumulate import Sum, add_to_sum, empty_sum, sum_of
from ..simd.convert import promote
from ..simd.memory import load_first
from ..simd.reduce import count_equal, first_lane
from ..simd.vector import broadcast, is_double, lanes_of, lone, splat
from ..vecmath.double_double import ExpSum, add_exp, log1p_double_double, settled
from ..vecmath.log1p import log1p
from .logits import exp_logit, exp_top, in_two_parts, logit, scale_of
from .passes import Row, drop_equal, row_max
from .whole import CANCELS, log_sum_row, row_top


@noinline
def careful_logsumexp(logits, start, stop):
    """Compute m + log Σ_j e^(q_j − m); with twice the digits where the two all but cancel."""
    row = Row(start, stop, row_max(logits, start, stop))
    log_sum, _ = log_sum_row(logits, row)
    top = row_top(logits, row.top)
    if abs(top + log_sum) < CANCELS * log_sum:
        if is_double(logits):
            return _double_double_logsumexp(logits, start, stop)
        log_sum = _log_sum_in_float64(logits, row)
    return top + log_sum


@noinline
def _log_sum_in_float64(logits, row):
    """Compute log Σ_j e^(q_j − m) of float32 logits in float64."""
    top = promote(splat(logits, row.top))
    scale = scale_of(logits, top)
    others, ties = empty_sum(top), 0
    for i in range(row.start, row.stop, lanes_of(logits)):
        z = promote(load_first(logits, i, row.stop - i, -math.inf))
        others = add_to_sum(others, drop_equal(exp_logit(logit(z, scale.transform), scale), z, top))
        ties += count_equal(z, top)
    quotient = broadcast(lone(sum_of(others)), top) / exp_top(scale)
    return first_lane(log1p(quotient + splat(top, ties - 1)))


@noinline
def _double_double_logsumexp(logits, start, stop):
    """Compute log1p(−1 + Σ_j e^q_j) of float64 logits, with twice the digits up to the logarithm."""
    lanes = lanes_of(logits)  # which share the −1
    running = ExpSum(splat(logits, -1 / lanes), empty_sum(logits))
    for i in range(start, stop, lanes):
        running = add_exp(running, *in_two_parts(logits, load_first(logits, i, stop - i, -math.inf)))
    parts = Sum(*settled(running))
    x = sum_of(parts)  # one float64, so what it rounds off is asked for afterwards
    rest = sum_of(add_to_sum(parts, splat(logits, -x / lanes)))
    return first_lane(log1p_double_double(lone(x), lone(rest)))
