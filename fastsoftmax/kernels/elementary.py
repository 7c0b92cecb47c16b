"""exp of a vector relative to the greatest logit of its row, its quotient by a sum, and log(1 + x) in float64."""

import math

from .exponents import halvings, split_exponent
from .lanes import (
    constant,
    fma,
    greater,
    lanes_of,
    magnitude,
    polynomial,
    where_equal,
    where_greater,
    wide,
    zero_below,
)
from .powers import STEPS, power_of_two, rest_of_power
from .sums import greatest_lane, halves, join
from .target import AVX512

_zero = constant(0.0, 0.0)
_one = constant(1.0, 1.0)
_half = constant(0.5, 0.5)
_two = constant(2.0, 2.0)
_ln2 = constant(math.log(2), math.log(2))

_log2_e = constant(1 / math.log(2), 1 / math.log(2))
# Steps of ln 2 / STEPS (see `powers`) in two parts: n is an integer, so z − n·high is exact in one fma if it is small.
_steps = constant(STEPS, 1.0)
_steps_per_e = constant(STEPS / math.log(2), 1 / math.log(2))
_minus_step_high = constant(-0.693147182464599609375 / STEPS, -0.6931471805599453)
_minus_step_low = constant(1.9046542e-09 / STEPS, -2.3190468138462996e-17)

# e^r = 1 + r + r²·tail(r) for |r| ≤ half a step. The tails interpolate at Chebyshev nodes: relative error 4.7e-9 for 16
# steps, 1.0e-8 for one, 1.7e-17 in float64.
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
_HEADROOM = 64
_round_to_power = constant(1.5 * 2.0**23 + STEPS * (127 + _HEADROOM), 1.5 * 2.0**52 + 1023 + _HEADROOM)
_lowest_power = constant(-127.0 - _HEADROOM, -1023.0 - _HEADROOM)  # whose bits are those of 0
# What is further below the maximum counts as zero: e^−depth does not reach the last bit of the smallest normal number.
# Without AVX-512 that begins 4 (in float64 8) lower, at `_lowest_power`: see `exp_scaled`.
_depth = constant(128.0, 745.0)
# Logits beyond this are taken relative to their maximum first: where the result is not zero, that is exact.
EXACT = 2048.0
_exact = constant(EXACT, EXACT)


# Rows whose logits are all this close to their maximum need no test of each entry for zero, neither of its exponential
# nor, unless the quotient is less than the other, of its product: softmax of 1,000 classes took 335 ns a row, 296 now.
_NEAR = 40.0
LEAST_NEAR_QUOTIENT = 2.0**-103

# Times this, a vector of e^z has no headroom. Its product with a quotient below the other is no longer what it should
# be: `quotient_of` would give a number below the smallest normal one.
NO_HEADROOM = 2.0**-_HEADROOM


def least_quotient(like):
    """Give the quotient below which `NO_HEADROOM` is called for."""
    return 2.0**-120 if lanes_of(like) == 16 else 2.0**-1016


def exponent_of(z):
    """Find the power of two nearest to e^z."""
    return fma(z, _log2_e(z), _round(z)) - _round(z)


def scale_of(top):
    """Prepare e^z for rows whose greatest logits are `top`: (shift, bias, floor) for `exp_scaled`.

    e^(z − top) would round z − top, which costs up to |z − top|/2 ulp. Dividing by a power of two near e^top instead
    rounds nothing. Sums over the row and quotients of its entries do not see which power it was.
    """
    shift = where_greater(magnitude(top), _exact(top), top, _zero(top))
    top = top - shift
    power = exponent_of(top)
    floor = top - _depth(top) if AVX512 else (power + _lowest_power(top)) * _ln2(top)
    return shift, _round_to_power(top) - power * _steps(top), floor


def is_near(top, bottom):
    """Whether `exp_near` will do for all logits from `bottom` to `top`, in every lane."""
    return (greatest_lane(magnitude(top)) <= EXACT) & (greatest_lane(top - bottom) <= _NEAR)


