"""logsumexp of the few rows whose result is not certain: see `rows.logsumexp_row`."""

import math

from ..compiling.staging import apart
from ..simd.accumulate import add_to_sum, empty_sum, sum_of
from ..simd.convert import halves
from ..simd.memory import load_first
from ..simd.reduce import count_equal, first_lane
from ..simd.vector import lanes_of, wide
from ..vecmath.double_double import add_exp, log1p_twofold, settled
from ..vecmath.exp import exp_scaled, scale_of
from ..vecmath.log1p import log1p
from .row import CANCELS, drop_equal, log_sum_row, row_max


@apart
def careful_logsumexp(logits, start, stop):
    """Compute m + log Σ_j e^(z_j − m); with twice the digits where the two all but cancel."""
    row = (start, stop, row_max(logits, start, stop))
    log_sum, _ = log_sum_row(logits, row, None, None, None)
    if abs(row[2] + log_sum) < CANCELS * log_sum:
        if lanes_of(logits) == 8:
            return _twofold_logsumexp(logits, start, stop)
        log_sum = _wide_log_sum(logits, start, stop, row[2])
    return row[2] + log_sum


@apart
def _wide_log_sum(logits, start, stop, m):
    """Compute log Σ_j e^(z_j − m) of float32 logits in float64."""
    top = wide(m)
    scale = scale_of(top)
    others, ties = empty_sum(), 0
    for i in range(start, stop, 16):
        low, high = halves(load_first(logits, i, stop - i, -math.inf))
        others = add_to_sum(others, drop_equal(exp_scaled(low, scale), low, top))
        others = add_to_sum(others, drop_equal(exp_scaled(high, scale), high, top))
        ties += count_equal(low, top) + count_equal(high, top)
    return first_lane(log1p(wide(sum_of(others, top)) / exp_scaled(top, scale) + wide(ties - 1)))


@apart
def _twofold_logsumexp(logits, start, stop):
    """Compute log1p(−1 + Σ_j e^z_j) of float64 logits, with twice the digits up to the logarithm."""
    total = wide(-1 / 8), empty_sum()  # eight lanes share the −1
    for i in range(start, stop, 8):
        z = halves(load_first(logits, i, stop - i, -math.inf))[0]  # for float64 that is all of it
        total = add_exp(total, z)
    parts = settled(total)
    x = sum_of(parts, parts[0])  # one float64, so what it rounds off is asked for afterwards
    rest = sum_of(add_to_sum(parts, wide(-x / 8)), parts[0])
    return first_lane(log1p_twofold(wide(x), wide(rest)))
