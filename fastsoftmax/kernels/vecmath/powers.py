"""2ᵏ of a vector, from the lowest bits of its lanes: whole powers, or with AVX-512 sixteenths of float32 ones.

There a vector is a table of sixteen values that one instruction looks up, and what e^z leaves after the nearest
sixteenth of a power of two is so small that its polynomial has half the terms: exponentials take a seventh less (M22).
"""

import numpy as np
from llvmlite import ir

from ..compiling.target import AVX512
from ..compiling.values import FLOAT, Vector, builder, call
from ..simd.vector import MANTISSA_BITS, build_constant, integers_of

STEPS = 16 if AVX512 else 1  # from a power of two to the next, in float32; in float64 there is one
_STEPS_BITS = {"float": STEPS.bit_length() - 1, "double": 0}

_POWERS = 2.0 ** (np.arange(16) / 16)
_ROUNDED = _POWERS.astype(np.float32)
_RESTS = _POWERS / _ROUNDED - 1
# The bits of 2^(j/16) without those of 2⁰, which k brings, and without j, which stands below the exponent with it.
_TABLE = _ROUNDED.view(np.int32) - np.float32(1).view(np.int32) - (np.arange(16, dtype=np.int32) << 19)


def _build_lookup(values, index):
    """Build the values at the lowest four bits of each lane of `index`."""
    suffix = "sf" if values.type.element == FLOAT else "si"
    return call(f"llvm.x86.avx512.permvar.{suffix}.512", values.type, [values, index])


def power_of_two(shifted):
    """Compute 2^(k/s), rounded, where the lowest mantissa bits of each lane hold k plus s times the exponent's bias.

    That is what adding 1.5 · 2ᵐ to a float leaves there (m mantissa bits); s is `STEPS` in float32, 1 in float64.
    Neither overflow nor subnormal powers are handled: the caller keeps k within bounds or discards the lane.
    """
    kind, integers = shifted.ir.type, integers_of(shifted.ir.type)
    bits = builder().bitcast(shifted.ir, integers)
    steps_bits = _STEPS_BITS[str(kind.element)]
    power = builder().shl(bits, build_constant(integers, MANTISSA_BITS[str(kind.element)] - steps_bits))
    if steps_bits:
        if kind.count != len(_TABLE):
            raise TypeError(f"expected float32 vectors of {len(_TABLE)} lanes, as many as the table, got {kind}")
        power = builder().add(power, _build_lookup(ir.Constant(integers, _TABLE.tolist()), bits))
    return Vector(builder().bitcast(power, kind))


def rest_of_power(shifted):
    """Compute what `power_of_two` rounded off, over its result."""
    kind = shifted.ir.type
    if not _STEPS_BITS[str(kind.element)]:
        return Vector(ir.Constant(kind, None))
    bits = builder().bitcast(shifted.ir, integers_of(kind))
    return Vector(_build_lookup(ir.Constant(kind, _RESTS.tolist()), bits))
