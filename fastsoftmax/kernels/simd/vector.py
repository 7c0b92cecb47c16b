"""Vectors: of memory 64 bytes, 16 lanes of float32 or 8 of float64; of what is computed from them as many lanes.

LLVM vectorises plain loops too, but then it chooses the order of a sum, so that the same row gets other bits in another
kernel; it needs fast-math for that, tests at run time whether arrays overlap (in place means the scalar loop), and
cannot store past the cache. Here each instruction is written down once and IEEE holds: the order of every sum is the
source's. Chips with narrower registers get the same operations in two or four pieces.

A vector is a value like a float: ``a + b``, ``a * b``, ``fma(a, b, c)``. `memory` loads and stores vectors,
`reduce` and `accumulate` combine their lanes, `convert` gives them other dtypes.
"""

import math

import numpy as np
from llvmlite import ir

from ..compiling.halves import build_from_half, build_to_half, is_half
from ..compiling.numbers import convert, number
from ..compiling.values import DOUBLE, ELEMENT_OF, FLOAT, INT, INT32, SIZE_OF, Vector, all_vectors, builder, call_llvm

INTEGER_OF = {"float": INT32, "double": INT}
MANTISSA_BITS = {"float": 23, "double": 52}


# What is computed in, by the dtype of what is stored: `memory` converts between the two.
_COMPUTE_ELEMENT = {np.dtype(np.float32): FLOAT, np.dtype(np.float64): DOUBLE}


def vector_type(dtype):
    """Give the LLVM type of a vector that is computed from a dtype: 64 bytes."""
    return ir.VectorType(_COMPUTE_ELEMENT[np.dtype(dtype)], lanes_in(dtype))


def lanes_in(dtype):
    """Count the lanes of such a vector."""
    return 64 // SIZE_OF[_COMPUTE_ELEMENT[np.dtype(dtype)]]


def build_computed(vector, array, element=None):
    """Build what is computed from what an array stores, in its compute dtype or as another type of float."""
    if is_half(array.stored):
        vector = build_from_half(vector, array.stored)
    return build_converted(vector, vector_type(array.dtype).element if element is None else element)


def build_stored(vector, array):
    """Build what an array stores of what is computed from its dtype, rounded once where that is narrower."""
    if is_half(array.stored):
        return build_to_half(vector, array.stored)
    return build_converted(vector, array.element)


def build_converted(vector, element):
    """Build a vector with its lanes as another type of float, rounded once where that is narrower."""
    have, want = SIZE_OF[vector.type.element], SIZE_OF[element]
    if vector.type.element == element:
        return vector
    kind = ir.VectorType(element, vector.type.count)
    return builder().fpext(vector, kind) if want > have else builder().fptrunc(vector, kind)


def type_of(like):
    """Give the LLVM type of a vector, or that of vectors of the dtype of an array."""
    return like.ir.type if isinstance(like, Vector) else vector_type(like.dtype)


def lanes_of(like):
    """Count the lanes of a vector, or of vectors of the dtype of an array."""
    return type_of(like).count


def is_double(like):
    """Whether the lanes of a vector, or the elements of an array, are float64."""
    return like.dtype == np.float64


def integers_of(vector):
    """Give the LLVM type of integers as large as a vector's lanes."""
    return ir.VectorType(INTEGER_OF[str(vector.element)], vector.count)


class _Splat(ir.Constant):
    """A vector with a constant in each lane, as LLVM writes it in short: in full they are half of all text (M56)."""

    def __init__(self, vector, value):
        super().__init__(vector, None)
        self._element = ir.Constant(vector.element, value)

    def _get_reference(self):
        return f"splat ({self._element})"


def build_constant(vector, value):
    """Build a vector with a Python number in each lane."""
    if value == 0 and math.copysign(1, value) > 0:
        return ir.Constant(vector, None)
    return _Splat(vector, value)


def build_splat(vector, scalar):
    """Build a vector with `scalar` in each lane."""
    if isinstance(scalar, ir.Constant):
        return build_constant(vector, scalar.constant)
    undefined = ir.Constant(vector, ir.Undefined)
    lane0 = builder().insert_element(undefined, scalar, INT32(0))
    return builder().shuffle_vector(lane0, undefined, ir.Constant(ir.VectorType(INT32, vector.count), None))


def build_halves(vector):
    """Build the vectors of the lower and of the upper lanes."""
    size = vector.type.count // 2
    picks = [ir.Constant(ir.VectorType(INT32, size), list(range(s, s + size))) for s in (0, size)]
    return [builder().shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), pick) for pick in picks]


def build_lane_numbers(vector):
    """Build the vector of the lanes' own numbers, from 0; `vector` is anything that has a count of them."""
    return ir.Constant(ir.VectorType(INT32, vector.count), list(range(vector.count)))


