"""Class labels, checked before anything is read or written by them."""

import numpy as np

from fastsoftmax import kernels
from fastsoftmax.jax.handlers import abi
from fastsoftmax.jax.handlers.calls import integers, run_kernel
from fastsoftmax.jax.handlers.frames import fail
from fastsoftmax.kernels.compiling.staging import staged

# Rows with this label have no loss. No user has it: it is neither a usual "missing", nor what a NaN becomes.
IGNORED = -2_000_000_011


@staged
def checked_labels(frame, buffer, dtype, n_classes):
    """Give labels as kernels take them; end with an error that names the first that is no class."""
    labels = integers(buffer, dtype)
    counted = run_kernel(kernels.operations.HELPERS.count_labels, np.float64, labels, n_classes, IGNORED)
    if counted < 0:
        row = -1 - counted
        message = "labels: expected classes 0 to %lld, got %lld in row %lld"
        fail(frame, abi.INVALID_ARGUMENT, message, n_classes - 1, labels[row], row)
    return labels
