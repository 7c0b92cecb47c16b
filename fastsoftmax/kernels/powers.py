"""2ᵏ of a vector, from the lowest bits of its lanes: whole powers, or with AVX-512 sixteenths of float32 ones.

There a vector is a table of sixteen values that one instruction looks up, and what e^z leaves after the nearest
sixteenth of a power of two is so small that its polynomial has half the terms: 8,192 × 1,000 cross entropy spent 3.4 ns
on the exponentials of a vector, and spends 2.9.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .lanes import INTEGER_OF, MANTISSA_BITS, all_lanes, build_constant
from .target import AVX512

STEPS = 16 if AVX512 else 1  # from a power of two to the next, in float32; in float64 there is one
_STEPS_BITS = {types.float32: STEPS.bit_length() - 1, types.float64: 0}

_POWERS = 2.0 ** (np.arange(16) / 16)
_ROUNDED = _POWERS.astype(np.float32)
_RESTS = _POWERS / _ROUNDED - 1
# The bits of 2^(j/16) without those of 2⁰, which k brings, and without j, which stands below the exponent with it.
_TABLE = _ROUNDED.view(np.int32) - np.float32(1).view(np.int32) - (np.arange(16, dtype=np.int32) << 19)


def _build_lookup(builder, values, index):
    """Build the values at the lowest four bits of each lane of `index`."""
    vector = ir.VectorType(values.type.element, 16)
    suffix = "si" if vector.element == index.type.element else "sf"
    function_type = ir.FunctionType(vector, [vector, index.type])
    name = f"llvm.x86.avx512.permvar.{suffix}.512"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [values, index])


@intrinsic
def power_of_two(typingctx, shifted):
    """Compute 2^(k/s), rounded, where the lowest mantissa bits of each lane hold k plus s times the exponent's bias.

    That is what adding 1.5 · 2ᵐ to a float leaves there (m mantissa bits); s is `STEPS` in float32, 1 in float64.
    Neither overflow nor subnormal powers are handled: the caller keeps k within bounds or discards the lane.
    """
    if not all_lanes(shifted):
        return None

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(INTEGER_OF[shifted.dtype], shifted.count)
        bits = builder.bitcast(args[0], integers)
        steps_bits = _STEPS_BITS[shifted.dtype]
        power = builder.shl(bits, build_constant(integers, MANTISSA_BITS[shifted.dtype] - steps_bits))
        if steps_bits:
            power = builder.add(power, _build_lookup(builder, ir.Constant(integers, _TABLE.tolist()), bits))
        return builder.bitcast(power, args[0].type)

    return shifted(shifted), codegen


@intrinsic
def rest_of_power(typingctx, shifted):
    """Compute what `power_of_two` rounded off, over its result."""
    if not all_lanes(shifted):
        return None

    def codegen(context, builder, sig, args):
        if not _STEPS_BITS[shifted.dtype]:
            return ir.Constant(args[0].type, None)
        bits = builder.bitcast(args[0], ir.VectorType(INTEGER_OF[shifted.dtype], shifted.count))
        return _build_lookup(builder, ir.Constant(args[0].type, _RESTS.tolist()), bits)

    return shifted(shifted), codegen
