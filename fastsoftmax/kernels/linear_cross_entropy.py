"""The linear layer and the loss in one: the logits never exist as a whole."""

import numpy as np
from numba import prange

from .compiling.jit import ComputeLine, ComputeMatrix, Doubles, Labels, Line, Matrix, Weight, kernel
from .cross_entropy import bundle_loss, bundle_with_grad, lane_factors, with_grad
from .drivers import Rows, bundled_rows, each_row, task_rows
from .gemm.column_sums import add_rows, column_sums, settle
from .gemm.micro_tile import round_up
from .gemm.narrow import add_weight_grad, chains_of, input_grad_rows, linear_rows, pad_rows, strip_of, transposed
from .gemm.split_k import add_up, blocks_of, partial_size, write_weight_grad
from .rows.logits import view_logits
from .rows.options import LossArgs, LossOptions
from .tuning import BIAS_BLOCKS, BLOCK_ROWS, WEIGHT_COLUMNS


@kernel
def linear_cross_entropy_few(
    inputs: Matrix, weight: Weight, bias: Line, labels: Labels, options: LossOptions, losses: Doubles
):
    """Write each row's loss for few classes: one pass over the inputs, a strip of rows at a time."""
    n_rows, n_features = inputs.shape
    n_classes = weight.shape[1]
    n_blocks, block_rows = blocks_of(n_rows, BLOCK_ROWS)
    strip, padded_weight = strip_of(inputs, n_features), transposed(weight)
    args = LossArgs(labels, options, losses)
    for block in prange(n_blocks):
        flat, flat_weight = inputs.flat, padded_weight.flat
        room = np.empty(strip * n_classes, inputs.dtype)
        logits = room.flat
        first = np.intp(block) * block_rows
        last = min(first + block_rows, n_rows)
        for row in range(first, last, strip):
            stop = min(row + strip, last)
            linear_rows(flat, row, stop - row, n_features, flat_weight, bias, n_classes, logits)
            bundled_rows(bundle_loss, args, view_logits(logits, options), n_classes, Rows(row, stop), row)


@kernel
def linear_cross_entropy_with_grad_few(
    inputs: Matrix,
    weight: Weight,
    bias: Line,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dinputs: Matrix,
    dweight: Weight,
    dbias: Line,
):
    """Write each row's loss and all gradients for few classes; none of the inputs if `dinputs` is empty.

    While a strip of rows is in the second-level cache it gives its logits, its losses, ∂L/∂z, and what it adds to
    ∂L/∂W and ∂L/∂b, and gets its ∂L/∂X.
    """
    n_rows, n_features = inputs.shape
    n_classes = weight.shape[1]
    padded_weight = transposed(weight)
    n_blocks, block_rows = blocks_of(n_rows, BLOCK_ROWS)
    strip, chains = strip_of(inputs, n_features), chains_of(n_rows)
    weight_sums = np.zeros((max(n_blocks, 1), partial_size(inputs, n_features, n_classes)))
    bias_sums = np.zeros((max(n_blocks, 1), n_classes))
    for block in prange(n_blocks):
        flat, flat_dinputs, flat_weight = inputs.flat, dinputs.flat, padded_weight.flat
        room = np.empty(strip * n_classes, inputs.dtype)
        padded_room = np.empty(strip * round_up(n_classes, WEIGHT_COLUMNS), inputs.dtype)
        logits, grads, sums = room.flat, padded_room.flat, weight_sums[block].flat
        block_bias_sums = column_sums(flat, n_classes)
        first = np.intp(block) * block_rows
        last = min(first + block_rows, n_rows)
        for row in range(first, last, strip):
            stop = min(row + strip, last)
            linear_rows(flat, row, stop - row, n_features, flat_weight, bias, n_classes, logits)
            args = LossArgs(labels, options, losses, factor, dloss, logits)
            given = args, lane_factors(args)
            bundled_rows(bundle_with_grad, given, view_logits(logits, options), n_classes, Rows(row, stop), row)
            pad_rows(logits, stop - row, n_classes, grads)
            add_rows(logits, 0, stop - row, n_classes, n_classes, block_bias_sums)
            add_weight_grad(flat, row, stop - row, n_features, grads, n_classes, chains, sums)
            if dinputs.size:
                input_grad_rows(grads, stop - row, flat_weight, n_features, n_classes, flat_dinputs, row)
        settle(flat, block_bias_sums, bias_sums[block], n_classes)
    add_up(bias_sums, dbias)
    write_weight_grad(weight_sums, dweight)


@kernel
def cross_entropy_with_grads(
    logits: ComputeMatrix,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dbias: Doubles,
):
    """Write each row's loss, replace the logits by their gradient, and add that to `dbias`.

    Four rows are added to ∂L/∂b at a time, while the second-level cache holds them.
    """
    n_rows, n_classes = logits.shape
    block_rows = -(-n_rows // (4 * BIAS_BLOCKS)) * 4
    n_blocks = -(-n_rows // block_rows)
    partial = np.zeros((n_blocks, n_classes))
    args = LossArgs(labels, options, losses, factor, dloss, logits)
    for block in prange(n_blocks):
        flat = logits.flat
        sums = column_sums(flat, n_classes)
        rows = task_rows(block, block_rows, n_rows)
        for four in range(rows.first, rows.last, 4):
            stop = min(four + 4, rows.last)
            each_row(with_grad, True, args, view_logits(logits, options), Rows(four, stop))
            add_rows(flat, four * n_classes, stop - four, n_classes, n_classes, sums)
        settle(flat, sums, partial[block], n_classes)
    for block in range(n_blocks):
        for column in range(n_classes):
            dbias[column] += partial[block, column]
