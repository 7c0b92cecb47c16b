"""Products with a quotient that has more digits than its dtype."""

from ..simd.convert import halves, join
from ..simd.vector import constant, fma, lanes_of, magnitude, where_equal, where_greater, wide, zero_below
from .constants import zero


def least_quotient(like):
    """Give the quotient below which `NO_HEADROOM` is called for."""
    return 2.0**-120 if lanes_of(like) == 16 else 2.0**-1016


_smallest_normal = constant(2.0**-126, 2.0**-1022)


# What the lower part of a quotient may be below the higher: a still lower one would not change the product by more than
# a sixteenth of an ulp, but be subnormal in more of them (a sure model's gradient took 1.4 times as long).
_as_much_lower = constant(2.0**28, 2.0**57)


def quotient_of(like, weights, totals):
    """Prepare x · weight / total for `multiply`, from float64 halves; `like` says the dtype of x.

    The quotient comes in two parts, so that only the product is rounded: a row of one class is exactly 1. With each
    comes what x must not be below for a product that is a normal number: subnormal ones are slow to compute.
    """
    q = (weights[0] / totals[0], weights[1] / totals[1])
    high = join(like, q[0], q[1])
    rounded = halves(high)
    if lanes_of(like) == 16:
        low = join(like, q[0] - rounded[0], q[1] - rounded[1])
    else:  # the quotient itself was rounded
        rest = fma(wide(0.0) - q[0], totals[0], weights[0]) / totals[0]
        low = join(like, rest, rest)
    low = where_equal(high - high, zero(low), low, zero(low))  # nothing where the higher part is infinite
    low = where_greater(magnitude(high), magnitude(low) * _as_much_lower(high), zero(low), low)
    floor = _smallest_normal(high) / magnitude(high)
    return high, low, floor, floor * _as_much_lower(high)


def multiply(x, quotient):
    """Multiply by a quotient, rounded once; zero where that is below the smallest normal number."""
    high, low, high_floor, low_floor = quotient
    size = magnitude(x)
    return fma(zero_below(x, size, high_floor), high, zero_below(x, size, low_floor) * low)


def multiply_near(x, quotient):
    """Do the same where no product is too small: for `exp_near` times quotients from `LEAST_NEAR_QUOTIENT` on."""
    high, low, _, _ = quotient
    return fma(x, high, x * low)
