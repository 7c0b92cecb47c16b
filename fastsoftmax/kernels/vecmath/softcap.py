"""The softcap of a logit, softcap · tanh(scale · z / softcap), with more digits than its dtype.

For e^q shows each rounding of q times |q|: with float32's own digits the probabilities of logits near a softcap of 50
would be off by 30 ulp. What is needed is computed from E = e^(−2|u|), u = scale · z / softcap, in float64; of float64
logits in double-double numbers, which is slow.
"""

import math
from typing import NamedTuple

from ..compiling.values import Vector
from ..simd.convert import demote, promote
from ..simd.vector import fma, is_double, magnitude, splat, where_equal, where_greater
from .double_double import exact_sum, exp_double_double
from .exp import HEADROOM, exp_scaled, scale_of


class Softcapped(NamedTuple):
    """The softcap of a vector of logits."""

    q: Vector
    rest: Vector  # what q has rounded off
    decay: Vector  # E, in float64


def softcapped(z, scale, softcap):
    """Compute q = softcap · tanh(scale · z / softcap) in two parts: the second is what the first has rounded off.

    An ulp of the softcap is the distance from it to the next number of the dtype of z.

    Maximum error: 2e-8 ulp of the softcap in float32, 1e-15 in float64. Valid range: any z; infinities stay, and NaN
    for NaN. The scale is above 0 and finite, the softcap from 1e-30 on and finite; in float64 both and scale / softcap
    are from 1e-290 on and finite.
    """
    return (_softcapped_doubles if is_double(z) else _softcapped_floats)(z, scale, softcap)


def softcap_slope(capped):
    """Compute 1 − (q / softcap)² = 4E / (1 + E)² of what `softcapped` gave.

    Maximum error: 0.51 ulp in float32, 4.5 in float64. Valid range: that of `softcapped`; 0 where z is infinite and NaN
    for NaN; where the result is below 1.4e-307 it may be 0.
    """
    e = capped.decay
    below = splat(e, 1.0) + e
    return demote(splat(e, 4.0) * e / (below * below), capped.q)


def _softcapped_floats(z, scale, softcap):
    wide = promote(z)
    size, one = magnitude(wide), splat(wide, 1.0)
    u = size * splat(wide, scale / softcap)
    e = exp_scaled(u * splat(u, -2.0), scale_of(splat(wide, 0.0))) * splat(wide, 2.0**-HEADROOM)
    # Where 1 − E would have lost the digits of u, two terms of tanh's series are right to 2⁻⁴⁶.
    tanh = where_greater(splat(u, 2.0**-11), u, u * fma(u * u, splat(u, -1 / 3), one), (one - e) / (one + e))
    size = _unless_infinite(splat(wide, softcap) * tanh, size, size)
    q = demote(size, z)
    rest = _unless_infinite(demote(size - promote(q), z), magnitude(z), splat(z, 0.0))
    return Softcapped(_with_sign(q, z), _with_sign(rest, z), e)


def _softcapped_doubles(z, scale, softcap):
    size, cap, one = magnitude(z), splat(z, softcap), splat(z, 1.0)
    e, e_rest = exp_double_double(*_minus_twice(size, scale, softcap))
    above, above_rest = exact_sum(one, -e)
    below, below_rest = exact_sum(one, e)
    above_rest, below_rest = above_rest - e_rest, below_rest + e_rest
    tanh = above / below
    lost = fma(-tanh, below, above) + (above_rest - tanh * below_rest)
    q = cap * tanh
    q, rest = exact_sum(q, fma(cap, tanh, -q) + cap * (lost / below))
    q = _unless_infinite(q, size, size)  # whose rest is 0 then
    return Softcapped(_with_sign(q, z), _with_sign(rest, z), e + e_rest)  # of which the second is more than a last bit


def _minus_twice(size, scale, softcap):
    """Compute −2 · scale · size / softcap as a double-double number."""
    cap, scale = splat(size, softcap), splat(size, scale)
    factor = scale / cap
    factor_rest = fma(-factor, cap, scale) / cap
    u = size * factor
    rest = fma(size, factor, -u) + size * factor_rest
    return u * splat(u, -2.0), rest * splat(u, -2.0)


def _with_sign(magnitudes, z):
    """Give magnitudes the sign of z."""
    return where_greater(splat(z, 0.0), z, -magnitudes, magnitudes)


def _unless_infinite(value, size, otherwise):
    return where_equal(size, splat(size, math.inf), otherwise, value)
