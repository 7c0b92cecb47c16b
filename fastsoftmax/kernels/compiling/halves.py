"""Half types: numbers of 16 bits, which are computed in float32.

Numba compiles nothing with them, so kernels take the integers of their bits: int16 stands for float16, and uint16 for
bfloat16. Both ways the conversions keep NaN and subnormal numbers, and to a half type they round to the nearest, ties
to even. They serve numbers and vectors alike.
"""

import numpy as np
from llvmlite import ir

from .target import CONVERTS_FLOAT16
from .values import BFLOAT16, FLOAT, FLOAT16, INT32, SHORT, builder

_HALF = ir.HalfType()
# By the names of the dtypes that users have.
STORED = {"float16": FLOAT16, "bfloat16": BFLOAT16}


def is_half(dtype):
    """Whether the elements of a dtype are of a half type."""
    return dtype in (FLOAT16, BFLOAT16)


def bits_of(value, stored):
    """Give the bits of a Python number in a half type."""
    single = np.float32(value)
    if stored == FLOAT16:
        return int(np.float16(single).view(np.uint16))
    bits = int(single.view(np.uint32))
    return bits >> 16 | 0x40 if np.isnan(single) else bits + 0x7FFF + (bits >> 16 & 1) >> 16


def build_from_half(bits, stored):
    """Build the float32 of the bits of a half type."""
    if stored == FLOAT16 and CONVERTS_FLOAT16:
        return builder().fpext(builder().bitcast(bits, _like(bits, _HALF)), _like(bits, FLOAT))
    wide = builder().zext(bits, _like(bits, INT32))
    if stored == FLOAT16:
        return _build_from_float16(wide)
    return builder().bitcast(builder().shl(wide, _constant(wide, 16)), _like(bits, FLOAT))


def build_to_half(value, stored):
    """Build the bits in a half type of a float32."""
    if stored == FLOAT16 and CONVERTS_FLOAT16:
        return builder().bitcast(builder().fptrunc(value, _like(value, _HALF)), _like(value, SHORT))
    bits = builder().bitcast(value, _like(value, INT32))
    wide = _build_to_float16(value, bits) if stored == FLOAT16 else _build_to_bfloat16(value, bits)
    return builder().trunc(wide, _like(value, SHORT))


def _build_to_bfloat16(value, bits):
    """Build the upper half of the bits, rounded by what is added to the lower.

    The instruction of AVX-512 BF16 takes subnormal numbers for zeros.
    """
    build = builder()
    upper = build.lshr(bits, _constant(bits, 16))
    odd = build.and_(upper, _constant(bits, 1))
    rounded = build.lshr(build.add(bits, build.add(odd, _constant(bits, 0x7FFF))), _constant(bits, 16))
    quiet = build.or_(upper, _constant(bits, 0x40))  # a NaN must not become an infinity
    return build.select(build.fcmp_unordered("uno", value, value), quiet, rounded)


# float16 where no instruction converts: about ten instructions for one ------------------------------------------------


def _build_from_float16(wide):
    """Build the float32 of float16 bits: shifted into place, and multiplied by what their exponents differ by."""
    build = builder()
    sign = build.shl(build.and_(wide, _constant(wide, 0x8000)), _constant(wide, 16))
    shifted = build.shl(build.and_(wide, _constant(wide, 0x7FFF)), _constant(wide, 13))
    kind = _like(wide, FLOAT)
    scaled = build.fmul(build.bitcast(shifted, kind), _constant(kind, 2.0**112))
    infinite = build.icmp_unsigned(">=", shifted, _constant(wide, 0x7C00 << 13))
    special = build.or_(shifted, _constant(wide, 0x7F800000))
    found = build.select(infinite, special, build.bitcast(scaled, wide.type))
    return build.bitcast(build.or_(found, sign), kind)


def _build_to_float16(value, bits):
    """Build the float16 bits of a float32."""
    build, kind = builder(), value.type
    sign = build.and_(build.lshr(bits, _constant(bits, 16)), _constant(bits, 0x8000))
    size = build.and_(bits, _constant(bits, 0x7FFFFFFF))
    # A subnormal result: an addition rounds it to the last bit that it has.
    magic = _constant(kind, 0.5)
    small = build.sub(
        build.bitcast(build.fadd(build.bitcast(size, kind), magic), bits.type), _constant(bits, 126 << 23)
    )
    odd = build.and_(build.lshr(size, _constant(bits, 13)), _constant(bits, 1))
    normal = build.lshr(
        build.add(build.add(size, odd), _constant(bits, (-112 * 2**23 + 0xFFF) % 2**32)), _constant(bits, 13)
    )
    found = build.select(build.icmp_unsigned("<", size, _constant(bits, 113 << 23)), small, normal)
    found = build.select(build.icmp_unsigned(">=", size, _constant(bits, 143 << 23)), _constant(bits, 0x7C00), found)
    found = build.select(build.fcmp_unordered("uno", value, value), _constant(bits, 0x7E00), found)
    return build.or_(found, sign)


def _like(value, element):
    """Give the type of as many elements as a value has."""
    kind = getattr(value, "type", value)
    return ir.VectorType(element, kind.count) if isinstance(kind, ir.VectorType) else element


def _constant(value, number):
    """Give a constant in each lane of a type, or of the type of a value."""
    kind = getattr(value, "type", value)
    return ir.Constant(kind, [number] * kind.count) if isinstance(kind, ir.VectorType) else ir.Constant(kind, number)
