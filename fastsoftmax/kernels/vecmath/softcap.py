"""The softcap of a logit, softcap · tanh(scale · z / softcap), with more digits than its dtype.

For e^q shows each rounding of q times |q|: with float32's own digits the probabilities of logits near a softcap of 50
would be off by 30 ulp. What is needed is computed from E = e^(−2|u|), u = scale · z / softcap, in float64; of float64
logits in double-double numbers, which is slow.
"""

import math

from ..simd.convert import demote, promote
from ..simd.vector import fma, is_double, magnitude, splat, where_equal, where_greater
from .double_double import exact_sum, exp_double_double
from .exp import HEADROOM, exp_scaled, scale_of


def _exp_of_minus(u):
    """Compute e^(−2u) of float64 lanes u ≥ 0."""
    zero = splat(u, 0.0)
    return exp_scaled(u * splat(u, -2.0), scale_of(zero)) * splat(u, 2.0**-HEADROOM)


def _with_sign(magnitudes, z):
    """Give magnitudes the sign of z."""
    return where_greater(splat(z, 0.0), z, -magnitudes, magnitudes)


def _wide(z, scale, softcap):
    """Compute q of float32 logits in float64; infinite logits stay so."""
    z = promote(z)
    e, one = _exp_of_minus(magnitude(z) * splat(z, scale / softcap)), splat(z, 1.0)
    q = _with_sign(splat(z, softcap) * ((one - e) / (one + e)), z)
    return where_equal(magnitude(z), splat(z, math.inf), z, q)


def _double_double(z, scale, softcap):
    """Compute q of float64 logits as a double-double number; infinite logits stay so."""
    size, cap, one, zero = magnitude(z), splat(z, softcap), splat(z, 1.0), splat(z, 0.0)
    e, e_rest = exp_double_double(*_minus_twice(size, scale, softcap))
    above, above_rest = exact_sum(one, -e)
    below, below_rest = exact_sum(one, e)
    above_rest, below_rest = above_rest - e_rest, below_rest + e_rest
    tanh = above / below
    lost = fma(-tanh, below, above) + (above_rest - tanh * below_rest)
    q = cap * tanh
    q, rest = exact_sum(q, fma(cap, tanh, -q) + cap * (lost / below))
    infinite = splat(z, math.inf)
    q, rest = where_equal(size, infinite, size, q), where_equal(size, infinite, zero, rest)
    return _with_sign(q, z), _with_sign(rest, z)


def _minus_twice(size, scale, softcap):
    """Compute −2 · scale · size / softcap as a double-double number."""
    cap, scale = splat(size, softcap), splat(size, scale)
    factor = scale / cap
    factor_rest = fma(-factor, cap, scale) / cap
    u = size * factor
    rest = fma(size, factor, -u) + size * factor_rest
    return u * splat(u, -2.0), rest * splat(u, -2.0)


def softcapped(z, scale, softcap):
    """Compute softcap · tanh(scale · z / softcap) in two parts: the second is what the first has rounded off.

    Maximum error: 1e-7 ulp of the softcap in float32, 1e-12 in float64. Valid range: any z; infinities stay, with a
    rest of 0 or NaN, and NaN for NaN. The scale and the softcap are above 0 and finite, and so is their quotient.
    """
    if is_double(z):
        return _double_double(z, scale, softcap)
    q = _wide(z, scale, softcap)
    high = demote(q, z)
    return high, demote(q - promote(high), z)


def softcap_gap(top, z, scale, softcap):
    """Compute softcapped(top) − softcapped(z) in float64.

    Maximum error: 1e-7 ulp of the softcap in float32, 0.51 in float64. Valid range: that of `softcapped`.
    """
    if is_double(z):
        (q_top, top_rest), (q, rest) = (_double_double(each, scale, softcap) for each in (top, z))
        return (q_top - q) + (top_rest - rest)
    return _wide(top, scale, softcap) - _wide(z, scale, softcap)


def softcap_slope(z, scale, softcap):
    """Compute 1 − (q / softcap)² = 4E / (1 + E)².

    Maximum error: 0.51 ulp in float32, 5 in float64. Valid range: any z, 0 where it is infinite and NaN for NaN; where
    the result is below the smallest normal number of float64 it may be 0.
    """
    if is_double(z):
        e, rest = exp_double_double(*_minus_twice(magnitude(z), scale, softcap))
        e = e + rest  # which is more than its last bit
    else:
        wide = promote(z)
        e = _exp_of_minus(magnitude(wide) * splat(wide, scale / softcap))
    below = splat(e, 1.0) + e
    return demote(splat(e, 4.0) * e / (below * below), z)
