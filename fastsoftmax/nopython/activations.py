"""Softmax, log-softmax and logsumexp, and the gradients behind them."""

import numpy as np

from .calls import run_rows
from .entries import checked_by
from .memory import room
from .options import check_options, logit_options
from .problems import SAME_SHAPE, fine, first_of, is_fine, problem
from .rows import (
    check_axis,
    check_one_axis,
    check_result,
    check_shape,
    deliver,
    fill,
    n_axes_without,
    rows_for,
    rows_of,
    shape_without,
    shaped,
)
from .typing import by_literals, by_type, compute_dtype, is_none, literal, refuse, take_floats


def _check(given):
    """Require types that a function of logits takes, and a result of their shape."""
    logits = _check_logits(given)
    check_result("out", given["out"], logits, logits.ndim)


def _check_lse(given):
    """Require such types, and a result without the axes of the classes."""
    logits = _check_logits(given)
    n_axes = n_axes_without(logits, given["axis"], literal(given["keepdims"]))
    check_result("out", given["out"], logits, n_axes)


def _check_logits(given):
    take_floats("logits", given["logits"])
    check_options(given)
    return given["logits"]


def _check_pair(given):
    """Require two arrays of one dtype and number of dimensions, and such a result."""
    (name, first), (other_name, other), *_ = given.items()
    for each in (name, other_name):
        take_floats(each, given[each])
    if other.dtype != first.dtype or other.ndim != first.ndim:
        refuse(other_name, f"{first.dtype} in {first.ndim} dimensions like {name}", other)
    check_result("out", given["out"], first, first.ndim)


def _check_probs(given):
    take_floats("probs", given["probs"])
    check_one_axis(given["axis"])


@checked_by(_check)
def softmax(logits, axis=-1, scale=None, where=None, out=None):
    return of_logits("softmax", logits, axis, scale, where, out)


@checked_by(_check)
def log_softmax(logits, axis=-1, scale=None, where=None, out=None):
    return of_logits("log_softmax", logits, axis, scale, where, out)


@checked_by(_check_lse)
def logsumexp(logits, axis=-1, scale=None, where=None, keepdims=False, out=None):
    rows = rows_of(logits, axis)
    shape = shape_without(logits, axis, keepdims)
    options, option_problem = logit_options(rows, axis, scale, where)
    lse = room((rows.shape[0],), rows.dtype)
    is_right = is_fine(first_of((check_axis(logits, axis), option_problem, check_shape(out, shape))), lse, out)
    if is_right and rows.size:
        run_rows("logsumexp", rows, lse, options, (rows, lse))
    elif is_right:
        lse[:] = -np.inf
    return settled(lse, out, shape)


@checked_by(_check_pair)
def softmax_backward(probs, dprobs, axis=-1, out=None):
    return backward("softmax_backward", probs, dprobs, axis, out)


@checked_by(_check_pair)
def log_softmax_backward(log_probs, dlog_probs, axis=-1, out=None):
    return backward("log_softmax_backward", log_probs, dlog_probs, axis, out)


@checked_by(_check_probs)
def softmax_jacobian(probs, axis=-1):
    rows = rows_of(probs, axis)
    n_rows, n_classes = rows.shape
    jacobian = room((n_rows, n_classes, n_classes), rows.dtype)
    if is_fine(check_axis(probs, axis), jacobian, None):
        for i in range(n_rows):
            for j in range(n_classes):
                for k in range(n_classes):
                    jacobian[i, j, k] = rows[i, j] * (one_if(j == k, rows) - rows[i, k])
    return matrices_of(jacobian, probs)


@by_literals
def of_logits(operation, logits, axis, scale, where, out):
    """Compute a function of logits whose result has their shape."""
    rows = rows_of(logits, axis)
    options, option_problem = logit_options(rows, axis, scale, where)
    found = first_of((check_axis(logits, axis), check_shape(out, logits.shape), option_problem))
    results = rows_for(out, rows, axis, (rows, options[8]))
    if is_fine(found, results, out) and rows.size:
        run_rows(operation, rows, results, options, (rows, results))
    return deliver(results, out, logits, axis)


@by_literals
def backward(operation, given, upstream, axis, out):
    """Compute the gradient behind such a function."""
    rows, upstream_rows = rows_of(given, axis), rows_of(upstream, axis)
    is_same = given.shape == upstream.shape
    same = fine() if is_same else problem(SAME_SHAPE, 0.0, rows.shape[0], rows.shape[1], 0)
    found = first_of((check_axis(given, axis), same, check_shape(out, given.shape)))
    results = rows_for(out, rows, axis, (rows, upstream_rows))
    if is_fine(found, results, out) and rows.size:
        run_rows(operation, rows, results, (), (rows, upstream_rows, results))
    return deliver(results, out, given, axis)


@by_type
def settled(line, out, shape):
    """Give what rows have one of each, in `out` if there is one."""
    if is_none(out):
        return lambda line, out, shape: shaped(line, shape)

    def settle(line, out, shape):
        fill(out, line)
        return out

    return settle


@by_type
def one_if(condition, rows):
    """Give 1 or 0 in the dtype of rows."""
    dtype = compute_dtype(rows)
    return lambda condition, rows: dtype(condition)


@by_type
def matrices_of(jacobian, probs):
    """Give the matrix of each row; of probabilities that are one row, its own."""
    if probs.ndim == 1:
        return lambda jacobian, probs: jacobian[0]
    return lambda jacobian, probs: jacobian
