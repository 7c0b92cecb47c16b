"""The linear layer over all rows: z = X·W + b, ∂L/∂W = Xᵀ·∂L/∂z and ∂L/∂X = ∂L/∂z·Wᵀ."""

import numpy as np
from numba import prange

from .gemm import grid_of, write_block
from .jit import require_all, twins
from .panels import ask_for_depths, ask_for_lines, pack_depths, pack_lines
from .products import add_weight_grad, chains_of, input_grad_rows, linear_rows, pad_rows, strip_of, transposed
from .reductions import BLOCK, blocks_of, partial_size, write_weight_grad
from .tiles import WEIGHT_COLUMNS, round_up
from .views import flat_of, kept

_STRIP = 128  # rows of ∂L/∂X that a thread writes at a time


@twins
def linear(inputs, weight, bias, outputs, n_threads):
    """Write z = X·W + b."""
    n_rows, n_features = inputs.shape
    n_columns = weight.shape[1]
    grid = grid_of(outputs, n_rows, n_columns, n_threads)
    done = 0
    for block in prange(grid[0]):
        rows = flat_of(inputs), n_rows, n_features
        columns = flat_of(weight), n_columns, n_features
        start = flat_of(bias), False
        done += write_block(
            block, grid, pack_lines, rows, pack_depths, ask_for_depths, columns, flat_of(outputs), start
        )
    require_all(done, grid[0])


@twins
def input_grad(doutputs, weight, dinputs, n_threads):
    """Write ∂L/∂X = ∂L/∂z·Wᵀ."""
    n_rows, n_columns = doutputs.shape
    n_features = weight.shape[0]
    grid = grid_of(dinputs, n_rows, n_features, n_threads)
    done = 0
    for block in prange(grid[0]):
        rows = flat_of(doutputs), n_rows, n_columns
        columns = flat_of(weight), n_features, n_columns
        start = flat_of(dinputs)[:0], False
        done += write_block(block, grid, pack_lines, rows, pack_lines, ask_for_lines, columns, flat_of(dinputs), start)
    require_all(done, grid[0])


@twins
def weight_grad(inputs, doutputs, dweight, add, n_threads):
    """Write ∂L/∂W = Xᵀ·∂L/∂z, or add it to what is there."""
    n_rows, n_features = inputs.shape
    n_columns = doutputs.shape[1]
    grid = grid_of(dweight, n_features, n_columns, n_threads)
    done = 0
    for block in prange(grid[0]):
        rows = flat_of(inputs), n_features, n_rows
        columns = flat_of(doutputs), n_columns, n_rows
        start = flat_of(dweight)[:0], add
        done += write_block(
            block, grid, pack_depths, rows, pack_depths, ask_for_depths, columns, flat_of(dweight), start
        )
    require_all(done, grid[0])


@twins
def linear_few(inputs, weight, bias, outputs):
    """Do `linear` for few columns: what they have is left in registers while each row is read once."""
    n_rows, n_features = inputs.shape
    n_columns = weight.shape[1]
    padded_weight, strip = transposed(weight), strip_of(inputs, n_features)
    for task in prange(-(-n_rows // strip)):
        flat, flat_weight, flat_outputs = flat_of(inputs), flat_of(padded_weight), flat_of(outputs)
        first = np.intp(task) * strip
        count = min(strip, n_rows - first)
        strip_outputs = flat_outputs[first * n_columns :]
        linear_rows(flat, first, count, n_features, flat_weight, bias, n_columns, strip_outputs)


@twins
def input_grad_few(doutputs, weight, dinputs):
    """Do `input_grad` for few columns, with the same bits; a result that no cache holds is written past them."""
    n_rows, n_columns = doutputs.shape
    n_features = weight.shape[0]
    flat_weight = transposed(weight)
    n_strips = -(-n_rows // _STRIP)
    done = 0
    for strip in prange(n_strips):
        flat, flat_out, padded_weight = flat_of(doutputs), flat_of(dinputs), flat_of(flat_weight)
        first = np.intp(strip) * _STRIP
        count = min(_STRIP, n_rows - first)
        room = np.empty(_STRIP * round_up(n_columns, WEIGHT_COLUMNS), doutputs.dtype)
        grads = flat_of(room)
        pad_rows(flat[first * n_columns :], count, n_columns, grads)
        input_grad_rows(grads, count, padded_weight, n_features, n_columns, flat_out, first)
        done += kept(room)
    require_all(done, n_strips)


@twins
def weight_grad_few(inputs, doutputs, dweight):
    """Do `weight_grad` for few columns: fixed blocks of rows are added up, in float64 between them."""
    n_rows, n_features = inputs.shape
    n_columns = doutputs.shape[1]
    strip, chains = strip_of(inputs, n_features), chains_of(n_rows)
    n_blocks, block_rows = blocks_of(n_rows, BLOCK)
    partial = np.zeros((max(n_blocks, 1), partial_size(inputs, n_features, n_columns)))
    done = 0
    for block in prange(n_blocks):
        flat, flat_doutputs = flat_of(inputs), flat_of(doutputs)
        room = np.empty(strip * round_up(n_columns, WEIGHT_COLUMNS), inputs.dtype)
        grads, sums = flat_of(room), flat_of(partial[block])
        first = np.intp(block) * block_rows
        last = min(first + block_rows, n_rows)
        for row in range(first, last, strip):
            count = min(strip, last - row)
            pad_rows(flat_doutputs[row * n_columns :], count, n_columns, grads)
            add_weight_grad(flat, row, count, n_features, grads, n_columns, chains, sums)
        done += kept(room)
    require_all(done, n_blocks)
    write_weight_grad(partial, dweight)
