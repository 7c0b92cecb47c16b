"""Class labels and probabilities, checked before anything is read or written by them: nothing else checks bounds."""

import math

import numpy as np
from llvmlite import ir
from numba import prange

from .compiling.jit import ComputeLine, ComputeMatrix, Doubles, Labels, kernel
from .compiling.numbers import Number, number
from .compiling.staging import staged
from .compiling.values import INT, Vector, builder, call
from .compiling.views import address
from .rows.backward import sum_of_products
from .rows.options import WeightOptions, weight_in_mean
from .simd.memory import load, load_first
from .simd.reduce import count_equal, greatest_lane
from .simd.vector import build_splat, lanes_of, less, splat
from .tuning import WEIGHT_ROWS

_EIGHT = ir.VectorType(INT, 8)


@kernel
def count_labels(labels: Labels, n_classes: int, ignore_index: int) -> int:
    """Count the labels that are not ignored; if one is no class, return −1 − its row."""
    lanes = _none_seen()
    whole = labels.size // 8 * 8
    for row in range(0, whole, 8):
        lanes = _see_eight(lanes, labels, row, n_classes, ignore_index)
    ignored, all_fine = _seen(lanes)
    for row in range(whole, labels.size):
        label = labels[row]
        ignored += label == ignore_index
        all_fine &= (label == ignore_index) | ((label >= 0) & (label < n_classes))
    if not all_fine:
        for row in range(labels.size):
            label = labels[row]
            if label != ignore_index and (label < 0 or label >= n_classes):
                return -1 - row
    return labels.size - ignored


@kernel
def check_probs(probs: ComputeMatrix, wrong: Labels):
    """Write the first element of each of some spans that is no finite number from 0 up; −1 where all are."""
    span = -(-probs.size // wrong.size)
    for part in prange(wrong.size):
        first = np.intp(part) * span
        last = min(first + span, probs.size)
        wrong[part] = _first_wrong(probs.flat, first, last)


@staged
def _first_wrong(probs, first, last):
    width = lanes_of(probs)
    least = infinite = splat(probs, 0.0)
    i = first
    while i + width <= last:
        p = load(probs, i)
        least, infinite = less(p, least), infinite + (p - p)  # which is NaN where p is not finite
        i += width
    p = load_first(probs, i, last - i, 0.0)
    least, infinite = less(p, least), infinite + (p - p)
    if (greatest_lane(-least) > 0) | (count_equal(infinite, infinite) < width):
        for i in range(first, last):
            if not (probs[i] >= 0) & (probs[i] < math.inf):
                return i
    return -1


@kernel
def row_weights(labels: Labels, options: WeightOptions, weights: Doubles):
    """Write what each row weighs in a mean; 0 for ignored rows."""
    for chunk in prange(-(-labels.size // WEIGHT_ROWS)):
        first = np.intp(chunk) * WEIGHT_ROWS
        for row in range(first, min(first + WEIGHT_ROWS, labels.size)):
            y = labels[row]
            weights[row] = 0.0 if y == options.ignore_index else weight_in_mean(options, row, y)


@kernel
def total_class_weight(class_weight: ComputeLine) -> float:
    """Add up Σ_j w_j."""
    return sum_of_products(class_weight, None, 0, class_weight.size)


def _none_seen():
    """Begin, in eight lanes: how many labels were ignored, and a mask that is 0 where one was no class."""
    return Vector(ir.Constant(_EIGHT, None)), Vector(build_splat(_EIGHT, INT(-1)))


def _see_eight(lanes, labels, row, n_classes, ignore_index):
    """Count and check the labels of eight rows, in whole lanes: AVX2 packs truth values, and unpacks them again."""
    build, (ignored, fine) = builder(), lanes
    found = build.load(address(labels, row, 8), typ=_EIGHT, align=8)
    equal = build.sext(build.icmp_signed("==", found, build_splat(_EIGHT, number(ignore_index).ir)), _EIGHT)
    # A negative label is a huge unsigned one: one comparison finds both kinds.
    below = build.sext(build.icmp_unsigned("<", found, build_splat(_EIGHT, number(n_classes).ir)), _EIGHT)
    return Vector(build.sub(ignored.ir, equal)), Vector(build.and_(fine.ir, build.or_(equal, below)))


def _seen(lanes):
    """Give what the lanes have seen together: how many were ignored, and whether all were fine."""
    ignored, fine = lanes
    all_fine = call("llvm.vector.reduce.and.v8i64", INT, [fine.ir])
    return Number(call("llvm.vector.reduce.add.v8i64", INT, [ignored.ir])), Number(all_fine) != 0
