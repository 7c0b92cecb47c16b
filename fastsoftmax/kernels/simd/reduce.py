"""Across lanes: the first, the greatest, a match, a count."""

from llvmlite import ir

from ..compiling.numbers import Number
from ..compiling.values import INT, INT32, builder
from .vector import build_halves, require_vectors


def fold(vector, combine):
    """Combine lane i with lane i + count/2 until one is left: always the same order."""
    value = vector.ir
    while value.type.count > 1:
        value = combine(*build_halves(value))
    return Number(builder().extract_element(value, INT32(0)))


def first_lane(vector):
    """Take lane 0."""
    return Number(builder().extract_element(vector.ir, INT32(0)))


def greatest_lane(vector):
    """Take the greatest lane; see `greater` for NaN."""
    return fold(vector, lambda a, b: builder().select(builder().fcmp_ordered(">", a, b), a, b))


def _equal_lanes(vector, other):
    """Build the lanes in which two vectors are equal as bits."""
    require_vectors(vector, other)
    equal = builder().fcmp_ordered("==", vector.ir, other.ir)
    return builder().bitcast(equal, ir.IntType(vector.ir.type.count))


def count_equal(vector, other):
    """Count the lanes in which two vectors are equal."""
    return Number(builder().zext(builder().ctpop(_equal_lanes(vector, other)), INT))


def matching_lane(vector, other):
    """Find the first lane in which two vectors are equal; their count if there is none."""
    bits = builder().zext(_equal_lanes(vector, other), INT)
    sentinel = builder().or_(bits, INT(1 << vector.ir.type.count))
    return Number(builder().cttz(sentinel, ir.Constant(ir.IntType(1), 1)))
