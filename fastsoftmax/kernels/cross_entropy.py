"""Cross entropy over all rows, with and without its gradient."""

import numpy as np
from numba import prange

from .jit import serial, twins
from .memory import load, load_first
from .rows import cross_entropy_row, cross_entropy_with_grad_row
from .sums import add_to_sum, empty_sum, sum_of


@twins
def cross_entropy(logits, labels, ignore_index, losses):
    """Write each row's loss; 0 for ignored rows."""
    n_rows, n_classes = logits.shape
    flat = logits.reshape(-1)
    for row in prange(n_rows):
        label = labels[row]
        if label == ignore_index:
            losses[row] = 0.0
        else:
            start = np.intp(row) * n_classes
            losses[row] = cross_entropy_row(flat, start, start + n_classes, start + label, None)[0]


@twins
def cross_entropy_with_grad(logits, labels, ignore_index, weight, dloss, losses, dlogits):
    """Write each row's loss, and weight · dloss · (a − onehot(y)); both are 0 for ignored rows."""
    n_rows, n_classes = logits.shape
    flat = logits.reshape(-1)
    flat_out = dlogits.reshape(-1)
    for row in prange(n_rows):
        label = labels[row]
        start = np.intp(row) * n_classes
        if label == ignore_index:
            losses[row] = 0.0
            flat_out[start : start + n_classes] = 0
        else:
            row_weight = weight * dloss[row] if dloss.size else weight
            losses[row] = cross_entropy_with_grad_row(
                flat, start, start + n_classes, start + label, row_weight, flat_out
            )


@serial
def total_loss(losses):
    """Add up the rows' losses, always in the same order."""
    total = empty_sum()
    i = 0
    while i + 8 <= losses.size:
        total = add_to_sum(total, load(losses, i))
        i += 8
    total = add_to_sum(total, load_first(losses, i, losses.size - i, 0.0))
    return sum_of(total)
