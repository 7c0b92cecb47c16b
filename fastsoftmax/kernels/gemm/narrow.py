"""Products of narrow matrices, a tile at a time: z = X·W + b, ∂L/∂W = Xᵀ·∂L/∂z and ∂L/∂X = ∂L/∂z·Wᵀ of some rows."""

from typing import NamedTuple

import numpy as np

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..simd.convert import promote
from ..simd.memory import finish_streams, load, load_first, prefetch, store, store_first, stream, unaligned
from ..simd.transpose import transpose_part
from ..simd.vector import lanes_of
from ..tuning import (
    INPUT_ROWS,
    INPUT_VECTORS,
    OUTPUT_COLUMNS,
    OUTPUT_ROWS,
    STREAM_BYTES,
    STRIP_BYTES,
    WEIGHT_COLUMNS,
    WEIGHT_VECTORS,
)
from .micro_tile import (
    add_products,
    add_tiles,
    broadcast_several,
    empty_tile,
    load_several,
    round_up,
    store_lane_sums,
    store_tile,
)


@staged
def _share(column, n_columns, tile_columns, n_prefetches):
    """Divide some prefetches among the tiles of columns: the range (first, last + 1) of this tile's.

    The chip does not foresee that the next rows follow: unasked, z of ten columns took 1.7 times as long. Asked for by
    the first tile alone they came as fast as memory gave them, and it rested during the others: a quarter longer (M34).
    """
    n_tiles = round_up(n_columns, tile_columns) // tile_columns
    tile = column // tile_columns
    return n_prefetches * tile // n_tiles, n_prefetches * (tile + 1) // n_tiles


class Chains(NamedTuple):
    """How many products are added up in one chain, and how many of them before float64."""

    run: Number
    span: Number


@staged
def chains_of(n_rows):
    """Choose how many products of ∂L/∂W to add up in one chain, and how many of them before float64.

    Runs add up to spans, and spans in float64. In float32 that rounds less, on average, than pairwise summation of the
    rounded products (M58); few rows need shorter chains for it, as NumPy's eight sums side by side are short then, too.
    """
    if n_rows <= 32:
        return Chains(2, 4)
    if n_rows <= 96:
        return Chains(8, 16)
    return Chains(8, 48) if n_rows <= 640 else Chains(16, 80)


@staged
def add_weight_grad(inputs, row, n_rows, n_features, grads, n_columns, chains, sums):
    """Add Xᵀ·dz of some rows to the float64 `sums` (columns, features), both padded to whole tiles.

    `grads` holds dz of these rows, padded likewise, from its start; `chains` are those of `chains_of`. Meanwhile the
    rows that come after these are asked for.
    """
    run, span = chains
    for first in range(0, n_rows, span):
        last = min(first + span, n_rows)
        _add_span(inputs, row, n_rows, n_features, grads, n_columns, first, last, run, sums)


class _Span(NamedTuple):
    """Some of the rows of a strip, whose products are added up in runs."""

    row: Number  # the strip's first
    n_rows: Number
    first: Number
    last: Number
    run: Number


@staged
def _add_span(inputs, row, n_rows, n_features, grads, n_columns, first, last, run, sums):
    side = WEIGHT_VECTORS * lanes_of(inputs)
    whole = n_features // side * side
    rows = _Span(row, n_rows, first, last, run)
    for j in range(0, whole, side):  # the number of features is a constant to the compiler here
        _add_columns(inputs, rows, n_features, j, side, grads, n_columns, sums)
    if whole < n_features:
        _add_columns(inputs, rows, n_features, whole, n_features - whole, grads, n_columns, sums)


@staged
def _add_columns(inputs, rows, n_features, j, left, grads, n_columns, sums):
    row, n_rows, first, last, run = rows
    width = lanes_of(inputs)
    stride = round_up(n_columns, WEIGHT_COLUMNS)
    padded_features = sums.size // stride
    coming = (row + n_rows) * n_features + j * n_rows  # in the order of memory (M38)
    for c in range(0, n_columns, WEIGHT_COLUMNS):
        share = _share(c, n_columns, WEIGHT_COLUMNS, WEIGHT_VECTORS)
        total = empty_tile(inputs, WEIGHT_VECTORS, WEIGHT_COLUMNS)
        for start in range(first, last, run):
            tile = empty_tile(inputs, WEIGHT_VECTORS, WEIGHT_COLUMNS)
            for i in range(start, min(start + run, last)):
                at = (row + i) * n_features + j
                x = load_several(inputs, at, width, left, width, WEIGHT_VECTORS)
                for k in range(share[0] * width, min(share[1] * width, left), width):
                    prefetch(inputs, coming + i * left + k)
                tile = add_products(tile, x, broadcast_several(grads, i * stride + c, 1, WEIGHT_COLUMNS))
            total = add_tiles(total, tile)
        for k in range(WEIGHT_VECTORS * WEIGHT_COLUMNS):
            column, vector = c + k % WEIGHT_COLUMNS, k // WEIGHT_COLUMNS
            at = column * padded_features + j + vector * width
            store(sums, at, load(sums, at, width) + promote(total[k]))


@staged
def input_grad_rows(grads, n_rows, weight, n_features, n_columns, dinputs, row):
    """Write dX = dz·Wᵀ of some rows; `weight` is Wᵀ (columns, features), `grads` as in `add_weight_grad`.

    A dX that no cache holds is written past them, if its vectors are aligned: else the head of ten columns takes a
    quarter longer (M35).
    """
    width = lanes_of(dinputs)
    side = INPUT_VECTORS * width
    whole = n_features // side * side
    streamed = dinputs.nbytes >= STREAM_BYTES and n_features % width == 0 and unaligned(dinputs, 0) == 0
    for i in range(0, n_rows, INPUT_ROWS):
        place = (row + i, min(INPUT_ROWS, n_rows - i), n_features)
        for j in range(0, whole, side):
            tile = _input_tile(grads, i, weight, n_features, j, side, n_columns)
            _store_tile(tile, dinputs, place, j, streamed)
        if whole < n_features:
            tile = _input_tile(grads, i, weight, n_features, whole, n_features - whole, n_columns)
            _store_tile(tile, dinputs, place, whole, streamed)
    if streamed:
        finish_streams()


