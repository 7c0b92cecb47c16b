"""The exponents of float64 vectors, from their bits."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .lanes import INTEGER_OF, Lanes, build_constant

_BITS_OF_SQRT_HALF = 0x3FE6A09E667F3BCD
_BITS_OF_2_TO_52 = 0x4330000000000000
_VECTOR = Lanes(types.float64)
_INTEGERS = ir.VectorType(INTEGER_OF[types.float64], _VECTOR.count)


@intrinsic
def split_exponent(typingctx, value):
    """Split positive normal float64 lanes into (k, f, 2⁻ᵏ): value = 2ᵏ·f with f from √½ to √2."""
    if value != _VECTOR:
        return None
    parts = types.UniTuple(value, 3)

    def codegen(context, builder, sig, args):
        vector, integers = args[0].type, _INTEGERS
        bits = builder.bitcast(args[0], integers)
        shift = build_constant(integers, 52)
        exponent = builder.ashr(builder.sub(bits, build_constant(integers, _BITS_OF_SQRT_HALF)), shift)
        fraction = builder.bitcast(builder.sub(bits, builder.shl(exponent, shift)), vector)
        inverse = builder.shl(builder.sub(build_constant(integers, 1023), exponent), shift)
        k = builder.sitofp(exponent, vector)
        return context.make_tuple(builder, parts, [k, fraction, builder.bitcast(inverse, vector)])

    return parts(value), codegen


@intrinsic
def halvings(typingctx, value, unit):
    """Find (k, 2⁻ᵏ) for normal float64 lanes, value ≥ unit > 0: 2ᵏ is near value / unit, within a factor of 1.51.

    The bits of a float, taken as an integer, are its logarithm to 0.0861: that of the quotient takes no division.
    """
    if value != _VECTOR or value != unit:
        return None
    pair = types.UniTuple(value, 2)

    def codegen(context, builder, sig, args):
        vector, integers = args[0].type, _INTEGERS
        shift, one = build_constant(integers, 52), build_constant(integers, 1023 << 52)
        difference = builder.sub(*(builder.bitcast(arg, integers) for arg in args))
        exponent = builder.lshr(builder.add(difference, build_constant(integers, 1 << 51)), shift)
        inverse = builder.bitcast(builder.sub(one, builder.shl(exponent, shift)), vector)
        # AVX2 has no instruction that makes floats of 64-bit integers.
        shifted = builder.bitcast(builder.or_(exponent, build_constant(integers, _BITS_OF_2_TO_52)), vector)
        return context.make_tuple(builder, pair, [builder.fsub(shifted, build_constant(vector, 2.0**52)), inverse])

    return pair(value, unit), codegen
