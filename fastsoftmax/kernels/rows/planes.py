"""Classes that do not lie next to each other: what lies next to a logit is the one of the next row, as in images.

The logits of one class are a plane, or a run of one, `class_step` elements before those of the next class. Rows in
lanes need no transposing there: a vector of the first class, one of the second, and so on. Rows of many classes are
transposed into a panel that a second-level cache holds, and become what the row functions make of them there.
"""

from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.target import AVX512
from ..simd.memory import load, load_first, store, store_first, stream, unaligned
from ..simd.transpose import side_of, transpose_block, transpose_part
from ..simd.vector import lanes_of


class Planes(NamedTuple):
    """How the elements of an array and of a result lie: numbers of elements."""

    n_rows: int
    n_classes: int
    n_inner: int  # rows that lie next to each other
    outer_step: int  # from such rows to the next ones
    class_step: int
    out_outer_step: int
    out_class_step: int
    streams: bool  # whether the result is written past the caches


class Neighbours(NamedTuple):
    """Some rows that lie next to each other: where their first class is, and how far it is to the next."""

    row: Number  # the index of the first
    n_rows: Number
    at: Number
    step: Number
    out_at: Number
    out_step: Number
    streams: Number


@staged
def neighbours(planes, row, most):
    """Give a row and those that lie next to it, up to so many."""
    outer, inner = row // planes.n_inner, row % planes.n_inner
    return Neighbours(
        row,
        min(most, planes.n_inner - inner),
        outer * planes.outer_step + inner,
        planes.class_step,
        outer * planes.out_outer_step + inner,
        planes.out_class_step,
        planes.streams,
    )


@staged
def _are_aligned(out, rows):
    """Whether each vector of a result begins at a multiple of its bytes."""
    return (unaligned(out, rows.out_at) == 0) & (rows.out_step % lanes_of(out) == 0)


@staged
def planes_to_lanes(array, rows, n_classes, lanes):
    """Copy a bundle into lanes; lanes without a row hold zeros."""
    width = lanes_of(lanes)
    if rows.n_rows == width:
        for j in range(n_classes):
            store(lanes, j * width, load(array, rows.at + j * rows.step))
    else:
        for j in range(n_classes):
            store(lanes, j * width, load_first(array, rows.at + j * rows.step, rows.n_rows, 0.0))


@staged
def lanes_to_planes(lanes, rows, n_classes, out):
    """Copy lanes back into a bundle."""
    width = lanes_of(lanes)
    if rows.n_rows != width:
        for j in range(n_classes):
            store_first(out, rows.out_at + j * rows.out_step, rows.n_rows, load(lanes, j * width))
    elif rows.streams & _are_aligned(out, rows):
        for j in range(n_classes):
            stream(out, rows.out_at + j * rows.out_step, load(lanes, j * width))
    else:
        for j in range(n_classes):
            store(out, rows.out_at + j * rows.out_step, load(lanes, j * width))


@staged
def planes_to_panel(array, rows, panel):
    """Transpose rows into a panel (rows × classes)."""
    n_classes, side, width = panel.shape[1], side_of(panel), lanes_of(panel)
    if (rows.n_rows >= side) & (n_classes >= side):
        for j in range(0, n_classes, side):
            column = min(j, n_classes - side)  # the last blocks are whole, too
            for i in range(0, rows.n_rows, side):
                row = min(i, rows.n_rows - side)
                at = rows.at + column * rows.step + row
                transpose_block(array, at, rows.step, panel.flat, row * n_classes + column, n_classes)
    else:
        for j in range(0, n_classes, width):
            for i in range(0, rows.n_rows, width):
                n_rows, columns, at = rows.n_rows - i, n_classes - j, rows.at + j * rows.step + i
                place = i * n_classes + j
                transpose_part(array, at, rows.step, columns, n_rows, panel.flat, place, n_classes, n_rows, columns)


@staged
def panel_to_planes(panel, rows, out):
    """Transpose a panel back into rows."""
    n_classes, side, width = panel.shape[1], side_of(panel), lanes_of(panel)
    if (rows.n_rows >= side) & (n_classes >= side):
        # Where registers hold half a line, or a half type's block does, lines would be written in two parts.
        if AVX512 and rows.streams & _are_aligned(out, rows) & (rows.n_rows % side == 0):
            _blocks_to_planes(panel, rows, out, True)
        else:
            _blocks_to_planes(panel, rows, out, False)
    else:
        for j in range(0, n_classes, width):
            for i in range(0, rows.n_rows, width):
                n_rows, columns, at = rows.n_rows - i, n_classes - j, rows.out_at + j * rows.out_step + i
                place = i * n_classes + j
                transpose_part(panel.flat, place, n_classes, n_rows, columns, out, at, rows.out_step, columns, n_rows)


@staged
def _blocks_to_planes(panel, rows, out, streamed):
    n_classes, side = panel.shape[1], side_of(panel)
    for j in range(0, n_classes, side):
        column = min(j, n_classes - side)
        for i in range(0, rows.n_rows, side):
            row = min(i, rows.n_rows - side)
            at = rows.out_at + column * rows.out_step + row
            transpose_block(panel.flat, row * n_classes + column, n_classes, out, at, rows.out_step, streamed)
