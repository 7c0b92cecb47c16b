"""General products of matrices, a block of the result at a time.

A block is computed by one thread, from panels of both factors (see `packing`) some depths at a time: the
first factor's fill a good part of a second-level cache, and meet one panel of the second factor after the other, which
a first-level cache holds. Each entry is the sum of its products in the order of their depths, whatever the blocks: the
same bits on any number of threads, and for a row alone or among others.

A BLAS does not know each processor (the OpenBLAS of NumPy's wheels takes AMD's Zen 5 for one without AVX-512, and
reaches three fifths of what this does: M32), ends the process where memory runs out, and has threads of its own, that
get in the way of Numba's.
"""

from typing import NamedTuple

import numpy as np

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.memory import prefetch
from ..simd.vector import lanes_of
from ..tuning import BLOCK_DEPTH, MOST_ROWS, TILE_ROWS, TILE_VECTORS
from .micro_tile import (
    add_products,
    add_tiles,
    broadcast_several,
    empty_tile,
    load_several,
    load_tile,
    round_up,
    store_tile,
)
from .packing import ask_for, pack


class Grid(NamedTuple):
    """How a result is cut into blocks."""

    n_blocks: Number
    rows: Number  # of a block
    columns: Number


class Start(NamedTuple):
    """What is added to the first products: a bias, if it is not empty, or what the result holds."""

    bias: Array
    adds: bool


@staged
def grid_of(result, n_rows, n_columns, n_threads):
    """Cut a result into blocks, the same number for each thread or many."""
    side = TILE_VECTORS * lanes_of(result)
    most_rows = MOST_ROWS * lanes_of(result) // 16
    down, across = max(1, -(-n_rows // most_rows)), 1
    while (
        down * across % n_threads
        and down * across < 8 * n_threads
        and (n_rows > down * TILE_ROWS or n_columns > across * side)
    ):
        if n_columns * down > n_rows * across:
            across *= 2
        else:
            down *= 2
    rows = max(round_up(-(-n_rows // down), TILE_ROWS), TILE_ROWS)
    columns = max(round_up(-(-n_columns // across), side), side)
    return Grid(-(-n_rows // rows) * -(-n_columns // columns), rows, columns)


@staged
def write_block(block, grid, rows, columns, result, start):
    """Write one block of the product of two factors; `rows` and `columns` are its `packing.Factor`s."""
    n_rows, n_columns, n_depths = rows.n_lines, columns.n_lines, rows.n_depths
    block_rows, block_columns = grid.rows, grid.columns
    across = -(-n_columns // block_columns)
    first_row, first_column = np.intp(block) // across * block_rows, np.intp(block) % across * block_columns
    last_row, last_column = min(first_row + block_rows, n_rows), min(first_column + block_columns, n_columns)
    side = TILE_VECTORS * lanes_of(result)
    n_steps = max(1, -(-n_depths // BLOCK_DEPTH))
    most = -(-n_depths // n_steps)
    n_tiles = -(-(last_row - first_row) // TILE_ROWS)
    panels = np.empty(n_tiles * TILE_ROWS * most + side, result.dtype)
    column_panel = np.empty(side * most, result.dtype)
    for step in range(n_steps):
        first = step * most
        depth = min(most, n_depths - first)
        for tile in range(n_tiles):
            row = first_row + tile * TILE_ROWS
            stop = min(row + TILE_ROWS, last_row)
            pack(rows, row, stop, first, depth, TILE_ROWS, panels, tile * TILE_ROWS * depth)
        for column in range(first_column, last_column, side):
            pack(columns, column, min(column + side, last_column), first, depth, side, column_panel, 0)
            for tile in range(n_tiles):
                row = first_row + tile * TILE_ROWS
                _ask_for_result(result, row, n_columns, column)
                ask_for(columns, column + side, first, depth, side, tile, n_tiles)
                sums = _multiply(panels, tile * TILE_ROWS * depth, column_panel, depth)
                _store(sums, result, n_columns, (row, last_row), (column, last_column), start, step > 0)


@staged
def _ask_for_result(result, row, n_columns, column):
    for i in range(TILE_ROWS):
        for k in range(TILE_VECTORS):
            prefetch(result, (row + i) * n_columns + column + (k + 1) * lanes_of(result) - 1)


@staged
def _multiply(panels, at, column_panel, depth):
    """Multiply a panel of each factor: a tile of rows × vectors of columns."""
    width = lanes_of(panels)
    sums = empty_tile(panels, TILE_ROWS, TILE_VECTORS)
    for k in range(depth):
        a = broadcast_several(panels, at + k * TILE_ROWS, 1, TILE_ROWS)
        b = load_several(column_panel, k * TILE_VECTORS * width, width, width, 0, TILE_VECTORS)
        sums = add_products(sums, a, b)
    return sums


@staged
def _store(sums, result, n_columns, rows, columns, start, began):
    """Store a tile; `rows` and `columns` are its first, and the block's end."""
    n_rows, left, whole = rows[1] - rows[0], columns[1] - columns[0], TILE_VECTORS * lanes_of(result)
    if n_rows >= TILE_ROWS and left >= whole:
        _store_part(sums, result, n_columns, rows[0], columns[0], TILE_ROWS, whole, start, began)
    else:
        _store_part(sums, result, n_columns, rows[0], columns[0], n_rows, left, start, began)


@staged
def _store_part(sums, result, n_columns, row, column, n_rows, left, start, began):
    """Store some rows and columns: plus what is there if that `began` or is kept, else plus a bias if one is given."""
    at = row * n_columns + column
    if began or start.adds:
        sums = add_tiles(load_tile(result, at, n_columns, n_rows, left, sums, TILE_VECTORS), sums)
    elif start.bias.size:
        sums = add_tiles(load_tile(start.bias, column, 0, n_rows, left, sums, TILE_VECTORS), sums)
    store_tile(result, at, n_columns, n_rows, left, sums, TILE_VECTORS)
