"""Between the dtype that logits are computed in and float64, which what is added up has: lane by lane."""

from llvmlite import ir

from ..compiling.values import DOUBLE, Vector, builder
from .vector import is_double, type_of


def promote(vector):
    """Make each lane a float64."""
    if is_double(vector):
        return vector
    return Vector(builder().fpext(vector.ir, ir.VectorType(DOUBLE, vector.ir.type.count)))


def demote(vector, like):
    """Round float64 lanes to the dtype of `like`."""
    if is_double(like):
        return vector
    return Vector(builder().fptrunc(vector.ir, ir.VectorType(type_of(like).element, vector.ir.type.count)))
