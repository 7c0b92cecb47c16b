"""Running sums of vectors that lose next to nothing.

float32 vectors add up in as many float64 lanes. float64 ones keep their rounded sum, and beside it what each addition
rounded off. Plain float32 lanes lost up to 7 ulp on rows that one entry dominates.
"""

from typing import NamedTuple

from llvmlite import ir

from ..compiling.staging import staged
from ..compiling.values import DOUBLE, Vector, builder
from .convert import promote
from .memory import load, load_first
from .reduce import first_lane, fold
from .vector import build_halves, is_double, type_of


class Sum(NamedTuple):
    """A running sum in float64 lanes, and, of float64 vectors, what it has rounded off."""

    total: Vector
    error: Vector | None


def empty_sum(like):
    """Begin a running sum of vectors such as `like`, or of the dtype of the array `like`."""
    zero = Vector(ir.Constant(ir.VectorType(DOUBLE, type_of(like).count), None))
    return Sum(zero, zero if is_double(like) else None)


def add_to_sum(running, vector):
    """Add a vector to a running sum."""
    if running.error is None:
        return Sum(running.total + promote(vector), None)
    return Sum(*two_sum(running.total, vector, running.error))


def two_sum(total, addend, error):
    """Add exactly, by Knuth's method: the rounded sum, and what it rounded off added to `error`."""
    new = total + addend
    back = new - total
    return new, error + ((total - (new - back)) + (addend - back))


def add_four_to_sum(running, a, b, c, d):
    """Add four vectors to a running sum; float32 ones to each other first, which rounds them less than they are."""
    if running.error is None:
        return add_to_sum(running, (a + b) + (c + d))
    return add_to_sum(add_to_sum(add_to_sum(add_to_sum(running, a), b), c), d)


def settled(total, error):
    """Add the two parts of a float64 sum; the second is NaN where the first is infinite, and does not count there."""
    counts = builder().fcmp_ordered("ord", error.ir, error.ir)
    return total + Vector(builder().select(counts, error.ir, ir.Constant(error.ir.type, None)))


def lane_sums(running):
    """Give the value of a running sum in each lane."""
    return running.total if running.error is None else settled(*running)


def sum_of(running):
    """Give the value of a running sum over all lanes."""
    if running.error is None:
        return fold(running.total, builder().fadd)
    while running.total.ir.type.count > 1:
        totals, errors = (map(Vector, build_halves(part.ir)) for part in running)
        running = fold_sums(*map(Sum, totals, errors))
    return first_lane(settled(*running))


def fold_sums(a, b):
    """Add two running sums."""
    if a.error is None:
        return Sum(a.total + b.total, None)
    return Sum(*two_sum(a.total, b.total, a.error + b.error))


@staged
def sum_all(values):
    """Add up a float64 array, always in the same order.

    Four vectors are added to each other first: that may round off the last bit of their sum, no more, and takes half of
    the time (M20).
    """
    total = empty_sum(values)
    i = 0
    while i + 32 <= values.size:
        four = (load(values, i) + load(values, i + 8)) + (load(values, i + 16) + load(values, i + 24))
        total = add_to_sum(total, four)
        i += 32
    while i + 8 <= values.size:
        total = add_to_sum(total, load(values, i))
        i += 8
    total = add_to_sum(total, load_first(values, i, values.size - i, 0.0))
    return sum_of(total)
