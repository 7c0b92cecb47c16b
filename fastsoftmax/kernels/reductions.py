"""Sums over all rows: db = Σ dz and, for few classes, dW = Xᵀ·dz; and dX = dz·Wᵀ for few classes.

Rows are cut into blocks by the shape alone and the blocks' sums added in order, so that the bits do not depend on how
many threads there are. Within a block float64 holds what float32 vectors add up to.
"""

import numpy as np
from numba import prange

from .jit import inline, twins
from .lanes import fma, splat
from .memory import add_wide, lanes_of, load, load_first, store, store_first
from .sums import add_to_sum

_MOST_BLOCKS = 64
_SPAN = 2048  # columns that a task of bias_grad adds up: its sums stay in the first-level cache
_STRIP = 128  # rows whose products a register adds up before they go to float64


@inline
def blocks_of(n_rows, fewest):
    """Cut rows into at most 64 blocks of at least `fewest` rows: (number of blocks, rows in each)."""
    rows = max(fewest, -(-n_rows // _MOST_BLOCKS))
    rows = -(-rows // _STRIP) * _STRIP
    return -(-n_rows // rows), rows


@inline
def _add_rows(doutputs, start, n_rows, stride, count, sums):
    """Add `count` columns of some rows to running sums, two vectors of `sums` for each vector of columns."""
    width = lanes_of(doutputs)
    for row in range(0, n_rows - 3, 4):
        first = start + row * stride
        for j in range(0, count, width):
            left = count - j
            a = load_first(doutputs, first + j, left, 0.0) + load_first(doutputs, first + j + stride, left, 0.0)
            b = load_first(doutputs, first + j + 2 * stride, left, 0.0)
            b = b + load_first(doutputs, first + j + 3 * stride, left, 0.0)
            _add_vector(sums, j // width, a + b)
    for row in range(n_rows // 4 * 4, n_rows):
        for j in range(0, count, width):
            _add_vector(sums, j // width, load_first(doutputs, start + row * stride + j, count - j, 0.0))


@inline
def _add_vector(sums, pair, vector):
    first, second = add_to_sum((load(sums, 16 * pair), load(sums, 16 * pair + 8)), vector)
    store(sums, 16 * pair, first)
    store(sums, 16 * pair + 8, second)


@inline
def _settle(doutputs, sums, total, count):
    """Add running sums of columns to their float64 totals."""
    width = lanes_of(doutputs)
    for column in range(count):
        if width == 16:  # low half of the lanes first, high half second
            total[column] += sums[column]
        else:  # sums first, what they rounded off second
            place = column // 8 * 16 + column % 8
            total[column] += sums[place] + sums[place + 8]


@twins
def bias_grad(doutputs, dbias):
    """Write ∂L/∂b = Σ_i ∂L/∂z_i."""
    n_rows, n_columns = doutputs.shape
    flat = doutputs.reshape(-1)
    n_spans = -(-n_columns // _SPAN)
    n_blocks, block_rows = blocks_of(n_rows, 1024)
    if n_spans >= 8:
        n_blocks, block_rows = 1, n_rows
    partial = np.zeros((max(n_blocks, 1), n_columns))
    for task in prange(n_spans * n_blocks):
        span, block = np.intp(task) % n_spans, np.intp(task) // n_spans
        column = span * _SPAN
        count = min(_SPAN, n_columns - column)
        row = block * block_rows
        sums = np.zeros(2 * _SPAN)
        _add_rows(flat, row * n_columns + column, min(block_rows, n_rows - row), n_columns, count, sums)
        _settle(flat, sums, partial[block, column : column + count], count)
    for column in range(n_columns):
        total = 0.0
        for block in range(n_blocks):
            total += partial[block, column]
        dbias[column] = total


@inline
def padded(columns):
    """Round a number of columns up to whole tiles of four."""
    return -(-columns // 4) * 4


@inline
def add_outer_products(inputs, row, n_rows, n_features, grads, n_columns, sums):
    """Add Xᵀ·dz of some rows to `sums` (columns, features); `grads` holds their dz, padded to whole tiles.

    A tile of 4 columns by 2 vectors of features stays in registers while the rows pass: 8 fused multiply-adds for 6
    loads.
    """
    width = lanes_of(inputs)
    for j in range(0, n_features, 2 * width):
        left = n_features - j
        for c in range(0, n_columns, 4):
            p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = splat(inputs, 0.0)
            for i in range(n_rows):
                at = (row + i) * n_features + j
                x0 = load_first(inputs, at, left, 0.0)
                x1 = load_first(inputs, at + width, left - width, 0.0)
                g = splat(inputs, grads[i, c])
                p0, q0 = fma(x0, g, p0), fma(x1, g, q0)
                g = splat(inputs, grads[i, c + 1])
                p1, q1 = fma(x0, g, p1), fma(x1, g, q1)
                g = splat(inputs, grads[i, c + 2])
                p2, q2 = fma(x0, g, p2), fma(x1, g, q2)
                g = splat(inputs, grads[i, c + 3])
                p3, q3 = fma(x0, g, p3), fma(x1, g, q3)
            _add_tile(sums, c, j, p0, q0)
            _add_tile(sums, c + 1, j, p1, q1)
            _add_tile(sums, c + 2, j, p2, q2)
            _add_tile(sums, c + 3, j, p3, q3)


@inline
def _add_tile(sums, column, feature, p, q):
    """Add two vectors to the float64 sums of a column."""
    flat = sums.reshape(-1)
    at = column * sums.shape[1] + feature
    add_wide(flat, at, p)
    add_wide(flat, at + lanes_of(p), q)


@inline
def copy_padded(doutputs, row, n_rows, grads):
    """Copy some rows of dz into `grads`, whose columns are padded with zeros to whole tiles."""
    for i in range(n_rows):
        for c in range(grads.shape[1]):
            grads[i, c] = doutputs[row + i, c] if c < doutputs.shape[1] else 0.0


@twins
def weight_grad(inputs, doutputs, dweight):
    """Write ∂L/∂W = Xᵀ·∂L/∂z; made for few columns of ∂L/∂z."""
    n_rows, n_features = inputs.shape
    n_columns = doutputs.shape[1]
    flat = inputs.reshape(-1)
    n_blocks, block_rows = blocks_of(n_rows, 8 * _STRIP)
    whole_features = -(-n_features // (2 * lanes_of(inputs))) * 2 * lanes_of(inputs)
    partial = np.zeros((n_blocks, padded(n_columns), whole_features))
    for block in prange(n_blocks):
        grads = np.empty((_STRIP, padded(n_columns)), inputs.dtype)
        first = np.intp(block) * block_rows
        last = min(first + block_rows, n_rows)
        for row in range(first, last, _STRIP):
            count = min(_STRIP, last - row)
            copy_padded(doutputs, row, count, grads)
            add_outer_products(flat, row, count, n_features, grads, n_columns, partial[block])
    for feature in range(n_features):
        for column in range(n_columns):
            total = 0.0
            for block in range(n_blocks):
                total += partial[block, column, feature]
            dweight[feature, column] = total


@twins
def input_grad(doutputs, weight, dinputs):
    """Write ∂L/∂X = ∂L/∂z·Wᵀ; made for few columns of ∂L/∂z."""
    n_rows, n_columns = doutputs.shape
    n_features = weight.shape[0]
    flat_weight = np.ascontiguousarray(weight.T).reshape(-1)
    flat_out = dinputs.reshape(-1)
    width = lanes_of(dinputs)
    for row in prange(n_rows):
        start = np.intp(row) * n_features
        for j in range(0, n_features, width):
            total = splat(dinputs, 0.0)
            for c in range(n_columns):
                column = load_first(flat_weight, c * n_features + j, n_features - j, 0.0)
                total = fma(splat(dinputs, doutputs[row, c]), column, total)
            store_first(flat_out, start + j, n_features - j, total)
