"""Softmax, log-softmax and logsumexp, and the gradients behind them."""

import numpy as np

from .calls import run_rows
from .memory import room
from .options import check_types, constant, logit_options
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
from .typing import compute_dtype, is_none, jitable, refuse, take_floats

_NO_OPTIONS = (None,) * 9


def _of_logits(operation):
    """Make the implementation of a function of logits whose result has their shape."""

    def implement(logits, axis=-1, scale=None, where=None, out=None):
        take_floats("logits", logits)
        check_types(scale=scale, where=where)
        check_result("out", out, logits, logits.ndim)

        def compute(logits, axis=-1, scale=None, where=None, out=None):
            rows = rows_of(logits, axis)
            options, option_problem = logit_options(rows, axis, scale, where)
            found = first_of((check_axis(logits, axis), check_shape(out, logits.shape), option_problem))
            results = rows_for(out, rows, axis, (rows, options[8]))
            if is_fine(found, results, out) and rows.size:
                run_rows(operation, rows, results, options, (rows, results))
            return deliver(results, out, logits, axis)

        return compute

    return implement


def _of_probs(operation, names):
    """Make the implementation of the gradient behind such a function, which has parameters of other names."""

    def check(given, upstream, out):
        for name, each in zip(names, (given, upstream), strict=True):
            take_floats(name, each)
        if upstream.dtype != given.dtype or upstream.ndim != given.ndim:
            refuse(names[1], f"{given.dtype} in {given.ndim} dimensions like {names[0]}", upstream)
        check_result("out", out, given, given.ndim)

    def compute(given, upstream, axis, out):
        rows, upstream_rows = rows_of(given, axis), rows_of(upstream, axis)
        same = problem(SAME_SHAPE, 0.0, rows.shape[0], rows.shape[1], 0)
        same = fine() if given.shape == upstream.shape else same
        found = first_of((check_axis(given, axis), same, check_shape(out, given.shape)))
        results = rows_for(out, rows, axis, (rows, upstream_rows))
        if is_fine(found, results, out) and rows.size:
            run_rows(operation, rows, results, _NO_OPTIONS, (rows, upstream_rows, results))
        return deliver(results, out, given, axis)

    return check, jitable(compute)


softmax, log_softmax = _of_logits("softmax"), _of_logits("log_softmax")
_check_probs, _softmax_backward = _of_probs("softmax_backward", ("probs", "dprobs"))
_check_log_probs, _log_softmax_backward = _of_probs("log_softmax_backward", ("log_probs", "dlog_probs"))


def softmax_backward(probs, dprobs, axis=-1, out=None):
    _check_probs(probs, dprobs, out)
    return lambda probs, dprobs, axis=-1, out=None: _softmax_backward(probs, dprobs, axis, out)


def log_softmax_backward(log_probs, dlog_probs, axis=-1, out=None):
    _check_log_probs(log_probs, dlog_probs, out)
    return lambda log_probs, dlog_probs, axis=-1, out=None: _log_softmax_backward(log_probs, dlog_probs, axis, out)


def logsumexp(logits, axis=-1, scale=None, where=None, keepdims=False, out=None):
    take_floats("logits", logits)
    check_types(scale=scale, where=where)
    keeps = constant("keepdims", keepdims, (False, True))
    check_result("out", out, logits, n_axes_without(logits, axis, keeps))
    has_out = not is_none(out)

    def compute(logits, axis=-1, scale=None, where=None, keepdims=False, out=None):
        rows = rows_of(logits, axis)
        shape = shape_without(logits, axis, keepdims)
        options, option_problem = logit_options(rows, axis, scale, where)
        lse = room((rows.shape[0],), rows.dtype)
        if not is_fine(first_of((check_axis(logits, axis), option_problem, check_shape(out, shape))), lse, out):
            pass
        elif rows.size:
            run_rows("logsumexp", rows, lse, options, (rows, lse))
        else:
            lse[:] = -np.inf
        if has_out:
            fill(out, lse)
        return out if has_out else shaped(lse, shape)

    return compute


def softmax_jacobian(probs, axis=-1):
    take_floats("probs", probs)
    check_one_axis(axis)
    is_line, dtype = probs.ndim == 1, compute_dtype(probs)

    def compute(probs, axis=-1):
        rows = rows_of(probs, axis)
        n_rows, n_classes = rows.shape
        jacobian = room((n_rows, n_classes, n_classes), rows.dtype)
        if is_fine(check_axis(probs, axis), jacobian, None):
            for i in range(n_rows):
                for j in range(n_classes):
                    for k in range(n_classes):
                        jacobian[i, j, k] = rows[i, j] * (dtype(j == k) - rows[i, k])
        return jacobian[0] if is_line else jacobian

    return compute
