"""Softmax, log-softmax, logsumexp and their gradients."""

import numpy as np

from fastsoftmax.reference.types import Array, Axis, Loss, Mask, quiet


def _finite_max(logits: Array, axis: Axis) -> Array:
    # 0 in place of an infinite maximum: log Σ exp is then ±inf by itself, and not inf − inf.
    m: Array = logits.max(axis=axis, keepdims=True, initial=-np.inf)
    m[~np.isfinite(m)] = 0
    return m


def _logits(logits: Array, scale: float | None, where: Mask | None) -> Array:
    """Compute q = scale · z, −inf where it is left out."""
    if scale is not None:
        logits = logits * logits.dtype.type(scale)
    return logits if where is None else np.where(where, logits, logits.dtype.type(-np.inf))


def softmax(
    logits: Array, *, axis: Axis = -1, scale: float | None = None, where: Mask | None = None, out: Array | None = None
) -> Array:
    """Softmax, a_j = exp(q_j − m) / Σ_s exp(q_s − m) with m = max_s q_s and q = scale · z.

    A class of logit −inf has probability 0, and so has one that `where` leaves out. A row that holds NaN or +inf, or
    only −inf, is NaN in all other places.

    >>> softmax(np.log([[1.0, 3.0], [4.0, 1.0]])).round(6).tolist()
    [[0.25, 0.75], [0.8, 0.2]]
    """
    with quiet():
        q = _logits(logits, scale, where)
        probs: Array = np.subtract(q, q.max(axis=axis, keepdims=True, initial=-np.inf), out=out)
        np.exp(probs, out=probs)
        probs /= probs.sum(axis=axis, keepdims=True)
        if where is not None:
            probs[~where] = 0
    return probs


def log_softmax(
    logits: Array, *, axis: Axis = -1, scale: float | None = None, where: Mask | None = None, out: Array | None = None
) -> Array:
    """Logarithm of the softmax, log a_j = (q_j − m) − log Σ_s exp(q_s − m).

    A row that holds NaN, or only −inf, is NaN throughout; beside a +inf, itself NaN, the others are −inf. What `where`
    leaves out is −inf. Near 0 the error is absolute, about eps: `cross_entropy` does better.

    >>> np.exp(log_softmax(np.log([1.0, 3.0]))).round(6).tolist()
    [0.25, 0.75]
    """
    with quiet():
        q = _logits(logits, scale, where)
        log_probs: Array = np.subtract(q, _finite_max(q, axis), out=out)
        log_probs -= np.log(np.exp(log_probs).sum(axis=axis, keepdims=True))
        if where is not None:
            log_probs[~where] = -np.inf
    return log_probs


def logsumexp(
    logits: Array,
    *,
    axis: Axis = -1,
    scale: float | None = None,
    where: Mask | None = None,
    keepdims: bool = False,
    out: Array | None = None,
) -> Loss:
    """Logarithm of the sum of exponentials, lse = m + log Σ_s exp(q_s − m).

    The result has the shape of `logits` without the class axis, or with one class where `keepdims`; for 1-D
    `logits` it is a scalar. A row that holds NaN gives NaN, else one that holds +inf gives +inf; only −inf, or no
    class at all, gives −inf.

    >>> np.exp(logsumexp(np.log([[1.0, 3.0], [4.0, 6.0]]))).round(6).tolist()
    [4.0, 10.0]
    """
    with quiet():
        q = _logits(logits, scale, where)
        m = _finite_max(q, axis)
        exps = np.subtract(q, m)
        np.exp(exps, out=exps)
        log_total = np.log(exps.sum(axis=axis, keepdims=keepdims))
        lse: Loss = np.add(m if keepdims else m.squeeze(axis), log_total, out=out)
    return lse


def softmax_backward(probs: Array, dprobs: Array, *, axis: Axis = -1, out: Array | None = None) -> Array:
    """Gradient through the softmax, ∂L/∂z_j = a_j (g_j − Σ_s a_s g_s) with g = ∂L/∂a.

    `probs` is what `softmax` returned; `dprobs`, of its shape, the gradient with respect to it.

    >>> softmax_backward(np.array([0.25, 0.75]), np.array([4.0, 0.0])).tolist()
    [0.75, -0.75]
    """
    with quiet():
        dlogits = probs * dprobs
        np.subtract(dprobs, dlogits.sum(axis=axis, keepdims=True), out=dlogits)
        # `out` is written to last: it may be an input.
        return np.multiply(probs, dlogits, out=dlogits if out is None else out)


def log_softmax_backward(log_probs: Array, dlog_probs: Array, *, axis: Axis = -1, out: Array | None = None) -> Array:
    """Gradient through the log softmax, ∂L/∂z_j = g_j − exp(log a_j) Σ_s g_s with g = ∂L/∂(log a).

    `log_probs` is what `log_softmax` returned; `dlog_probs`, of its shape, the gradient with respect to it.

    >>> log_softmax_backward(np.log([0.25, 0.75]), np.array([4.0, 0.0])).round(6).tolist()
    [3.0, -3.0]
    """
    with quiet():
        dlogits: Array = np.exp(log_probs)
        dlogits *= dlog_probs.sum(axis=axis, keepdims=True)
        return np.subtract(dlog_probs, dlogits, out=dlogits if out is None else out)


def softmax_jacobian(probs: Array, *, axis: int = -1) -> Array:
    """Jacobian of the softmax, ∂a_j/∂z_k = a_j (1{j=k} − a_k).

    The shape is (..., C, C): that of `probs` with the class axis removed and j, k appended.

    >>> softmax_jacobian(np.array([0.25, 0.75])).tolist()
    [[0.1875, -0.1875], [-0.1875, 0.1875]]
    """
    a = np.moveaxis(probs, axis, -1)
    with quiet():
        jacobian: Array = np.eye(a.shape[-1], dtype=a.dtype) - a[..., None, :]
        jacobian *= a[..., :, None]
    return jacobian
