"""exp of a vector relative to the greatest logit of its row."""

import math
from typing import NamedTuple

from ..compiling.target import AVX512
from ..compiling.values import Vector
from ..simd.reduce import greatest_lane
from ..simd.vector import (
    constant,
    fma,
    greater,
    is_double,
    magnitude,
    polynomial,
    where_greater,
    zero_below,
)
from .constants import ln2, log2_e, one, zero
from .powers import STEPS, power_of_two, rest_of_power

# Steps of ln 2 / STEPS (see `powers`) in two parts: n is an integer, so z − n·high is exact in one fma if it is small.
_steps = constant(STEPS, 1.0)
_steps_per_e = constant(STEPS / math.log(2), 1 / math.log(2))
_minus_step_high = constant(-0.693147182464599609375 / STEPS, -0.6931471805599453)
_minus_step_low = constant(1.9046542e-09 / STEPS, -2.3190468138462996e-17)
# e^r = 1 + r + r²·tail(r) for |r| ≤ half a step. The tails interpolate at Chebyshev nodes: relative error 4.65e-9 for
# 16 steps, 1.03e-8 for one, 1.72e-17 in float64.
_TAILS = {16: (0.5000098, 0.16666862), 1: (0.5, 0.16666576, 0.041666552, 0.008363353, 0.00139264)}
_exp_tail = polynomial(
    _TAILS[STEPS],
    (
        0.5000000000000001,
        0.16666666666666669,
        0.04166666666662313,
        0.008333333333329985,
        0.0013888888917710368,
        0.0001984126986343555,
        2.480152052648056e-05,
        2.7557267868262007e-06,
        2.7620453391695057e-07,
        2.5100666142918374e-08,
    ),
)
# Adding 1.5 · 2ᵐ to a float (m mantissa bits) rounds it to an integer, which then stands in the lowest bits.
_round = constant(1.5 * 2.0**23, 1.5 * 2.0**52)
# What 2^(k/STEPS) needs added to k: the exponent's bias, and headroom so that e^z is never subnormal where it counts.
HEADROOM = 64
_round_to_power = constant(1.5 * 2.0**23 + STEPS * (127 + HEADROOM), 1.5 * 2.0**52 + 1023 + HEADROOM)
_lowest_power = constant(-127.0 - HEADROOM, -1023.0 - HEADROOM)  # whose bits are those of 0
# What is further below the maximum counts as zero: e^−depth does not reach the last bit of the smallest normal number.
# Without AVX-512 that begins 4 (in float64 8) lower, at `_lowest_power`: see `exp_scaled`.
_depth = constant(128.0, 745.0)
# Logits beyond this are taken relative to their maximum first: where the result is not zero, that is exact.
EXACT = 2048.0
_exact = constant(EXACT, EXACT)
# Rows whose logits are all this close to their maximum need no test of each entry for zero, neither of its exponential
# nor, unless the quotient is less than `quotient.LEAST_NEAR_QUOTIENT`, of its product: softmax of 1,000 classes takes a
# ninth less (M11).
_NEAR = 40.0


class Scale(NamedTuple):
    """What `exp_scaled` takes of a row: see `scale_of`."""

    shift: Vector
    bias: Vector
    floor: Vector
    shift_rest: Vector | None  # what the shift has rounded off
    factor: Vector | None  # of logits and shift, None for 1


def exponent_of(z):
    """Find the power of two nearest to e^z."""
    return fma(z, log2_e(z), _round(z)) - _round(z)


def scale_of(top, rest=None, factor=None):
    """Prepare e^z for rows whose greatest logits are `top`, with what they have rounded off: a scale for `exp_scaled`.

    With a factor it is e^(factor · z), and then there is no rest.

    e^(z − top) would round z − top, which costs up to |z − top|/2 ulp. Dividing by a power of two near e^top instead
    rounds nothing. Sums over the row and quotients of its entries do not see which power it was.
    """
    is_far = magnitude(scaled(top, factor)[0]), _exact(top)
    shift = where_greater(*is_far, top, zero(top))
    shift_rest = None if rest is None else where_greater(*is_far, rest, zero(top))
    top, _ = scaled(top - shift, factor)
    power = exponent_of(top)
    floor = top - _depth(top) if AVX512 else (power + _lowest_power(top)) * ln2(top)
    return Scale(shift, _round_to_power(top) - power * _steps(top), floor, shift_rest, factor)


def scaled(z, factor, rest=None):
    """Compute factor · z and what that rounds off; without a factor it is z and its own rest."""
    if factor is None:
        return z, rest
    product = factor * z
    return product, fma(factor, z, -product)


def is_near(top, bottom):
    """Whether `exp_near` will do for all logits from `bottom` to `top`, in every lane."""
    return (greatest_lane(magnitude(top)) <= EXACT) & (greatest_lane(top - bottom) <= _NEAR)


def exp_scaled(z, scale, rest=None):
    """Compute e^(z + rest) over a power of two that is the same for the whole row; zero far below the row's maximum.

    `rest` is what z has rounded off, None for nothing. With AVX-512 it costs no instruction to leave out what is below
    the floor. Without, nothing lower is taken than what has 0 for its 2ᵏ: with a test of each result softmax took a
    tenth longer (M23).

    Maximum error: 0.65 ulp in float32, 1.25 without AVX-512, 0.95 in float64. Valid range: z from 128 (in float64 745)
    below the row's maximum to 43 (664) above, where the maximum is finite, subnormal or 0 of either sign. Further below
    and for −∞ it is 0, without AVX-512 from 133 (754) below on; NaN for NaN, and for every z if the maximum is not
    finite.
    """
    z = z - scale.shift
    if rest is not None:
        rest = zero_below(rest - scale.shift_rest, z, scale.floor)
        # Of large logits it is not small, so that it counts in what is below the floor.
        z, rest = z + rest, zero_below(rest - ((z + rest) - z), z + rest, scale.floor)
    z, rest = scaled(z, scale.factor, rest)
    if AVX512:
        return zero_below(_exp(z, rest, scale), z, scale.floor)
    rest = None if rest is None else zero_below(rest, z, scale.floor)  # of −∞ it is NaN
    return _exp(greater(scale.floor, z), rest, scale)


def exp_near(z, scale, rest=None):
    """Compute the same where no logit needs the shift or the floor: see `is_near`.

    Maximum error: 0.65 ulp in float32, 1.25 without AVX-512, 0.95 in float64. Valid range: z from 40 below the row's
    maximum to 43 (in float64 664) above, where |maximum| ≤ 2048; NaN for NaN. Any other z, −∞ too, may give anything.
    """
    return _exp(*scaled(z, scale.factor, rest), scale)


def _exp(z, rest, scale):
    power = fma(z, _steps_per_e(z), scale.bias)
    n = power - scale.bias
    whole = fma(n, _minus_step_high(z), z)
    nearest = power_of_two(power)
    if not is_double(z):
        whole = whole if rest is None else whole + rest
        r = fma(n, _minus_step_low(z), whole)
        exp_r_minus_1 = fma(fma(_exp_tail(r), r, one(z)), r, rest_of_power(power))
    else:  # float64 has no wider type to sum in, so its terms keep what rounding r took
        low = n * _minus_step_low(z)
        low = low if rest is None else low + rest
        r = whole + low
        lost = low - (r - whole)
        exp_r_minus_1 = r + fma(r * r, _exp_tail(r), lost)
    return fma(nearest, exp_r_minus_1, nearest)
