"""Products with a quotient that has more digits than its dtype."""

from typing import NamedTuple

from ..compiling.values import Vector
from ..simd.convert import demote, promote
from ..simd.vector import broadcast, constant, fma, is_double, lone, magnitude, where_equal, where_greater, zero_below
from .constants import zero
from .exp import HEADROOM

# Times this, a vector of e^z has no headroom. Its product with a quotient below `least_quotient` is no longer what it
# should be: `quotient_of` would give a number below the smallest normal one.
NO_HEADROOM = 2.0**-HEADROOM
# From this on all products with the e^z of near rows are normal numbers: see `exp_near`.
LEAST_NEAR_QUOTIENT = 2.0**-103


def least_quotient(like):
    """Give the quotient below which `NO_HEADROOM` is called for."""
    return 2.0**-1016 if is_double(like) else 2.0**-120


_smallest_normal = constant(2.0**-126, 2.0**-1022)
# What the lower part of a quotient may be below the higher: a still lower one would not change the product by more than
# a sixteenth of an ulp, but be subnormal in more of them (a sure model's gradient takes 1.4 times as long: M25).
_as_much_lower = constant(2.0**28, 2.0**57)


class Quotient(NamedTuple):
    """A quotient in two parts, and what x must not be below for its product with each to be a normal number."""

    high: Vector
    low: Vector
    high_floor: Vector
    low_floor: Vector


def quotient_of(like, weights, totals):
    """Prepare x · weight / total for `multiply`, from float64 lanes; `like` says the dtype of x.

    The quotient comes in two parts, so that only the product is rounded: a row of one class is exactly 1. Products that
    would be subnormal are left out: those are slow to compute.

    Maximum error: 0.07 ulp. Valid range: finite totals, weights from 2⁻¹⁰⁰⁰ and quotients from `least_quotient` to the
    largest float, of either sign; and 0. Larger ones are ∞; NaN for NaN and 0 / 0.
    """
    q = weights / totals
    high = demote(q, like)
    # In float64 the quotient itself was rounded.
    low = fma(-q, totals, weights) / totals if is_double(like) else demote(q - promote(high), like)
    low = where_equal(high - high, zero(low), low, zero(low))  # nothing where the higher part is infinite
    low = where_greater(magnitude(high), magnitude(low) * _as_much_lower(high), zero(low), low)
    floor = _smallest_normal(high) / magnitude(high)
    return Quotient(high, low, floor, floor * _as_much_lower(high))


def row_quotient(like, weight, total):
    """Prepare `multiply` for all lanes by one weight / total."""
    return Quotient(*(broadcast(part, like) for part in quotient_of(like, lone(weight), lone(total))))


def multiply(x, quotient):
    """Multiply by a quotient, rounded once; zero where that is below the smallest normal number.

    Maximum error: 0.57 ulp, and 1.5 of products below 2⁻⁹⁸ (in float64 2⁻⁹⁶⁵), which lose the quotient's lower part.
    Valid range: finite x, subnormal or 0 too, times what `quotient_of` is valid for. A product within 2 ulp of the
    smallest normal number may be 0; NaN for NaN and 0 · ∞.
    """
    size = magnitude(x)
    below = zero_below(x, size, quotient.low_floor) * quotient.low
    return fma(zero_below(x, size, quotient.high_floor), quotient.high, below)


def multiply_near(x, quotient):
    """Multiply likewise where no product is too small: for `exp_near` times quotients from `LEAST_NEAR_QUOTIENT` on.

    Maximum error: 0.57 ulp. Valid range: products from 2⁻⁹⁷ on, of either sign, and 0; NaN for NaN.
    """
    return fma(x, quotient.high, x * quotient.low)
