"""e^z and its sums with twice the digits of float64, for sums so close to 1 that float64 rounds their logarithm away.

A double-double number is the sum of two float64 vectors, the second of which holds what the first rounded off: see
Dekker, "A floating-point technique for extending the available precision" (1971), and Hida, Li and Bailey, "Library for
double-double and quad-double arithmetic" (2007). Sums are exact by Knuth's two-sum (`add_to_sum`), products by fma.
"""

import functools
import math
from typing import NamedTuple

from ..compiling.values import Vector
from ..simd.accumulate import Sum, add_to_sum, two_sum
from ..simd.vector import fma, splat, zero_below
from .log1p import log1p
from .powers import power_of_two

_LOG2_E = 1 / math.log(2)
_ROUND_TO_POWER = 1.5 * 2.0**52 + 1023  # see `exp`
# ln 2 in three parts: the first two have 42 bits each, so that their products with an exponent are exact.
_LN2_HIGH = 0.6931471805598903
_LN2_MIDDLE = 5.4979230187085024e-14
_LN2_LOW = -1.3124698417785255e-27
_FLOOR = -708.0  # below, 2ᵏ is not a normal number, and e^z counts as zero


# The series of e^r: for |r| ≤ ln 2 / 2 what follows r²³/23! is less than 2⁻¹¹⁵. From r¹³/13! < 2⁻⁵² on plain float64
# will do; the coefficients before are double-double.
@functools.cache
def _coefficients():
    from fractions import Fraction  # here, for few need it and it is slow (M26)

    exact = [Fraction(1, math.factorial(i)) for i in range(24)]
    return [(float(c), float(c - Fraction(float(c)))) for c in exact[:13]], [float(c) for c in exact[13:]]


def _exp_series(r, rest):
    """Evaluate the series of e^(r + rest) by Horner's rule, for |r| ≤ ln 2 / 2: a double-double number."""
    double_double, plain = _coefficients()
    high, low = splat(r, plain[-1]), splat(r, 0.0)
    for c in reversed(plain[:-1]):
        high = fma(high, r, splat(r, c))
    for c_high, c_low in reversed(double_double):
        product = high * r
        lost = fma(high, r, -product)
        lost = fma(low, r, fma(high, rest, lost))
        # The coefficient is greater than the product, so Dekker's shorter sum is exact.
        high = splat(r, c_high) + product
        low = (product - (high - splat(r, c_high))) + (lost + splat(r, c_low))
    return high, low


def exp_double_double(z, z_rest=None):
    """Compute e^(z + z_rest) as a double-double number; `z_rest` is what z has rounded off, None for nothing.

    Maximum error: 3e-16 ulp, 2e-11 with a rest where |z| > 1, and for |z| < 2⁻⁵⁰ no more than 2⁻⁵³ · |z|. Valid range:
    z from −670 to 709, subnormal or 0 too, and a rest of up to half an ulp of it. From there down to −708 the lower
    part is subnormal, and the error up to 0.5 ulp; further below and for −∞ it is 0, whatever the rest. NaN for NaN;
    what is larger than 709, ∞ too, may give anything.
    """
    power = fma(z, splat(z, _LOG2_E), splat(z, _ROUND_TO_POWER))
    n = power - splat(z, _ROUND_TO_POWER)
    r, rest = exact_sum(fma(n, splat(z, -_LN2_HIGH), z), n * splat(z, -_LN2_MIDDLE))
    rest = rest if z_rest is None else rest + z_rest
    high, low = _exp_series(r, fma(n, splat(z, -_LN2_LOW), rest))
    scale, floor = power_of_two(power), splat(z, _FLOOR)
    return zero_below(high * scale, z, floor), zero_below(low * scale, z, floor)


def exact_sum(a, b):
    """Compute a + b as a double-double number."""
    return two_sum(a, b, splat(a, 0.0))


class ExpSum(NamedTuple):
    """A running sum of double-double numbers: its rounded value, and what was rounded off, itself a running sum."""

    high: Vector
    rest: Sum


def add_exp(running, z, z_rest=None):
    """Add e^(z + z_rest) to a running sum."""
    e_high, e_low = exp_double_double(z, z_rest)
    high, lost = exact_sum(running.high, e_high)
    return ExpSum(high, add_to_sum(add_to_sum(running.rest, lost), e_low))


def settled(running):
    """Give the value of a running sum as a double-double number."""
    high, low = exact_sum(running.high, running.rest.total)
    return high, low + running.rest.error


def log1p_double_double(x, rest):
    """Compute log(1 + x + rest), where `rest` is what x has rounded off.

    Maximum error: 1.5 ulp. Valid range: x from −0.9 to 1.27e308, and |rest| ≤ 2⁻⁵³ · |x|; 0 for 0 of either sign, NaN
    for NaN. Nearer to −1, the square of `rest` would count.
    """
    return log1p(x) + rest / (splat(x, 1.0) + x)
