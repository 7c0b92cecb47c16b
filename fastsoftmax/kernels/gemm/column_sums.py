"""Sums of columns over some rows, in running sums that a cache holds."""

import numpy as np

from ..compiling.staging import staged
from ..simd.accumulate import Sum, add_to_sum, settled
from ..simd.memory import load, load_first, prefetch, store, store_first
from ..simd.vector import is_double, lanes_of
from ..tuning import SPAN_LEAD


@staged
def column_sums(like, n_columns):
    """Make room for a running sum, two vectors, for each vector of columns."""
    return np.zeros(-(-n_columns // lanes_of(like)) * 16)


@staged
def add_rows(doutputs, start, n_rows, stride, count, sums):
    """Add `count` columns of some rows to running sums, two vectors of `sums` for each vector of columns."""
    width = lanes_of(doutputs)
    # Along the row if it is long, else in the next four: without it they take half as long again (M39).
    ahead = SPAN_LEAD if count > 8 * SPAN_LEAD else 4 * stride
    for row in range(0, n_rows - 3, 4):
        first = start + row * stride
        for j in range(0, count, width):
            left = count - j
            for k in range(4):
                prefetch(doutputs, first + j + ahead + k * stride)
            a = load_first(doutputs, first + j, left, 0.0) + load_first(doutputs, first + j + stride, left, 0.0)
            b = load_first(doutputs, first + j + 2 * stride, left, 0.0)
            b = b + load_first(doutputs, first + j + 3 * stride, left, 0.0)
            _add_vector(sums, j // width, a + b)
    for row in range(n_rows // 4 * 4, n_rows):
        for j in range(0, count, width):
            _add_vector(sums, j // width, load_first(doutputs, start + row * stride + j, count - j, 0.0))


@staged
def _add_vector(sums, at, vector):
    """Add a vector to a running sum at sums[16 · at]: 16 float64 lanes, or 8 and what they have rounded off."""
    place = 16 * at
    if is_double(vector):
        total, error = add_to_sum(Sum(load(sums, place), load(sums, place + 8)), vector)
        store(sums, place, total)
        store(sums, place + 8, error)
    else:
        store(sums, place, add_to_sum(Sum(load(sums, place, 16), None), vector).total)


@staged
def settle(doutputs, sums, total, count):
    """Add running sums of columns to their float64 totals."""
    for column in range(0, count, 8):
        left = count - column
        if is_double(doutputs):
            value = settled(load(sums, 2 * column), load(sums, 2 * column + 8))
        else:
            value = load(sums, column)
        store_first(total, column, left, load_first(total, column, left, 0.0) + value)
