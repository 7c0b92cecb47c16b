"""The gradients behind a softmax and a log-softmax over whole arrays, by regime."""

from numba import prange

from .compiling.jit import Matrix, kernel
from .compiling.staging import staged
from .drivers import independent_rows, run_of, task_rows
from .rows.backward import log_softmax_backward_row, softmax_backward_row
from .simd.memory import finish_streams


@kernel
def softmax_backward(probs: Matrix, dprobs: Matrix, dlogits: Matrix):
    """Write each row's gradient behind a softmax."""
    n_rows, run = probs.shape[0], run_of(probs.shape[0])
    for task in prange(-(-n_rows // run)):
        _backward_rows(softmax_backward_row, False, probs, dprobs, dlogits, task_rows(task, run, n_rows))


@kernel
def softmax_backward_streamed(probs: Matrix, dprobs: Matrix, dlogits: Matrix):
    """Write each row's gradient behind a softmax past the caches."""
    n_rows, run = probs.shape[0], run_of(probs.shape[0])
    for task in prange(-(-n_rows // run)):
        _backward_rows(softmax_backward_row, True, probs, dprobs, dlogits, task_rows(task, run, n_rows))


@kernel
def log_softmax_backward(log_probs: Matrix, dlog_probs: Matrix, dlogits: Matrix):
    """Write each row's gradient behind a log-softmax."""
    n_rows, run = log_probs.shape[0], run_of(log_probs.shape[0])
    for task in prange(-(-n_rows // run)):
        _backward_rows(log_softmax_backward_row, False, log_probs, dlog_probs, dlogits, task_rows(task, run, n_rows))


@kernel
def log_softmax_backward_streamed(log_probs: Matrix, dlog_probs: Matrix, dlogits: Matrix):
    """Write each row's gradient behind a log-softmax past the caches."""
    n_rows, run = log_probs.shape[0], run_of(log_probs.shape[0])
    for task in prange(-(-n_rows // run)):
        _backward_rows(log_softmax_backward_row, True, log_probs, dlog_probs, dlogits, task_rows(task, run, n_rows))


@staged
def _backward_rows(do_row, streamed, values, grads, dlogits, rows):
    independent_rows(do_row, (values.flat, grads.flat, dlogits.flat, streamed), values.shape[1], rows)
    if streamed:
        finish_streams()
