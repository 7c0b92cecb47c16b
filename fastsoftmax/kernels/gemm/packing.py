"""Panels: a few lines of a matrix, depth by depth, in the order in which a tile of products reads them.

The entry of line l at depth k is one of the numbers that l takes into its products: a line is a row of the first factor
or a column of the second. Those of one line lie together, or those of one depth: that follows from the order of the
matrix, and from whether its rows or its columns are the lines.
"""

from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.memory import load_first, prefetch, store_first
from ..simd.transpose import side_of, transpose_block, transpose_part
from ..simd.vector import lanes_of


class Factor(NamedTuple):
    """A factor of a product: a flat array of so many lines, each of so many depths."""

    values: Array
    n_lines: Number
    n_depths: Number
    by_line: bool  # whether those of one line lie together


@staged
def rows_of(matrix):
    """Give the factor whose lines are the rows of a matrix."""
    return Factor(matrix.flat, matrix.shape[0], matrix.shape[1], matrix.order == "C")


@staged
def columns_of(matrix):
    """Give the factor whose lines are the columns of a matrix."""
    return Factor(matrix.flat, matrix.shape[1], matrix.shape[0], matrix.order == "F")


@staged
def pack(factor, line, stop, first, depth, side, panel, at):
    """Copy the lines of a factor up to `stop`, and zeros up to `side`, from `first` on.

    panel[at + k · side + l] is the entry of line + l at first + k. A panel needs room for a vector behind it.
    """
    if factor.by_line:
        _pack_lines(factor, line, stop, first, depth, side, panel, at)
    else:
        _pack_depths(factor, line, stop, first, depth, side, panel, at)


@staged
def _pack_lines(factor, line, stop, first, depth, side, panel, at):
    """Copy blocks, transposed; what the first has beyond `side` lines is written over by the next depth."""
    values, n_lines, n_depths, _ = factor
    block = side_of(values)
    for k in range(0, side, block):
        start = (line + k) * n_depths + first
        harmless = k == 0 or k + block <= side
        whole = depth // block * block if harmless and line + k + block <= n_lines else 0
        for d in range(0, whole, block):
            transpose_block(values, start + d, n_depths, panel, at + d * side + k, side)
        for d in range(whole, depth, block):
            n_rows, left = stop - line - k, depth - d
            place = at + d * side + k
            transpose_part(
                values, start + d, n_depths, n_rows, left, panel, place, side, min(block, left), min(block, side - k)
            )


@staged
def _pack_depths(factor, line, stop, first, depth, side, panel, at):
    """Copy a vector of lines after the other."""
    values, n_lines, _, _ = factor
    width = lanes_of(values)
    for k in range(depth):
        start = (first + k) * n_lines + line
        for j in range(0, side, width):
            store_first(panel, at + k * side + j, side - j, load_first(values, start + j, stop - line - j, 0.0))


@staged
def ask_for(factor, line, first, depth, side, part, n_parts):
    """Ask for one of some parts of a panel to come."""
    values, n_lines, n_depths, by_line = factor
    if by_line:
        _ask_for_rows(values, line * n_depths + first, n_depths, side, depth, part, n_parts)
    else:
        _ask_for_rows(values, first * n_lines + line, n_lines, depth, side, part, n_parts)


@staged
def _ask_for_rows(values, start, step, n_rows, n_columns, part, n_parts):
    """Ask for a part of some rows; the line of the cache that holds a row's start came with what is before it."""
    width = lanes_of(values)
    for i in range(n_rows * part // n_parts, n_rows * (part + 1) // n_parts):
        for j in range(0, n_columns, width):
            prefetch(values, start + i * step + j + width - 1)