@staged
def _input_tile(grads, i, weight, n_features, j, left, n_columns):
    width, stride = lanes_of(weight), round_up(n_columns, WEIGHT_COLUMNS)
    tile = empty_tile(weight, INPUT_ROWS, INPUT_VECTORS)
    for c in range(n_columns):
        w = load_several(weight, c * n_features + j, width, left, width, INPUT_VECTORS)
        tile = add_products(tile, broadcast_several(grads, i * stride + c, stride, INPUT_ROWS), w)
    return tile


@staged
def _store_tile(tile, dinputs, place, j, streamed):
    row, n_rows, n_features = place
    at, whole, left = row * n_features + j, INPUT_VECTORS * lanes_of(dinputs), n_features - j
    if streamed:
        # With a jump to each vector: all at once the writes wait for each other (M36).
        for k in range(INPUT_ROWS * INPUT_VECTORS):
            i, column = k // INPUT_VECTORS, j + k % INPUT_VECTORS * lanes_of(dinputs)
            if i < n_rows and column < n_features:
                stream(dinputs, (row + i) * n_features + column, tile[k])
    elif n_rows == INPUT_ROWS and left >= whole:
        store_tile(dinputs, at, n_features, INPUT_ROWS, whole, tile, INPUT_VECTORS)
    else:
        store_tile(dinputs, at, n_features, n_rows, left, tile, INPUT_VECTORS)


@staged
def linear_rows(inputs, row, n_rows, n_features, weight, bias, n_columns, outputs):
    """Write z = X·W + b of some rows from the start of `outputs`; `weight` is Wᵀ, padded to whole tiles."""
    whole_rows = n_rows // OUTPUT_ROWS * OUTPUT_ROWS
    for i in range(0, whole_rows, OUTPUT_ROWS):
        for c in range(0, n_columns, OUTPUT_COLUMNS):
            share = _share(c, n_columns, OUTPUT_COLUMNS, OUTPUT_ROWS)
            tile = _dot_products(inputs, (row + i) * n_features, n_features, weight, c, n_features, share)
            at = i * n_columns + c
            store_lane_sums(outputs, at, n_columns, n_columns - c, tile, OUTPUT_COLUMNS, bias, c)
    for i in range(whole_rows, n_rows):  # a tile with the same row several times
        for c in range(0, n_columns, OUTPUT_COLUMNS):
            tile = _dot_products(inputs, (row + i) * n_features, 0, weight, c, n_features, (0, 0))
            store_lane_sums(outputs, i * n_columns + c, 0, n_columns - c, tile, OUTPUT_COLUMNS, bias, c)


@staged
def _dot_products(inputs, at, step, weight, column, n_features, share):
    """Multiply some rows of X with some of Wᵀ, lane by lane; ask for those of the next rows that are in `share`."""
    width = lanes_of(inputs)
    tile = empty_tile(inputs, OUTPUT_ROWS, OUTPUT_COLUMNS)
    whole = n_features // width * width
    for j in range(0, whole, width):
        for k in range(*share):
            prefetch(inputs, at + (OUTPUT_ROWS + k) * step + j)
        x = load_several(inputs, at + j, step, width, 0, OUTPUT_ROWS)
        w = load_several(weight, column * n_features + j, n_features, width, 0, OUTPUT_COLUMNS)
        tile = add_products(tile, x, w)
    if whole < n_features:
        x = load_several(inputs, at + whole, step, n_features - whole, 0, OUTPUT_ROWS)
        w = load_several(weight, column * n_features + whole, n_features, n_features - whole, 0, OUTPUT_COLUMNS)
        tile = add_products(tile, x, w)
    return tile


@staged
def transposed(weight):
    """Copy W (features, columns) to a flat Wᵀ, padded with zeros to whole tiles of columns."""
    n_features, n_columns = weight.shape
    result = np.zeros(round_up(n_columns, OUTPUT_COLUMNS) * n_features, weight.dtype)
    source, target, width = weight.flat, result.flat, lanes_of(weight)
    if weight.order == "F":  # Wᵀ as it lies
        for j in range(0, weight.size, width):
            store_first(target, j, weight.size - j, load_first(source, j, weight.size - j, 0.0))
        return result
    for row in range(0, n_features, width):
        for column in range(0, n_columns, width):
            at, target_at = row * n_columns + column, column * n_features + row
            n_rows, left = n_features - row, n_columns - column
            transpose_part(source, at, n_columns, n_rows, left, target, target_at, n_features, left, n_rows)
    return result


@staged
def pad_rows(values, n_rows, n_columns, padded):
    """Copy rows of values to rows padded with zeros to whole tiles."""
    stride = round_up(n_columns, WEIGHT_COLUMNS)
    for i in range(n_rows):
        for c in range(stride):
            padded[i * stride + c] = values[i * n_columns + c] if c < n_columns else 0.0
    for i in range(n_rows * stride, round_up(n_rows, INPUT_ROWS) * stride):
        padded[i] = 0.0


@staged
def strip_of(like, n_features):
    """Choose how many rows to take at a time: as many as leave room in a 1 MB second-level cache, at most 128."""
    rows = STRIP_BYTES // (n_features * like.itemsize + 1)
    return max(16, min(128, rows // 16 * 16))
