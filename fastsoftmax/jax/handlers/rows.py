"""Handlers of functions of rows. Losses and factors are of the dtype that logits are computed in."""

import numpy as np

from fastsoftmax import kernels
from fastsoftmax.conversions import compute_dtype
from fastsoftmax.jax.handlers.calls import float64_for, round_off, run_kernel
from fastsoftmax.jax.handlers.frames import line, rows
from fastsoftmax.jax.handlers.labels import IGNORED, checked_labels
from fastsoftmax.jax.handlers.pool import admit
from fastsoftmax.jax.handlers.scaling import multiply_rows
from fastsoftmax.jax.handlers.targets import target
from fastsoftmax.kernels.compiling.halves import STORED
from fastsoftmax.kernels.compiling.scopes import empty
from fastsoftmax.kernels.compiling.staging import staged

# So many multiplications take as long as one exponential.
_PRODUCTS_PER_ELEMENT = 8


def activation(operation: str, dtype: np.dtype, n_classes: int) -> str:
    """Give the target of "softmax", "log_softmax" or "logsumexp": logits → a result for each, or for each row."""
    stored = _stored(dtype)
    kernel = _kernel(operation, stored, n_classes)
    view_result = line if operation == "logsumexp" else rows

    @staged
    def body(frame):
        logits = rows(frame.operand(0), stored)
        pool, _ = admit(frame, logits.size)
        run_kernel(kernel, stored, logits, view_result(frame.result(0), stored), pool=pool)

    return target([kernel.__name__, dtype], body)


def backward(operation: str, dtype: np.dtype, n_classes: int) -> str:
    """Give the target of what is behind one of the first two: its results, their gradient → that of the logits."""
    stored = _stored(dtype)
    kernel = _kernel(operation, stored, n_classes)

    @staged
    def body(frame):
        values, gradients = rows(frame.operand(0), stored), rows(frame.operand(1), stored)
        pool, _ = admit(frame, values.size)
        run_kernel(kernel, stored, values, gradients, rows(frame.result(0), stored), pool=pool)

    return target([kernel.__name__, dtype], body)


def scale_rows(dtype: np.dtype) -> str:
    """Give the target of rows times a factor for each: rows, factors → rows."""
    stored, computed = _stored(dtype), compute_dtype(dtype)

    @staged
    def body(frame):
        values, factors = rows(frame.operand(0), stored), line(frame.operand(1), computed)
        pool, _ = admit(frame, values.size // _PRODUCTS_PER_ELEMENT)
        multiply_rows(values, factors, rows(frame.result(0), stored), pool)

    return target(["scale_rows", dtype], body)


def cross_entropy(dtype: np.dtype, n_classes: int, targets: np.dtype, with_grad: bool) -> str:
    """Give the target of losses: logits, targets → losses, and the gradient of each if that is asked for.

    Targets are labels, int32 or int64, or class probabilities of the dtype that logits are computed in.
    """
    stored, has_labels = _stored(dtype), targets.kind == "i"
    kernel = _kernel("cross_entropy_with_grad" if with_grad else "cross_entropy", stored, n_classes)
    kernel = kernel if has_labels else kernel.variant(("label_probs",))
    body = _losses(kernel, stored, compute_dtype(dtype), targets if has_labels else None, with_grad)
    return target([kernel.__name__, dtype, targets], body)


def _losses(kernel, stored, computed, label_dtype, with_grad):
    """Make the body of a handler of losses, which serves any number of classes that its kernel does."""

    @staged
    def body(frame):
        logits, result = rows(frame.operand(0), stored), line(frame.result(0), computed)
        if label_dtype is None:
            given = rows(frame.operand(1), computed), logits, empty(0, np.int64), IGNORED
        else:
            given = logits, checked_labels(frame, frame.operand(1), label_dtype, logits.shape[1]), IGNORED
        losses = float64_for(result)
        results = (1.0, empty(0, computed), losses, rows(frame.result(1), stored)) if with_grad else (losses,)
        pool, _ = admit(frame, logits.size)
        run_kernel(kernel, stored, *given, *results, pool=pool)
        round_off(losses, result)

    return body


def _stored(dtype):
    return STORED.get(dtype.name, dtype)


def _kernel(operation, stored, n_classes):
    """Choose a kernel for results that are written over the logits."""
    logits = np.broadcast_to(np.zeros((), stored), (1, n_classes))
    return kernels.operations.OPERATIONS[operation].choose([logits], logits)
