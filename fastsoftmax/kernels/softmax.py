"""Softmax, log-softmax, logsumexp and their backward over all rows."""

import numpy as np
from numba import prange

from .jit import twins
from .rows import (
    log_softmax_backward_row,
    log_softmax_row,
    log_sum_row,
    softmax_backward_row,
    softmax_row,
)


@twins
def softmax(logits, probs):
    """Write the probabilities of each row."""
    n_rows, n_classes = logits.shape
    flat, flat_out = logits.reshape(-1), probs.reshape(-1)
    for row in prange(n_rows):
        start = np.intp(row) * n_classes
        softmax_row(flat, start, start + n_classes, flat_out)


@twins
def log_softmax(logits, log_probs):
    """Write the log-probabilities of each row."""
    n_rows, n_classes = logits.shape
    flat, flat_out = logits.reshape(-1), log_probs.reshape(-1)
    for row in prange(n_rows):
        start = np.intp(row) * n_classes
        log_softmax_row(flat, start, start + n_classes, flat_out)


@twins
def logsumexp(logits, lse):
    """Write log Σ_j e^z_j of each row."""
    n_rows, n_classes = logits.shape
    flat = logits.reshape(-1)
    for row in prange(n_rows):
        start = np.intp(row) * n_classes
        m, log_sum = log_sum_row(flat, start, start + n_classes)
        lse[row] = m + log_sum


@twins
def softmax_backward(probs, dprobs, dlogits):
    """Write each row's gradient behind a softmax."""
    n_rows, n_classes = probs.shape
    flat, flat_grad, flat_out = probs.reshape(-1), dprobs.reshape(-1), dlogits.reshape(-1)
    for row in prange(n_rows):
        start = np.intp(row) * n_classes
        softmax_backward_row(flat, flat_grad, start, start + n_classes, flat_out)


@twins
def log_softmax_backward(log_probs, dlog_probs, dlogits):
    """Write each row's gradient behind a log-softmax."""
    n_rows, n_classes = log_probs.shape
    flat, flat_grad, flat_out = log_probs.reshape(-1), dlog_probs.reshape(-1), dlogits.reshape(-1)
    for row in prange(n_rows):
        start = np.intp(row) * n_classes
        log_softmax_backward_row(flat, flat_grad, start, start + n_classes, flat_out)
