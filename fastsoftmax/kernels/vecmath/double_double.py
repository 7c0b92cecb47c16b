"""e^z and its sums with twice the digits of float64, for sums so close to 1 that float64 rounds their logarithm away.

A twofold number is the sum of two float64 vectors, the second of which holds what the first rounded off: see Dekker, "A
floating-point technique for extending the available precision" (1971), and Hida, Li and Bailey, "Library for
double-double and quad-double arithmetic" (2007). Sums are exact by Knuth's two-sum (`add_to_sum`), products by fma.
"""

import functools
import math

from ..simd.accumulate import add_to_sum
from ..simd.vector import fma, wide, zero_below
from .log1p import log1p
from .powers import power_of_two

_LOG2_E = 1 / math.log(2)
_ROUND_TO_POWER = 1.5 * 2.0**52 + 1023  # see `elementary`
# ln 2 in three parts: the first two have 42 bits each, so that their products with an exponent are exact.
_LN2_HIGH = 0.6931471805598903
_LN2_MIDDLE = 5.4979230187085024e-14
_LN2_LOW = -1.3124698417785255e-27
_FLOOR = -708.0  # below, 2ᵏ is not a normal number, and e^z counts as zero


# The series of e^r: for |r| ≤ ln 2 / 2 what follows r²³/23! is less than 2⁻¹¹⁵. From r¹³/13! < 2⁻⁵² on plain float64
# will do; the coefficients before are twofold.
@functools.cache
def _coefficients():
    from fractions import Fraction  # here, for few need it and it takes 40 ms

    exact = [Fraction(1, math.factorial(i)) for i in range(24)]
    return [(float(c), float(c - Fraction(float(c)))) for c in exact[:13]], [float(c) for c in exact[13:]]


def _exp_series(r, rest):
    """Evaluate the series of e^(r + rest) by Horner's rule, for |r| ≤ ln 2 / 2: a twofold number."""
    twofold, plain = _coefficients()
    high, low = wide(plain[-1]), wide(0.0)
    for c in reversed(plain[:-1]):
        high = fma(high, r, wide(c))
    for c_high, c_low in reversed(twofold):
        product = high * r
        lost = fma(high, r, -product)
        lost = fma(low, r, fma(high, rest, lost))
        # The coefficient is greater than the product, so Dekker's shorter sum is exact.
        high = wide(c_high) + product
        low = (product - (high - wide(c_high))) + (lost + wide(c_low))
    return high, low


def exp_twofold(z):
    """Compute e^z as a twofold number for z ≤ 709: off by 2⁻¹⁰⁴ of it, and by 2⁻⁵⁴ of z where that is less."""
    power = fma(z, wide(_LOG2_E), wide(_ROUND_TO_POWER))
    n = power - wide(_ROUND_TO_POWER)
    r, rest = two_sum(fma(n, wide(-_LN2_HIGH), z), n * wide(-_LN2_MIDDLE))
    high, low = _exp_series(r, fma(n, wide(-_LN2_LOW), rest))
    scale, floor = power_of_two(power), wide(_FLOOR)
    return zero_below(high * scale, z, floor), zero_below(low * scale, z, floor)


def two_sum(a, b):
    """Compute a + b as a twofold number."""
    return add_to_sum((a, wide(0.0)), b)


def add_exp(total, z):
    """Add e^z to a running sum: its rounded value, and what was rounded off, itself a sum of `sums`."""
    e_high, e_low = exp_twofold(z)
    high, lost = two_sum(total[0], e_high)
    return high, add_to_sum(add_to_sum(total[1], lost), e_low)


def settled(total):
    """Give the value of a running sum as a twofold number."""
    high, rest = two_sum(total[0], total[1][0])
    return high, rest + total[1][1]


def log1p_twofold(x, rest):
    """Compute log(1 + x + rest), where `rest` is what x has rounded off."""
    return log1p(x) + rest / (wide(1.0) + x)
