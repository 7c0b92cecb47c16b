"""The exponents of float64 vectors, from their bits."""

from ..compiling.values import Vector, builder
from ..simd.vector import build_constant, integers_of, require_vectors

_BITS_OF_SQRT_HALF = 0x3FE6A09E667F3BCD
_BITS_OF_2_TO_52 = 0x4330000000000000


def split_exponent(value):
    """Split positive normal float64 lanes into (k, f, 2⁻ᵏ): value = 2ᵏ·f with f from √½ to √2."""
    build, vector = builder(), value.ir.type
    integers = integers_of(vector)
    bits = build.bitcast(value.ir, integers)
    shift = build_constant(integers, 52)
    exponent = build.ashr(build.sub(bits, build_constant(integers, _BITS_OF_SQRT_HALF)), shift)
    fraction = build.bitcast(build.sub(bits, build.shl(exponent, shift)), vector)
    inverse = build.shl(build.sub(build_constant(integers, 1023), exponent), shift)
    return tuple(Vector(part) for part in (build.sitofp(exponent, vector), fraction, build.bitcast(inverse, vector)))


def halvings(value, unit):
    """Find (k, 2⁻ᵏ) for normal float64 lanes, value ≥ unit > 0: 2ᵏ is near value / unit, within a factor of 1.51.

    The bits of a float, taken as an integer, are its logarithm to 0.0861: that of the quotient takes no division.
    """
    require_vectors(value, unit)
    build, vector = builder(), value.ir.type
    integers = integers_of(vector)
    shift, one = build_constant(integers, 52), build_constant(integers, 1023 << 52)
    difference = build.sub(*(build.bitcast(each.ir, integers) for each in (value, unit)))
    exponent = build.lshr(build.add(difference, build_constant(integers, 1 << 51)), shift)
    inverse = build.bitcast(build.sub(one, build.shl(exponent, shift)), vector)
    # AVX2 has no instruction that makes floats of 64-bit integers.
    shifted = build.bitcast(build.or_(exponent, build_constant(integers, _BITS_OF_2_TO_52)), vector)
    return Vector(build.fsub(shifted, build_constant(vector, 2.0**52))), Vector(inverse)
