"""What is wrong with an argument, and the error that says so.

Implementations find problems before anything is written, and go on with the first: nopython code has no exceptions to
catch, and loses those that are raised inside a parallel region.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .symbols import is_in_region
from .typing import by_type, is_none, jitable

(
    AXIS,
    NO_CLASSES,
    LABELS_SHAPE,
    LABEL,
    PROBS_SHAPE,
    PROB,
    IGNORE_INDEX,
    WHERE_SHAPE,
    OUT_SHAPE,
    CLASS_WEIGHT_SHAPE,
    CLASS_WEIGHT,
    SAMPLE_WEIGHT_SHAPE,
    SAMPLE_WEIGHT,
    LABEL_SMOOTHING,
    Z_LOSS,
    SOFTCAP,
    SCALE,
    QUOTIENT,
    DLOSS_SHAPE,
    SAME_SHAPE,
    WEIGHT_ROWS,
    WEIGHT_COLUMNS,
    BIAS_SHAPE,
    DOUTPUTS_ROWS,
    WORKSPACE,
    OUT_OVERLAPS,
) = range(1, 27)

# Of each, what {value} is, and the integers {a}, {b} and {c}.
_MESSAGES = {
    AXIS: "axis: expected one of the {a} axes of logits, got {b}",
    NO_CLASSES: "logits: expected at least one class, got {a} rows of none",
    LABELS_SHAPE: "labels: expected shape ({a},), got ({b},)",
    LABEL: "labels: expected classes 0 to {a} or ignore_index {value:.0f}, got {b} in row {c}",
    PROBS_SHAPE: "labels: expected probabilities of the shape of logits, got ({a}, {b})",
    PROB: "labels: expected finite probabilities from 0 up, got {value} at {a}, {b}",
    IGNORE_INDEX: "ignore_index: expected the default, -100, with class probabilities, got {a}",
    WHERE_SHAPE: "where: expected shape ({a}, {b}) like logits, got another",
    OUT_SHAPE: "out: expected shape ({a}, {b}), got another",
    CLASS_WEIGHT_SHAPE: "class_weight: expected shape ({a},), a weight for each class, got ({b},)",
    CLASS_WEIGHT: "class_weight: expected finite weights from 0 up, got {value} at {a}",
    SAMPLE_WEIGHT_SHAPE: "sample_weight: expected shape ({a},), a weight for each row, got ({b},)",
    SAMPLE_WEIGHT: "sample_weight: expected finite weights from 0 up, got {value} at {a}",
    LABEL_SMOOTHING: "label_smoothing: expected a number from 0 to 1, got {value}",
    Z_LOSS: "z_loss: expected a number from 0 up, got {value}",
    SOFTCAP: "softcap: expected a number above 0 that the dtype can hold, got {value}",
    SCALE: "scale: expected a number above 0 that the dtype can hold, got {value}",
    QUOTIENT: "scale: expected one whose quotient with the softcap float64 can hold, got {value}",
    DLOSS_SHAPE: 'dloss: expected shape ({a},) for reduction="none", got ({b},)',
    SAME_SHAPE: "expected two arrays of one shape, got ({a}, {b}) and another",
    WEIGHT_ROWS: "weight: expected shape ({a}, any), got shape ({b}, {c})",
    WEIGHT_COLUMNS: "weight: expected shape (any, {a}), got shape ({b}, {c})",
    BIAS_SHAPE: "bias: expected shape ({a},), got ({b},)",
    DOUTPUTS_ROWS: "doutputs: expected shape ({a}, any), got shape ({b}, {c})",
    WORKSPACE: "workspace: expected a positive number of bytes, got {a}",
    OUT_OVERLAPS: "out: expected arrays that do not overlap each other, got some that do",
}


class ArgumentError(ValueError):
    """An argument that does not fit: Numba makes it of a problem, where Python is there to put it into words."""

    def __init__(self, kind, value, a, b, c):
        super().__init__(_MESSAGES[kind].format(value=value, a=a, b=b, c=c))


_PROBLEM = types.Tuple((types.int64, types.float64, types.int64, types.int64, types.int64))


@intrinsic
def problem(typingctx, kind, value, a, b, c):
    """Describe a problem: which it is, and the numbers that its message tells."""

    def codegen(context, builder, signature, values):
        given = zip(values, signature.args, _PROBLEM.types, strict=True)
        return context.make_tuple(builder, _PROBLEM, [context.cast(builder, *each) for each in given])

    return _PROBLEM(kind, value, a, b, c), codegen


@intrinsic
def fine(typingctx):
    """Describe that there is none."""
    return _PROBLEM(), lambda context, *given: context.get_constant_null(_PROBLEM)


@intrinsic
def absent(typingctx, *given):
    """Give None, and no problem: what an argument that is left out is to kernels."""
    kind = types.Tuple((types.none, _PROBLEM))
    return kind(types.StarArgTuple(given)), lambda context, *values: context.get_constant_null(kind)


@intrinsic
def first_of(typingctx, problems):
    """Give the first of some problems that is one."""

    def codegen(context, builder, signature, values):
        *others, found = cgutils.unpack_tuple(builder, values[0])
        for each in reversed(others):
            kind = builder.extract_value(each, 0)
            found = builder.select(builder.icmp_signed("!=", kind, kind.type(0)), each, found)
        return found

    return _PROBLEM(problems), codegen


@jitable
def is_fine(found, result, other):
    """Tell whether no problem was found. Else results become NaN, and an error is raised where it is not lost.

    Inside a parallel region Numba forgets exceptions and goes on: there NaN must be the answer.
    """
    if found[0] == 0:
        return True
    spoil(result)
    spoil(other)
    if not is_in_region():
        raise ArgumentError(found[0], found[1], found[2], found[3], found[4])
    return False


@by_type
def spoil(result):
    """Make a result NaN."""
    if is_none(result):
        return lambda result: None

    def fill(result):
        for i in range(result.size):
            result.flat[i] = np.nan

    return fill
