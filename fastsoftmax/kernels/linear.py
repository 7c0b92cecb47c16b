"""The linear layer over all rows: z = X·W + b, ∂L/∂W = Xᵀ·∂L/∂z and ∂L/∂X = ∂L/∂z·Wᵀ."""

import numpy as np
from numba import prange

from .compiling.jit import ComputeMatrix, ComputeWeight, Line, Matrix, Weight, kernel
from .gemm.macro_kernel import Start, grid_of, write_block
from .gemm.micro_tile import round_up
from .gemm.narrow import add_weight_grad, chains_of, input_grad_rows, linear_rows, pad_rows, strip_of, transposed
from .gemm.packing import columns_of, rows_of
from .gemm.split_k import blocks_of, partial_size, write_weight_grad
from .tuning import BLOCK_ROWS, DINPUTS_ROWS, WEIGHT_COLUMNS


@kernel
def linear(inputs: Matrix, weight: Weight, bias: Line, outputs: ComputeMatrix, n_threads: int):
    """Write z = X·W + b."""
    grid = grid_of(outputs, inputs.shape[0], weight.shape[1], n_threads)
    for block in prange(grid.n_blocks):
        write_block(block, grid, rows_of(inputs), columns_of(weight), outputs.flat, Start(bias.flat, False))


@kernel
def input_grad(doutputs: ComputeMatrix, weight: Weight, dinputs: ComputeMatrix, n_threads: int):
    """Write ∂L/∂X = ∂L/∂z·Wᵀ."""
    grid = grid_of(dinputs, doutputs.shape[0], weight.shape[0], n_threads)
    for block in prange(grid.n_blocks):
        start = Start(dinputs.flat[:0], False)
        write_block(block, grid, rows_of(doutputs), rows_of(weight), dinputs.flat, start)


@kernel
def weight_grad(inputs: Matrix, doutputs: ComputeMatrix, dweight: ComputeWeight, add: bool, n_threads: int):
    """Write ∂L/∂W = Xᵀ·∂L/∂z, or its transpose ∂L/∂zᵀ·X where that lies row by row, or add it to what is there."""
    first, second = (inputs, doutputs) if dweight.order == "C" else (doutputs, inputs)
    grid = grid_of(dweight, first.shape[1], second.shape[1], n_threads)
    for block in prange(grid.n_blocks):
        start = Start(dweight.flat[:0], add)
        write_block(block, grid, columns_of(first), columns_of(second), dweight.flat, start)


@kernel
def linear_few(inputs: Matrix, weight: Weight, bias: Line, outputs: Matrix):
    """Write z = X·W + b of few columns, whose sums stay in registers while each row is read once."""
    n_rows, n_features = inputs.shape
    n_columns = weight.shape[1]
    padded_weight, strip = transposed(weight), strip_of(inputs, n_features)
    for task in prange(-(-n_rows // strip)):
        flat, flat_weight, flat_outputs = inputs.flat, padded_weight.flat, outputs.flat
        first = np.intp(task) * strip
        count = min(strip, n_rows - first)
        strip_outputs = flat_outputs[first * n_columns :]
        linear_rows(flat, first, count, n_features, flat_weight, bias, n_columns, strip_outputs)


@kernel
def input_grad_few(doutputs: Matrix, weight: Weight, dinputs: Matrix):
    """Write ∂L/∂X of few columns, with the bits of `input_grad`; a result that no cache holds is written past them."""
    n_rows, n_columns = doutputs.shape
    n_features = weight.shape[0]
    flat_weight = transposed(weight)
    n_strips = -(-n_rows // DINPUTS_ROWS)
    for strip in prange(n_strips):
        flat, flat_out, padded_weight = doutputs.flat, dinputs.flat, flat_weight.flat
        first = np.intp(strip) * DINPUTS_ROWS
        count = min(DINPUTS_ROWS, n_rows - first)
        room = np.empty(DINPUTS_ROWS * round_up(n_columns, WEIGHT_COLUMNS), doutputs.dtype)
        grads = room.flat
        pad_rows(flat[first * n_columns :], count, n_columns, grads)
        input_grad_rows(grads, count, padded_weight, n_features, n_columns, flat_out, first)


@kernel
def weight_grad_few(inputs: Matrix, doutputs: Matrix, dweight: Weight):
    """Write ∂L/∂W of few columns: fixed blocks of rows are added up, in float64 between them (split-K)."""
    n_rows, n_features = inputs.shape
    n_columns = doutputs.shape[1]
    strip, chains = strip_of(inputs, n_features), chains_of(n_rows)
    n_blocks, block_rows = blocks_of(n_rows, BLOCK_ROWS)
    partial = np.zeros((max(n_blocks, 1), partial_size(inputs, n_features, n_columns)))
    for block in prange(n_blocks):
        flat, flat_doutputs = inputs.flat, doutputs.flat
        room = np.empty(strip * round_up(n_columns, WEIGHT_COLUMNS), inputs.dtype)
        grads, sums = room.flat, partial[block].flat
        first = np.intp(block) * block_rows
        last = min(first + block_rows, n_rows)
        for row in range(first, last, strip):
            count = min(strip, last - row)
            pad_rows(flat_doutputs[row * n_columns :], count, n_columns, grads)
            add_weight_grad(flat, row, count, n_features, grads, n_columns, chains, sums)
    write_weight_grad(partial, dweight)
