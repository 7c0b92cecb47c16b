"""log(1 + x) of float64 lanes."""

from ..simd.vector import fma, is_double, polynomial, splat
from .constants import half, ln2, one, two
from .exponents import halvings, split_exponent

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
    """Compute log(1 + x) for float64 lanes x > −1.

    Maximum error: 0.95 ulp. Valid range: x from −1 + 2⁻⁵³ to 1.27e308, subnormal too; 0 for 0 of either sign, NaN for
    NaN. What is not greater than −1, and what is larger than √2 · 2¹⁰²³, ∞ too, may give anything.
    """
    one_plus = one(x) + x
    k, f, scale = split_exponent(one_plus)
    d = f - one(x)
    # What 1 + x rounded off, over 1 + x. Where that counts, 1/f is close to 1 − d + d².
    rounded_off = (x - (one_plus - one(x))) * scale * fma(d, d, one(x) - d)
    s = d / (f + one(x))
    s2 = s * s
    # log f = 2·atanh s, arranged so that the exact d is its leading term.
    half_square = half(x) * d * d
    below = fma(s, fma(s2, _log_tail(s2), half_square), fma(k, splat(k, _LN2_LOW), rounded_off))
    return fma(k, splat(k, _LN2_HIGH), d - (half_square - below))


# Likewise for s² ≤ 0.0403: relative error 8.26e-11.
_short_log_tail = polynomial(None, (0.6666666626516464, 0.40000318470237534, 0.2853214383472614, 0.2375933909841617))


def log1p_quotient(like, part, unit):
    """Compute log(1 + part / unit) for float64 lanes, part ≥ 0 and unit > 0, to the digits of the dtype of `like`.

    In float32 that is half of the steps of `log1p`, and one division: losses of few classes take an eighth less (M24).

    Maximum error: 0.001 ulp in float32, 1.7 in float64. Valid range: unit from 2⁻¹⁰²², part + unit and
    part / unit to 2¹⁰²², part 0 or subnormal too; NaN for NaN. An infinite part or unit may give anything.
    """
    if is_double(like):
        return log1p(part / unit)
    k, inverse = halvings(part + unit, unit)
    # (f − 1) / (f + 1) for f = 2⁻ᵏ·(part + unit) / unit
    s = fma(part, inverse, unit * (inverse - one(unit))) / fma(part, inverse, unit * (inverse + one(unit)))
    s2 = s * s
    return fma(k, ln2(k), s * fma(s2, _short_log_tail(s2), two(s2)))
