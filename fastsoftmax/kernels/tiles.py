"""Products of narrow matrices: tiles of 4 × 4 vectors that stay in registers.

A BLAS is made for wide matrices. Where one side has a few columns it moves more than it computes; a tile does 16 fused
multiply-adds for 8 loads and reads each element of the long side once.
"""

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inline
from .lanes import Lanes, all_lanes, build_fma, build_splat, lanes_of, vector_type
from .memory import add_wide, broadcast, finish_streams, load_first, prefetch, store_first, stream, unaligned
from .regimes import STREAM_BYTES
from .sums import sum_lanes

SIDE = 4
_STRIP_BYTES = 2**18
_RUN = 16  # rows whose products are added up one by one, to sums of such sums: no worse than pairwise summation


@inline
def whole_tiles(length):
    """Round a number of columns up to whole tiles."""
    return -(-length // SIDE) * SIDE


@intrinsic
def empty_tile(typingctx, like):
    """Begin a tile of zeros: a tuple of 16 vectors, row by row."""
    lanes = Lanes(like.dtype)
    tile = types.UniTuple(lanes, SIDE * SIDE)

    def codegen(context, builder, sig, args):
        zero = context.get_constant(lanes.dtype, 0.0)
        zeros = build_splat(builder, vector_type(lanes), zero)
        return context.make_tuple(builder, tile, [zeros] * tile.count)

    return tile(like), codegen


@intrinsic
def add_products(typingctx, tile, rows, columns):
    """Add the outer product of 4 vectors and 4 vectors: tile[4·i + j] + rows[i] · columns[j]."""
    if not (isinstance(tile, types.UniTuple) and all_lanes(tile.dtype, rows.dtype, columns.dtype)):
        return None

    def codegen(context, builder, sig, args):
        sums, rows, columns = (cgutils.unpack_tuple(builder, arg) for arg in args)
        pairs = [(row, column) for row in rows for column in columns]
        new = [build_fma(builder, row, column, total) for (row, column), total in zip(pairs, sums, strict=True)]
        return context.make_tuple(builder, tile, new)

    return tile(tile, rows, columns), codegen


@intrinsic
def add_tiles(typingctx, a, b):
    """Add two tiles."""
    if not (isinstance(a, types.UniTuple) and a == b and all_lanes(a.dtype)):
        return None

    def codegen(context, builder, sig, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return context.make_tuple(builder, a, [builder.fadd(*pair) for pair in pairs])

    return a(a, b), codegen


@inline
def four_in_line(array, at, left):
    """Load four vectors that follow each other, `left` elements of them."""
    width = lanes_of(array)
    return (
        load_first(array, at, left, 0.0),
        load_first(array, at + width, left - width, 0.0),
        load_first(array, at + 2 * width, left - 2 * width, 0.0),
        load_first(array, at + 3 * width, left - 3 * width, 0.0),
    )


@inline
def four_rows(array, at, step, left):
    """Load a vector from each of four rows."""
    return (
        load_first(array, at, left, 0.0),
        load_first(array, at + step, left, 0.0),
        load_first(array, at + 2 * step, left, 0.0),
        load_first(array, at + 3 * step, left, 0.0),
    )


@inline
def four_values(array, at, step):
    """Load four elements, each in every lane of a vector."""
    return (
        broadcast(array, at),
        broadcast(array, at + step),
        broadcast(array, at + 2 * step),
        broadcast(array, at + 3 * step),
    )


@inline
def add_weight_grad(inputs, row, n_rows, n_features, grads, n_columns, sums):
    """Add Xᵀ·dz of some rows to the float64 `sums` (columns, features), both padded to whole tiles.

    `grads` holds dz of these rows, padded likewise, from its start. The chip does not foresee that the next rows
    follow, so the first tile of columns asks for them: 11 ms where 65,536 × 784 × 10 took 16.
    """
    width = lanes_of(inputs)
    stride = whole_tiles(n_columns)
    padded_features = sums.size // stride
    for j in range(0, n_features, SIDE * width):
        for c in range(0, n_columns, SIDE):
            total = empty_tile(inputs)
            for first in range(0, n_rows, _RUN):
                tile = empty_tile(inputs)
                for i in range(first, min(first + _RUN, n_rows)):
                    at = (row + i) * n_features + j
                    x = four_in_line(inputs, at, n_features - j)
                    if c == 0:
                        for k in range(SIDE):
                            prefetch(inputs, at + n_rows * n_features + k * width)
                    tile = add_products(tile, x, four_values(grads, i * stride + c, 1))
                total = add_tiles(total, tile)
            for k in range(SIDE * SIDE):
                add_wide(sums, (c + k % SIDE) * padded_features + j + k // SIDE * width, total[k])


@inline
def input_grad_rows(grads, n_rows, weight, n_features, n_columns, dinputs, row):
    """Write dX = dz·Wᵀ of some rows; `weight` is Wᵀ (columns, features), `grads` as in `add_weight_grad`.

    A dX that no cache holds is written past them, if its vectors are aligned: the head of 65,536 × 784 × 10 took 27 ms
    where it took 34.
    """
    width = lanes_of(dinputs)
    stride = whole_tiles(n_columns)
    streamed = dinputs.nbytes >= STREAM_BYTES and n_features % width == 0 and unaligned(dinputs, 0) == 0
    for i in range(0, n_rows, SIDE):
        for j in range(0, n_features, SIDE * width):
            tile = empty_tile(dinputs)
            for c in range(n_columns):
                w = four_in_line(weight, c * n_features + j, n_features - j)
                tile = add_products(tile, four_values(grads, i * stride + c, stride), w)
            for k in range(SIDE * SIDE):
                column = j + k % SIDE * width
                if i + k // SIDE < n_rows and column < n_features:
                    at = (row + i + k // SIDE) * n_features + column
                    if streamed:
                        stream(dinputs, at, tile[k])
                    else:
                        store_first(dinputs, at, n_features - column, tile[k])
    if streamed:
        finish_streams()


@inline
def linear_rows(inputs, row, n_rows, n_features, weight, bias, n_columns, outputs):
    """Write z = X·W + b of some rows from the start of `outputs`; `weight` is Wᵀ, padded to whole tiles."""
    whole = n_rows // SIDE * SIDE
    for i in range(0, whole, SIDE):
        for c in range(0, n_columns, SIDE):
            tile = _dot_products(inputs, (row + i) * n_features, n_features, weight, c, n_features)
            for k in range(SIDE * SIDE):
                if c + k % SIDE < n_columns:
                    column = c + k % SIDE
                    outputs[(i + k // SIDE) * n_columns + column] = sum_lanes(tile[k]) + bias[column]
    for i in range(whole, n_rows):  # a tile with the same row four times
        for c in range(0, n_columns, SIDE):
            tile = _dot_products(inputs, (row + i) * n_features, 0, weight, c, n_features)
            for k in range(SIDE):
                if c + k < n_columns:
                    outputs[i * n_columns + c + k] = sum_lanes(tile[k]) + bias[c + k]


@inline
def _dot_products(inputs, at, step, weight, column, n_features):
    """Multiply four rows of X with four of Wᵀ, feature by feature; the lanes are still to be added up.

    The first tile of columns asks for the next rows: 8.5 ms where 65,536 × 784 × 10 took 13.5.
    """
    tile = empty_tile(inputs)
    for j in range(0, n_features, lanes_of(inputs)):
        if column == 0:
            for k in range(SIDE, 2 * SIDE):
                prefetch(inputs, at + k * step + j)
        x = four_rows(inputs, at + j, step, n_features - j)
        tile = add_products(tile, x, four_rows(weight, column * n_features + j, n_features, n_features - j))
    return tile


@inline
def transposed(weight):
    """Copy W (features, columns) to a flat Wᵀ, padded with zeros to whole tiles of columns."""
    n_features, n_columns = weight.shape
    result = np.zeros(whole_tiles(n_columns) * n_features, weight.dtype)
    for feature in range(n_features):
        for column in range(n_columns):
            result[column * n_features + feature] = weight[feature, column]
    return result


@inline
def pad_rows(values, n_rows, n_columns, padded):
    """Copy rows of values to rows padded with zeros to whole tiles."""
    stride = whole_tiles(n_columns)
    for i in range(n_rows):
        for c in range(stride):
            padded[i * stride + c] = values[i * n_columns + c] if c < n_columns else 0.0
    for i in range(n_rows * stride, whole_tiles(n_rows) * stride):
        padded[i] = 0.0


@inline
def strip_of(like, n_features):
    """Choose how many rows to take at a time: as many as leave room in a 1 MB second-level cache, at most 128."""
    rows = _STRIP_BYTES // (n_features * like.itemsize + 1)
    return max(16, min(128, rows // 16 * 16))
