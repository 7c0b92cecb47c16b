"""Between the dtype that is computed in and float64."""

from llvmlite import ir

from ..compiling.values import DOUBLE, FLOAT, INT32, Vector, builder
from .vector import build_halves, lanes_of, require_vectors, vector_type


def halves(vector):
    """Widen the low and the high half of a vector's lanes to float64."""
    if vector.ir.type.element == DOUBLE:
        return vector, vector
    return tuple(Vector(builder().fpext(half, ir.VectorType(DOUBLE, 8))) for half in build_halves(vector.ir))


def join(like, low, high):
    """Round float64 halves to a vector of the type of `like`."""
    require_vectors(low, high)
    if lanes_of(like) == 8:
        return low
    kind = vector_type(like.dtype)
    every = ir.Constant(ir.VectorType(INT32, kind.count), list(range(kind.count)))
    narrow = (builder().fptrunc(half.ir, ir.VectorType(FLOAT, 8)) for half in (low, high))
    return Vector(builder().shuffle_vector(*narrow, every))
