"""∂L/∂b = Σ ∂L/∂z over all rows."""

import numpy as np
from numba import prange

from .compiling.jit import Line, Matrix, kernel
from .gemm.column_sums import add_rows, column_sums, settle
from .gemm.split_k import add_up, blocks_of
from .tuning import SPAN_COLUMNS, SPAN_ROWS


@kernel
def bias_grad(doutputs: Matrix, dbias: Line):
    """Write ∂L/∂b = Σ_i ∂L/∂z_i."""
    n_rows, n_columns = doutputs.shape
    n_spans = -(-n_columns // SPAN_COLUMNS)
    n_blocks, block_rows = blocks_of(n_rows, SPAN_ROWS)
    if n_spans >= 8:
        n_blocks, block_rows = 1, n_rows
    partial = np.zeros((max(n_blocks, 1), n_columns))
    n_tasks = n_spans * n_blocks
    for task in prange(n_tasks):
        flat = doutputs.flat
        span, block = np.intp(task) % n_spans, np.intp(task) // n_spans
        column = span * SPAN_COLUMNS
        count = min(SPAN_COLUMNS, n_columns - column)
        row = block * block_rows
        sums = column_sums(flat, count)
        add_rows(flat, row * n_columns + column, min(block_rows, n_rows - row), n_columns, count, sums)
        settle(flat, sums, partial[block, column : column + count], count)
    add_up(partial, dbias)
