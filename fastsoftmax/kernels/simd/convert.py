"""Between the dtype that logits are computed in and float64, which what is added up has: lane by lane."""

from ..compiling.values import DOUBLE, Vector
from .vector import build_converted, type_of


def promote(vector):
    """Make each lane a float64."""
    return Vector(build_converted(vector.ir, DOUBLE))


def demote(vector, like):
    """Round float64 lanes to the dtype of `like`."""
    return Vector(build_converted(vector.ir, type_of(like).element))
