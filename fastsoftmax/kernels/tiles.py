"""Products of narrow matrices: tiles of 4 × 5 vectors that stay in registers.

A BLAS is made for wide matrices. Where one side has a few columns it moves more than it computes; a tile does 20 fused
multiply-adds for 9 loads, and reads the long side once for five columns. Five, not four: ten classes are two tiles, and
49 vectors, 784 features, all but fill ten.
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

TILE_ROWS = 4
TILE_COLUMNS = 5
_STRIP_BYTES = 2**18


@inline
def round_up(length, side):
    """Round a length up to whole tiles."""
    return -(-length // side) * side


@intrinsic
def empty_tile(typingctx, like):
    """Begin a tile of zeros: a tuple of 20 vectors, row by row."""
    lanes = Lanes(like.dtype)
    tile = types.UniTuple(lanes, TILE_ROWS * TILE_COLUMNS)

    def codegen(context, builder, sig, args):
        zero = context.get_constant(lanes.dtype, 0.0)
        zeros = build_splat(builder, vector_type(lanes), zero)
        return context.make_tuple(builder, tile, [zeros] * tile.count)

    return tile(like), codegen


@intrinsic
def add_products(typingctx, tile, rows, columns):
    """Add the outer product of 4 vectors and 5 vectors: tile[5·i + j] + rows[i] · columns[j]."""
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
def five_in_line(array, at, left):
    """Load five vectors that follow each other, `left` elements of them."""
    fifth = 4 * lanes_of(array)
    return (*four_in_line(array, at, left), load_first(array, at + fifth, left - fifth, 0.0))


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
def five_rows(array, at, step, left):
    """Load a vector from each of five rows."""
    return (*four_rows(array, at, step, left), load_first(array, at + 4 * step, left, 0.0))


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
def five_values(array, at, step):
    """Load five elements, each in every lane of a vector."""
    return (*four_values(array, at, step), broadcast(array, at + 4 * step))


@inline
def _share(column, n_columns):
    """Divide four prefetches among the tiles of columns: the range (first, last + 1) of this tile's.

    The chip does not foresee that the next rows follow: unasked, z of 65,536 × 784 × 10 took 12.5 ms. Asked for by the
    first tile alone they came as fast as memory gave them, and it rested during the others: 8.9; now 7.2.
    """
    n_tiles = round_up(n_columns, TILE_COLUMNS) // TILE_COLUMNS
    tile = column // TILE_COLUMNS
    return TILE_ROWS * tile // n_tiles, TILE_ROWS * (tile + 1) // n_tiles


@inline
def chains_of(n_rows):
    """Choose how many products of ∂L/∂W to add up in one chain, and how many of them before float64: (run, span).

    Runs add up to spans, and spans in float64. In float32 that rounds less, on average, than pairwise summation of the
    rounded products; few rows need shorter chains for it, as NumPy's eight sums side by side are short then, too.
    """
    if n_rows <= 32:
        return 2, 4
    if n_rows <= 96:
        return 8, 16
    return (8, 48) if n_rows <= 640 else (16, 80)


@inline
def add_weight_grad(inputs, row, n_rows, n_features, grads, n_columns, chains, sums):
    """Add Xᵀ·dz of some rows to the float64 `sums` (columns, features), both padded to whole tiles.

    `grads` holds dz of these rows, padded likewise, from its start; `chains` are those of `chains_of`. Meanwhile the
    rows that come after these are asked for.
    """
    run, span = chains
    for first in range(0, n_rows, span):
        last = min(first + span, n_rows)
        _add_span(inputs, row, n_rows, n_features, grads, n_columns, first, last, run, sums)


@inline
def _add_span(inputs, row, n_rows, n_features, grads, n_columns, first, last, run, sums):
    width = lanes_of(inputs)
    stride = round_up(n_columns, TILE_COLUMNS)
    padded_features = sums.size // stride
    for j in range(0, n_features, TILE_ROWS * width):
        for c in range(0, n_columns, TILE_COLUMNS):
            share = _share(c, n_columns)
            total = empty_tile(inputs)
            for start in range(first, last, run):
                tile = empty_tile(inputs)
                for i in range(start, min(start + run, last)):
                    at = (row + i) * n_features + j
                    x = four_in_line(inputs, at, n_features - j)
                    for k in range(*share):
                        prefetch(inputs, at + n_rows * n_features + k * width)
                    tile = add_products(tile, x, five_values(grads, i * stride + c, 1))
                total = add_tiles(total, tile)
            for k in range(TILE_ROWS * TILE_COLUMNS):
                column, vector = c + k % TILE_COLUMNS, k // TILE_COLUMNS
                add_wide(sums, column * padded_features + j + vector * width, total[k])


@inline
def input_grad_rows(grads, n_rows, weight, n_features, n_columns, dinputs, row):
    """Write dX = dz·Wᵀ of some rows; `weight` is Wᵀ (columns, features), `grads` as in `add_weight_grad`.

    A dX that no cache holds is written past them, if its vectors are aligned: the head of 65,536 × 784 × 10 takes 22
    ms, 27 without.
    """
    width = lanes_of(dinputs)
    stride = round_up(n_columns, TILE_COLUMNS)
    streamed = dinputs.nbytes >= STREAM_BYTES and n_features % width == 0 and unaligned(dinputs, 0) == 0
    for i in range(0, n_rows, TILE_ROWS):
        for j in range(0, n_features, TILE_COLUMNS * width):
            tile = empty_tile(dinputs)
            for c in range(n_columns):
                w = five_in_line(weight, c * n_features + j, n_features - j)
                tile = add_products(tile, four_values(grads, i * stride + c, stride), w)
            for k in range(TILE_ROWS * TILE_COLUMNS):
                column = j + k % TILE_COLUMNS * width
                if i + k // TILE_COLUMNS < n_rows and column < n_features:
                    at = (row + i + k // TILE_COLUMNS) * n_features + column
                    if streamed:
                        stream(dinputs, at, tile[k])
                    else:
                        store_first(dinputs, at, n_features - column, tile[k])
    if streamed:
        finish_streams()


@inline
def linear_rows(inputs, row, n_rows, n_features, weight, bias, n_columns, outputs):
    """Write z = X·W + b of some rows from the start of `outputs`; `weight` is Wᵀ, padded to whole tiles."""
    whole_rows = n_rows // TILE_ROWS * TILE_ROWS
    for i in range(0, whole_rows, TILE_ROWS):
        for c in range(0, n_columns, TILE_COLUMNS):
            tile = _dot_products(
                inputs, (row + i) * n_features, n_features, weight, c, n_features, _share(c, n_columns)
            )
            for k in range(TILE_ROWS * TILE_COLUMNS):
                column = c + k % TILE_COLUMNS
                if column < n_columns:
                    outputs[(i + k // TILE_COLUMNS) * n_columns + column] = sum_lanes(tile[k]) + bias[column]
    for i in range(whole_rows, n_rows):  # a tile with the same row four times
        for c in range(0, n_columns, TILE_COLUMNS):
            tile = _dot_products(inputs, (row + i) * n_features, 0, weight, c, n_features, (0, 0))
            for k in range(TILE_COLUMNS):
                if c + k < n_columns:
                    outputs[i * n_columns + c + k] = sum_lanes(tile[k]) + bias[c + k]


@inline
def _dot_products(inputs, at, step, weight, column, n_features, share):
    """Multiply four rows of X with five of Wᵀ, lane by lane; ask for those of the next four that are in `share`."""
    tile = empty_tile(inputs)
    for j in range(0, n_features, lanes_of(inputs)):
        for k in range(*share):
            prefetch(inputs, at + (TILE_ROWS + k) * step + j)
        x = four_rows(inputs, at + j, step, n_features - j)
        w = five_rows(weight, column * n_features + j, n_features, n_features - j)
        tile = add_products(tile, x, w)
    return tile


@inline
def transposed(weight):
    """Copy W (features, columns) to a flat Wᵀ, padded with zeros to whole tiles of columns."""
    n_features, n_columns = weight.shape
    result = np.zeros(round_up(n_columns, TILE_COLUMNS) * n_features, weight.dtype)
    for feature in range(n_features):
        for column in range(n_columns):
            result[column * n_features + feature] = weight[feature, column]
    return result


@inline
def pad_rows(values, n_rows, n_columns, padded):
    """Copy rows of values to rows padded with zeros to whole tiles."""
    stride = round_up(n_columns, TILE_COLUMNS)
    for i in range(n_rows):
        for c in range(stride):
            padded[i * stride + c] = values[i * n_columns + c] if c < n_columns else 0.0
    for i in range(n_rows * stride, round_up(n_rows, TILE_ROWS) * stride):
        padded[i] = 0.0


@inline
def strip_of(like, n_features):
    """Choose how many rows to take at a time: as many as leave room in a 1 MB second-level cache, at most 128."""
    rows = _STRIP_BYTES // (n_features * like.itemsize + 1)
    return max(16, min(128, rows // 16 * 16))
