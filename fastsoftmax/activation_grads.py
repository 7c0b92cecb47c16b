"""Gradients behind softmax and log-softmax."""

import numpy as np

from fastsoftmax import arrays, conversions, kernels, reference
from fastsoftmax.activations import Axis, row_by_row
from fastsoftmax.conversions import Array


def softmax_backward(probs: object, dprobs: object, *, axis: Axis = -1, out: Array | None = None) -> Array:
    r"""Compute the gradient of the logits behind a softmax.

    .. math:: \partial L / \partial z_j = a_j \left(g_j - \sum_s a_s g_s\right), \quad g = \partial L / \partial a

    The Jacobian is symmetric, so this is its product with a tangent too.

    Parameters
    ----------
    probs : array_like of float32, float64, float16 or bfloat16
        a, what `softmax` gave.
    dprobs : array_like
        g, shape and dtype of `probs`.
    axis : int, tuple of int, or None
        The axis of the classes, or several that are one list of classes together; None for all.
    out : ndarray, optional
        Receives the result: shape and dtype of `probs`; either input works in place.

    Returns
    -------
    ndarray
        ∂L/∂z, shape and dtype of `probs`; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.softmax_backward([0.5, 0.5], [1.0, 0.0])
    array([ 0.25, -0.25])
    """
    return row_by_row(kernels.operations.SOFTMAX_BACKWARD, axis, out, probs=probs, dprobs=dprobs)


def log_softmax_backward(log_probs: object, dlog_probs: object, *, axis: Axis = -1, out: Array | None = None) -> Array:
    r"""Compute the gradient of the logits behind a log-softmax.

    .. math:: \partial L / \partial z_j = g_j - a_j \sum_s g_s, \quad g = \partial L / \partial \log a

    Parameters
    ----------
    log_probs : array_like of float32, float64, float16 or bfloat16
        log a, what `log_softmax` gave.
    dlog_probs : array_like
        g, shape and dtype of `log_probs`.
    axis : int, tuple of int, or None
        The axis of the classes, or several that are one list of classes together; None for all.
    out : ndarray, optional
        Receives the result: shape and dtype of `log_probs`; either input works in place.

    Returns
    -------
    ndarray
        ∂L/∂z, shape and dtype of `log_probs`; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.log_softmax_backward(np.log([0.5, 0.5]), [1.0, 0.0])
    array([ 0.5, -0.5])
    """
    return row_by_row(kernels.operations.LOG_SOFTMAX_BACKWARD, axis, out, log_probs=log_probs, dlog_probs=dlog_probs)


def softmax_jacobian(probs: object, *, axis: int = -1) -> Array:
    r"""Compute the Jacobian of the softmax.

    .. math:: \partial a_j / \partial z_k = a_j (1\{j=k\} - a_k)

    Its product with a vector, without the matrix, is `softmax_backward`.

    Parameters
    ----------
    probs : array_like of float32, float64, float16 or bfloat16
        a, what `softmax` gave.
    axis : int
        The axis of the classes.

    Returns
    -------
    ndarray
        Shape (..., C, C): the axis of the classes is taken away, j and k are appended.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.softmax_jacobian([0.5, 0.5])
    array([[ 0.25, -0.25],
           [-0.25,  0.25]])
    """
    array = conversions.floats("probs", probs)
    axis = arrays.class_axis("probs", array, axis)
    with np.errstate(all="ignore"):
        computed = array.astype(conversions.compute_dtype(array.dtype), copy=False)
        return reference.softmax_jacobian(computed, axis=axis).astype(array.dtype, copy=False)