def exp_scaled(z, scale):
    """Compute e^z divided by a power of two that is the same for the whole row; zero far below the row's maximum.

    With AVX-512 it costs no instruction to leave out what is below the floor. Without, nothing lower is taken than what
    has 0 for its 2ᵏ: 32 × 4,000 softmax of spread 20 took 0.68 ns an element with a test of each result, now 0.62.
    """
    shift, _, floor = scale
    z = z - shift
    return zero_below(exp_near(z, scale), z, floor) if AVX512 else exp_near(greater(floor, z), scale)


def exp_near(z, scale):
    """Do the same where no logit needs the shift or the floor: see `is_near`."""
    _, bias, _ = scale
    power = fma(z, _steps_per_e(z), bias)
    n = power - bias
    whole = fma(n, _minus_step_high(z), z)
    nearest = power_of_two(power)
    if lanes_of(z) == 16:
        r = fma(n, _minus_step_low(z), whole)
        exp_r_minus_1 = fma(fma(_exp_tail(r), r, _one(z)), r, rest_of_power(power))
    else:  # float64 has no wider type to sum in, so its terms keep what rounding r took
        low = n * _minus_step_low(z)
        r = whole + low
        lost = low - (r - whole)
        exp_r_minus_1 = r + fma(r * r, _exp_tail(r), lost)
    return fma(nearest, exp_r_minus_1, nearest)


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
    low = where_equal(high - high, _zero(low), low, _zero(low))  # nothing where the higher part is infinite
    low = where_greater(magnitude(high), magnitude(low) * _as_much_lower(high), _zero(low), low)
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


# 2·atanh(s) = 2s + s³·tail(s²) for s² ≤ 0.0295, likewise: relative error 4.6e-18.
_log_tail = polynomial(
    None,
    (
        0.666666666666667,
        0.39999999999899505,
        0.28571428625975487,
        0.2222221113479508,
        0.18182889125261723,
        0.15331721600556042,
        0.14616449685043406,
    ),
)
_LN2_HIGH = 0.6931471803691238
_LN2_LOW = 1.9082149292705877e-10


def log1p(x):
    """Compute log(1 + x) for float64 lanes x > −1."""
    one_plus = _one(x) + x
    k, f, scale = split_exponent(one_plus)
    d = f - _one(x)
    # What 1 + x rounded off, over 1 + x. Where that counts, 1/f is close to 1 − d + d².
    rounded_off = (x - (one_plus - _one(x))) * scale * fma(d, d, _one(x) - d)
    s = d / (f + _one(x))
    s2 = s * s
    # log f = 2·atanh s, arranged so that the exact d is its leading term.
    half_square = _half(x) * d * d
    below = fma(s, fma(s2, _log_tail(s2), half_square), fma(k, wide(_LN2_LOW), rounded_off))
    return fma(k, wide(_LN2_HIGH), d - (half_square - below))


# Likewise for s² ≤ 0.0403: relative error 8.4e-11.
_short_log_tail = polynomial(None, (0.6666666626516464, 0.40000318470237534, 0.2853214383472614, 0.2375933909841617))


def log1p_quotient(like, part, unit):
    """Compute log(1 + part / unit) for float64 lanes, part ≥ 0 and unit > 0, to the digits of the dtype of `like`.

    In float32 that is half of the steps of `log1p`, and one division: 65,536 × 10 losses took 0.61 ms, and take 0.53.
    """
    if lanes_of(like) == 8:
        return log1p(part / unit)
    k, inverse = halvings(part + unit, unit)
    # (f − 1) / (f + 1) for f = 2⁻ᵏ·(part + unit) / unit
    s = fma(part, inverse, unit * (inverse - _one(unit))) / fma(part, inverse, unit * (inverse + _one(unit)))
    s2 = s * s
    return fma(k, _ln2(k), s * fma(s2, _short_log_tail(s2), _two(s2)))