def build_int_splat(vector, value):
    """Build a vector with a 64-bit integer in each lane, to compare with lane numbers: cut to −1 ... count of lanes.

    Cut to its lowest 32 bits, a count of 2³¹ lanes would be negative, and lane 2³² be lane 0.
    """
    build = builder()
    for comparison, bound in ((">", vector.count), ("<", -1)):
        bound = value.type(bound)
        value = build.select(build.icmp_signed(comparison, value, bound), bound, value)
    return build_splat(ir.VectorType(INT32, vector.count), build.trunc(value, INT32))


def build_fma(a, b, c):
    """Build a·b + c, rounded once."""
    return call_llvm("fma", a, b, c)


# Arithmetic ------------------------------------------------------------------------------------------------------


def fma(a, b, c):
    """Compute a·b + c, rounded once."""
    require_vectors(a, b, c)
    return Vector(build_fma(a.ir, b.ir, c.ir))


def magnitude(x):
    """Compute |x|."""
    return Vector(call_llvm("fabs", x.ir))


def splat(like, scalar):
    """Give each lane of a vector, such as `like` or of the dtype of the array `like`, the value `scalar`."""
    vector = type_of(like)
    return Vector(build_splat(vector, convert(scalar, vector.element)))


def lone(scalar, dtype=np.float64):
    """Make a vector of one lane: what a row has one of takes the same functions as what its lanes have."""
    kind = ir.VectorType(ELEMENT_OF[np.dtype(dtype)], 1)
    return Vector(build_splat(kind, convert(scalar, kind.element)))


def broadcast(vector, like):
    """Give each lane of a vector such as `like` the value of a vector of one lane."""
    return Vector(build_splat(type_of(like), builder().extract_element(vector.ir, INT32(0))))


def require_vectors(*values):
    """Require vectors of one type."""
    if not all_vectors(*values):
        raise TypeError(f"expected vectors of one type, got {[str(getattr(v, 'ir', v)) for v in values]}")


# Choices, lane by lane -------------------------------------------------------------------------------------------


def greater(a, b):
    """Take the greater of two; the second where either is NaN (one instruction; to keep NaN takes four)."""
    return where(">", a, b, a, b)


def less(a, b):
    """Take the less of two, likewise."""
    return where("<", a, b, a, b)


def where_equal(a, b, then, otherwise):
    """Choose the third vector in the lanes where a == b, the fourth in the others; NaN is not equal."""
    return where("==", a, b, then, otherwise)


def where_greater(a, b, then, otherwise):
    """Choose the third vector in the lanes where a > b, the fourth in the others; NaN is not greater."""
    return where(">", a, b, then, otherwise)


def where(comparison, a, b, then, otherwise):
    """Choose by a comparison of two vectors, lane by lane."""
    require_vectors(a, b)
    require_vectors(then, otherwise)
    return Vector(builder().select(builder().fcmp_ordered(comparison, a.ir, b.ir), then.ir, otherwise.ir))


def zero_below(value, key, floor):
    """Replace `value` by zero in the lanes where key < floor; a NaN key keeps its value."""
    require_vectors(value, key, floor)
    keep = builder().fcmp_unordered(">=", key.ir, floor.ir)
    return Vector(builder().select(keep, value.ir, ir.Constant(value.ir.type, None)))


def drop_lane(vector, lane):
    """Set one lane to zero; none where there is no such lane."""
    kind = vector.ir.type
    is_lane = builder().icmp_signed("==", build_lane_numbers(kind), build_int_splat(kind, number(lane).ir))
    return Vector(builder().select(is_lane, ir.Constant(kind, None), vector.ir))


def set_lane(vector, lane, scalar):
    """Set one lane to a number; none where there is no such lane."""
    kind = vector.ir.type
    is_lane = builder().icmp_signed("==", build_lane_numbers(kind), build_int_splat(kind, number(lane).ir))
    return Vector(builder().select(is_lane, build_splat(kind, convert(scalar, kind.element)), vector.ir))


# Constants and polynomials ---------------------------------------------------------------------------------------


def constant(float32, float64):
    """Make a function that gives every lane a constant, by the array or vector it is called with."""

    def in_every_lane(like):
        vector = type_of(like)
        return Vector(build_constant(vector, float64 if vector.element == DOUBLE else float32))

    return in_every_lane


def polynomial(float32, float64):
    """Make a function that evaluates the polynomial with these coefficients, lowest first, by Horner's rule."""

    def horner(x):
        kind = x.ir.type
        coefficients = float64 if kind.element == DOUBLE else float32
        value, *others = (build_constant(kind, c) for c in reversed(coefficients))
        for coefficient in others:
            value = build_fma(value, x.ir, coefficient)
        return Vector(value)

    return horner
