"""Sums over all rows: ∂L/∂b = Σ ∂L/∂z, and what other sums over rows share with it.

Rows are cut into blocks by the shape alone and the blocks' sums added in order, so that the bits do not depend on how
many threads there are. Within a block float64 holds what float32 vectors add up to.
"""

import numpy as np
from numba import prange

from .jit import Line, Matrix, kernel
from .lanes import lanes_of
from .memory import load, load_first, prefetch, store, store_first
from .staging import staged
from .sums import add_to_sum, settled
from .tiles import WEIGHT_COLUMNS, WEIGHT_VECTORS, round_up

_MOST_BLOCKS = 64
# Columns and fewest rows that a task of bias_grad adds up: memory reads long stretches faster (2,048 × 32,000 took
# 5.5 ms in spans of 8,192, and takes 4.7), and a second-level cache still holds the sums.
_SPAN = 2**15
_SPAN_ROWS = 256
_LEAD = 256  # elements that such a stretch is asked for ahead
BLOCK = 1024  # the fewest rows of a block


@staged
def blocks_of(n_rows, fewest):
    """Cut rows into at most 64 blocks of at least `fewest` rows: (number of blocks, rows in each)."""
    rows = max(fewest, -(-n_rows // _MOST_BLOCKS))
    rows = -(-rows // 128) * 128  # a whole number of bundles, and of the longest strips
    return -(-n_rows // rows), rows


@staged
def column_sums(like, n_columns):
    """Make room for a running sum, two vectors, for each vector of columns."""
    return np.zeros(-(-n_columns // lanes_of(like)) * 16)


@staged
def add_rows(doutputs, start, n_rows, stride, count, sums):
    """Add `count` columns of some rows to running sums, two vectors of `sums` for each vector of columns."""
    width = lanes_of(doutputs)
    # Along the row if it is long, else in the next four: without it they took 1.5 times as long.
    ahead = _LEAD if count > 8 * _LEAD else 4 * stride
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
def _add_vector(sums, pair, vector):
    first, second = add_to_sum((load(sums, 16 * pair), load(sums, 16 * pair + 8)), vector)
    store(sums, 16 * pair, first)
    store(sums, 16 * pair + 8, second)


@staged
def settle(doutputs, sums, total, count):
    """Add running sums of columns to their float64 totals."""
    for column in range(0, count, 8):
        left = count - column
        if lanes_of(doutputs) == 16:  # low half of the lanes first, high half second
            value = load(sums, column)
        else:  # sums first, what they rounded off second
            value = settled(load(sums, 2 * column), load(sums, 2 * column + 8))
        store_first(total, column, left, load_first(total, column, left, 0.0) + value)


@kernel
def bias_grad(doutputs: Matrix, dbias: Line):
    """Write ∂L/∂b = Σ_i ∂L/∂z_i."""
    n_rows, n_columns = doutputs.shape
    n_spans = -(-n_columns // _SPAN)
    n_blocks, block_rows = blocks_of(n_rows, _SPAN_ROWS)
    if n_spans >= 8:
        n_blocks, block_rows = 1, n_rows
    partial = np.zeros((max(n_blocks, 1), n_columns))
    n_tasks = n_spans * n_blocks
    for task in prange(n_tasks):
        flat = doutputs.flat
        span, block = np.intp(task) % n_spans, np.intp(task) // n_spans
        column = span * _SPAN
        count = min(_SPAN, n_columns - column)
        row = block * block_rows
        sums = column_sums(flat, count)
        add_rows(flat, row * n_columns + column, min(block_rows, n_rows - row), n_columns, count, sums)
        settle(flat, sums, partial[block, column : column + count], count)
    add_up(partial, dbias)


@staged
def add_up(partial, result):
    """Write Σ over the blocks of their partial sums, in order, which are lost."""
    _add_blocks(partial)
    for i in range(result.size):
        result[i] = partial[0, i]


@staged
def _add_blocks(partial):
    """Add all blocks' partial sums to the first one's."""
    n_blocks, size = partial.shape
    for block in range(1, n_blocks):
        for i in range(0, size, 8):
            left = size - i
            value = load_first(partial, block * size + i, left, 0.0)
            store_first(partial, i, left, load_first(partial, i, left, 0.0) + value)


@staged
def partial_size(like, n_features, n_columns):
    """Count the elements of a partial ∂L/∂W: columns and features in whole tiles."""
    return round_up(n_columns, WEIGHT_COLUMNS) * round_up(n_features, WEIGHT_VECTORS * lanes_of(like))


@staged
def write_weight_grad(partial, dweight):
    """Write Σ over the blocks of their partial sums (columns, features) as ∂L/∂W (features, columns); they are lost."""
    n_features, n_columns = dweight.shape
    padded_features = partial.shape[1] // round_up(n_columns, WEIGHT_COLUMNS)
    _add_blocks(partial)
    for column in range(n_columns):
        for feature in range(n_features):
            dweight[feature, column] = partial[0, column * padded_features + feature]
