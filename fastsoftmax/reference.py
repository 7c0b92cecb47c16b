"""The mathematics of the softmax classifier head in plain NumPy, an equation per function.

X (N, D) inputs; W (D, C) weight; b (C,) bias; z (N, C) logits; a (N, C) probs; y (N,) labels.

Arrays are float32 or float64, and every function computes and returns in the dtype it is given. Unless a
function says otherwise its result has the shape of its first argument. ``axis`` is the class axis, in the
softmax family also a tuple of axes whose classes are one list, or None for all of them. ``out`` receives
the result and is returned; it may be an input of that shape (in place), and nothing else is written to.
Input is taken as valid: nothing is checked.
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Labels: TypeAlias = npt.NDArray[np.integer[Any]]
Loss: TypeAlias = Array | np.floating[Any]
Axis: TypeAlias = int | tuple[int, ...] | None
Reduction: TypeAlias = Literal["mean", "sum", "none"]


class LinearGrads(NamedTuple):
    """Gradients of ``linear``, each of the shape of what it belongs to; None without a bias, or where left out."""

    dinputs: Array | None
    dweight: Array
    dbias: Array | None


def _quiet() -> np.errstate:
    # inf − inf, log 0 and 0 / 0 are meant: their NaN and −inf are the documented results.
    return np.errstate(divide="ignore", over="ignore", invalid="ignore")


def _finite_max(logits: Array, axis: Axis) -> Array:
    # 0 in place of an infinite maximum: log Σ exp is then ±inf by itself, and not inf − inf.
    m: Array = logits.max(axis=axis, keepdims=True, initial=-np.inf)
    m[~np.isfinite(m)] = 0
    return m


def softmax(logits: Array, *, axis: Axis = -1, out: Array | None = None) -> Array:
    """Softmax, a_j = exp(z_j − m) / Σ_s exp(z_s − m) with m = max_s z_s.

    A class of logit −inf has probability 0. A row that holds NaN or +inf, or only −inf, is NaN throughout.

    >>> softmax(np.log([[1.0, 3.0], [4.0, 1.0]])).round(6).tolist()
    [[0.25, 0.75], [0.8, 0.2]]
    """
    with _quiet():
        probs: Array = np.subtract(logits, logits.max(axis=axis, keepdims=True, initial=-np.inf), out=out)
        np.exp(probs, out=probs)
        probs /= probs.sum(axis=axis, keepdims=True)
    return probs


def log_softmax(logits: Array, *, axis: Axis = -1, out: Array | None = None) -> Array:
    """Logarithm of the softmax, log a_j = (z_j − m) − log Σ_s exp(z_s − m).

    A row that holds NaN, or only −inf, is NaN throughout; beside a +inf, itself NaN, the others are −inf.
    Near 0 the error is absolute, about eps: `cross_entropy` does better.

    >>> np.exp(log_softmax(np.log([1.0, 3.0]))).round(6).tolist()
    [0.25, 0.75]
    """
    with _quiet():
        log_probs: Array = np.subtract(logits, _finite_max(logits, axis), out=out)
        log_probs -= np.log(np.exp(log_probs).sum(axis=axis, keepdims=True))
    return log_probs


def logsumexp(logits: Array, *, axis: Axis = -1, keepdims: bool = False, out: Array | None = None) -> Loss:
    """Logarithm of the sum of exponentials, lse = m + log Σ_s exp(z_s − m).

    The result has the shape of `logits` without the class axis, or with one class where `keepdims`; for 1-D
    `logits` it is a scalar. A row that holds NaN gives NaN, else one that holds +inf gives +inf; only −inf
    gives −inf.

    >>> np.exp(logsumexp(np.log([[1.0, 3.0], [4.0, 6.0]]))).round(6).tolist()
    [4.0, 10.0]
    """
    with _quiet():
        m = _finite_max(logits, axis)
        exps = np.subtract(logits, m)
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
    with _quiet():
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
    with _quiet():
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
    with _quiet():
        jacobian: Array = np.eye(a.shape[-1], dtype=a.dtype) - a[..., None, :]
        jacobian *= a[..., :, None]
    return jacobian


class _Target(NamedTuple):
    """t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j in its parts, and T = Σ_j t_j."""

    at_label: Array  # (1−ε) w_y, of each row
    everywhere: Array  # (ε/C) w, of each class
    total: Array  # T, of each row


def _target_of(labels: Labels, n_classes: int, w: Array | None, smoothing: float, dtype: np.dtype[Any]) -> _Target:
    w = np.ones(n_classes, dtype) if w is None else np.asarray(w, dtype)
    at_label = dtype.type(1 - smoothing) * w[labels]
    everywhere = dtype.type(smoothing / n_classes) * w
    return _Target(at_label, everywhere, at_label + everywhere.sum())


def _row_losses(
    z: Array, y: Labels, target: _Target, zeta: float, e: Array | None = None
) -> tuple[Array, Array, Array]:
    """Loss, Σ · ∂L/∂z and Σ of each row of z (..., C) with its label y (...); `e` receives the second.

    With e = exp(z − m), r the sum of e over the other classes and lse = m + log Σ, L = Σ_j t_j (m − z_j) + T log Σ +
    ζ lse², and Σ · ∂L/∂z is (T + 2ζ lse) e − Σ · t but for T (−r) + 2ζ lse e_y + Σ · (everywhere's sum − its y) at the
    label. Where that holds nearly all, Σ − e_y and
    log Σ would cancel: r keeps what they lose.
    """
    at = (*np.indices(y.shape, sparse=True), y)
    m = z.max(axis=-1, keepdims=True)
    e = np.subtract(z, m, out=e)
    shifted_y = e[at]
    smooths = bool(target.everywhere.any())
    below = -(e * target.everywhere).sum(axis=-1) if smooths else 0  # not 0 · inf
    np.exp(e, out=e)
    e[at] = 0
    r = e.sum(axis=-1)
    e_y = np.exp(shifted_y)
    total = r + e_y
    log_sum = np.where(shifted_y == 0, np.log1p(r), np.log(total))  # 0: the label is the maximum
    loss = np.asarray(target.total * log_sum - target.at_label * shifted_y + below)
    slope = target.total
    if zeta:
        lse = m[..., 0] + log_sum
        loss = np.asarray(loss + zeta * lse * lse)
        curve = (2 * zeta * lse).astype(z.dtype)
        slope = target.total + curve
    e *= slope[..., None]
    e[at] = -target.total * r
    if zeta:
        e[at] += curve * e_y
    if smooths:
        e[at] += total * target.everywhere.sum()
        e -= total[..., None] * target.everywhere
    return loss, e, total


def _reduce(loss: Array, weights: Array, valid: npt.NDArray[np.bool_], reduction: Reduction) -> Loss:
    loss[~valid] = 0
    if reduction == "none":
        return loss
    total: np.floating[Any] = loss.sum()
    return total / weights[valid].sum() if reduction == "mean" else total


def _weights_in_mean(labels: Labels, class_weight: Array | None, sample_weight: Array, dtype: np.dtype[Any]) -> Array:
    """Weight of each row in a mean, s w_y."""
    return sample_weight if class_weight is None else sample_weight * np.asarray(class_weight, dtype)[labels]


def _sample_weights(labels: Labels, sample_weight: Array | None, dtype: np.dtype[Any]) -> Array:
    return np.ones(labels.shape, dtype) if sample_weight is None else np.asarray(sample_weight, dtype)


def cross_entropy(
    logits: Array,
    labels: Labels,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
    axis: int = -1,
) -> Loss:
    """Cross entropy, L_i = −log a_i,y_i = (m_i − z_i,y_i) + log Σ_s exp(z_is − m_i).

    With options it is s (ζ lse² − Σ_j t_j log a_j), t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j, with class weights w, the
    weight s of the row's sample, label smoothing ε and z-loss ζ; the mean divides by Σ_i s_i w_y. Where the label is
    the maximum −log a_y is log1p(r), with r = Σ_{s≠y} exp(z_is − m_i). A row that holds NaN or +inf, or only −inf, has
    a NaN loss; a label of logit −inf has the loss +inf.

    Parameters
    ----------
    logits : ndarray, float32 or float64
    labels : ndarray of integers, of the shape of `logits` without the class axis
    class_weight : ndarray of shape (C,), optional
        w, ones by default.
    sample_weight : ndarray of the shape of `labels`, optional
        s, ones by default.
    ignore_index : int
        Rows of this label have the loss 0 and do not count in the mean.
    label_smoothing : float
        ε, from 0 to 1.
    z_loss : float
        ζ, from 0 up.
    reduction : {"mean", "sum", "none"}
        The mean over no rows at all is NaN.
    axis : int

    Returns
    -------
    scalar of the dtype of `logits`; for "none" an ndarray of the shape of `labels`

    Examples
    --------
    >>> logits = np.log([[1.0, 3.0], [4.0, 1.0]])
    >>> loss = cross_entropy(logits, np.array([1, 0]), reduction="none")
    >>> np.exp(-loss).round(6).tolist()
    [0.75, 0.8]
    """
    labels = np.asarray(labels)
    valid = labels != ignore_index
    y = np.where(valid, labels, 0)
    target = _target_of(y, logits.shape[axis], class_weight, label_smoothing, logits.dtype)
    with _quiet():
        s = _sample_weights(y, sample_weight, logits.dtype)
        loss, *_ = _row_losses(np.moveaxis(logits, axis, -1), y, target, z_loss)
        return _reduce(np.asarray(s * loss), _weights_in_mean(y, class_weight, s, logits.dtype), valid, reduction)


def cross_entropy_with_grad(
    logits: Array,
    labels: Labels,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
    axis: int = -1,
    dloss: npt.ArrayLike | None = None,
    out: Array | None = None,
) -> tuple[Loss, Array]:
    """Cross entropy and its gradient, ∂L/∂z = (a − onehot(y)) / N, where N counts the rows not ignored.

    With options (see `cross_entropy`) it is s ((T + 2ζ lse) a − t) / Σ_i s_i w_y, T = Σ_j t_j. "sum" and "none" do not
    divide. The label's own entry is −r / Σ, which is a_y − 1 without its cancellation. An ignored row's gradient is 0,
    whatever its logits; else a NaN loss has a NaN gradient.

    Parameters
    ----------
    logits, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, reduction, axis
        As in `cross_entropy`.
    dloss : scalar for "mean" and "sum", array of the shape of `labels` for "none"; optional
        The upstream gradient, ones by default.
    out : ndarray of the shape of `logits`, optional
        Receives the gradient.

    Returns
    -------
    loss : as `cross_entropy` returns it
    dlogits : ndarray of the shape and dtype of `logits`

    Examples
    --------
    >>> loss, dlogits = cross_entropy_with_grad(np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0]))
    >>> dlogits.round(6).tolist()
    [[0.125, -0.125], [-0.1, 0.1]]
    """
    labels = np.asarray(labels)
    valid = labels != ignore_index
    out = np.empty_like(logits) if out is None else out
    scale = np.asarray(1 if dloss is None else dloss, dtype=logits.dtype)
    y = np.where(valid, labels, 0)
    target = _target_of(y, logits.shape[axis], class_weight, label_smoothing, logits.dtype)
    s = _sample_weights(y, sample_weight, logits.dtype)
    weights = _weights_in_mean(y, class_weight, s, logits.dtype)
    with _quiet():
        loss, dz, total = _row_losses(np.moveaxis(logits, axis, -1), y, target, z_loss, np.moveaxis(out, axis, -1))
        if reduction == "mean":
            scale = scale / weights[valid].sum()
        dz *= (s * scale / total)[..., None]
        dz[~valid] = 0
        return _reduce(np.asarray(s * loss), weights, valid, reduction), out


def cross_entropy_hvp(
    logits: Array,
    labels: Labels,
    vector: Array,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    """Hessian of the cross entropy times a vector, s ((T + 2ζ lse)(a v − a (a·v)) + 2ζ a (a·v)) for each row.

    The options are those of `cross_entropy`; the Hessian is that of the mean, or of the sum.

    >>> cross_entropy_hvp(np.log([[1.0, 3.0]]), np.array([1]), np.array([[1.0, 0.0]])).round(6).tolist()
    [[0.1875, -0.1875]]
    """
    labels = np.asarray(labels)
    valid = labels != ignore_index
    y = np.where(valid, labels, 0)
    target = _target_of(y, logits.shape[axis], class_weight, label_smoothing, logits.dtype)
    s = _sample_weights(y, sample_weight, logits.dtype)
    z, v = np.moveaxis(logits, axis, -1), np.moveaxis(vector, axis, -1)
    with _quiet():
        a = softmax(z)
        along = (a * v).sum(axis=-1, keepdims=True)
        slope = target.total[..., None]
        product = slope * (a * (v - along))
        if z_loss:
            lse = logsumexp(z, keepdims=True)
            product += 2 * z_loss * (lse * (a * (v - along)) + a * along)
        product *= s[..., None]
        if reduction == "mean":
            product /= _weights_in_mean(y, class_weight, s, logits.dtype)[valid].sum()
    product[~valid] = 0
    result: Array = np.moveaxis(product, -1, axis)
    if out is None:
        return result
    out[...] = result
    return out


def linear(inputs: Array, weight: Array, bias: Array | None = None, *, out: Array | None = None) -> Array:
    """Linear layer, z = X·W + b: (N, C) = (N, D)·(D, C) + (C,).

    >>> linear(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([0.5, 0.0])).tolist()
    [[1.5, 6.0]]
    """
    with _quiet():
        outputs: Array = np.matmul(inputs, weight, out=out)
        if bias is not None:
            outputs += bias
    return outputs


def weight_grad(inputs: Array, doutputs: Array, *, out: Array | None = None) -> Array:
    """Gradient of the weight, ∂L/∂W = Xᵀ·∂L/∂z: (D, C) = (D, N)·(N, C).

    >>> weight_grad(np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]])).tolist()
    [[3.0, 0.0], [6.0, 0.0]]
    """
    with _quiet():
        return np.matmul(inputs.T, doutputs, out=out)


def bias_grad(doutputs: Array, *, out: Array | None = None) -> Array:
    """Gradient of the bias, ∂L/∂b = Σ_i ∂L/∂z_i: (C,) from (N, C).

    >>> bias_grad(np.array([[3.0, 0.0], [1.0, 2.0]])).tolist()
    [4.0, 2.0]
    """
    with _quiet():
        return np.sum(doutputs, axis=0, out=out)


def input_grad(doutputs: Array, weight: Array, *, out: Array | None = None) -> Array:
    """Gradient of the inputs, ∂L/∂X = ∂L/∂z·Wᵀ: (N, D) = (N, C)·(C, D).

    >>> input_grad(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])).tolist()
    [[1.0, 6.0]]
    """
    with _quiet():
        return np.matmul(doutputs, weight.T, out=out)


def linear_backward(inputs: Array, weight: Array, doutputs: Array) -> LinearGrads:
    """All three gradients of `linear`, from ∂L/∂z (N, C).

    >>> grads = linear_backward(np.array([[1.0, 2.0]]), np.array([[1.0], [3.0]]), np.array([[2.0]]))
    >>> [grad.tolist() for grad in grads]
    [[[2.0, 6.0]], [[2.0], [4.0]], [2.0]]
    """
    return LinearGrads(input_grad(doutputs, weight), weight_grad(inputs, doutputs), bias_grad(doutputs))


def linear_cross_entropy(
    inputs: Array,
    weight: Array,
    bias: Array | None,
    labels: Labels,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Cross entropy of a linear layer, L(X·W + b, y); the options are those of `cross_entropy`.

    >>> float(linear_cross_entropy(np.zeros((3, 2)), np.ones((2, 1)), None, np.zeros(3, int)))
    0.0
    """
    return cross_entropy(
        linear(inputs, weight, bias),
        labels,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        reduction=reduction,
    )


def linear_cross_entropy_with_grad(
    inputs: Array,
    weight: Array,
    bias: Array | None,
    labels: Labels,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
    dloss: npt.ArrayLike | None = None,
) -> tuple[Loss, LinearGrads]:
    """Cross entropy of a linear layer and the gradients of X, W and b; `dloss` as in `cross_entropy_with_grad`.

    >>> inputs, weight, labels = np.ones((1, 1)), np.log([[1.0, 3.0]]), np.array([0])
    >>> loss, grads = linear_cross_entropy_with_grad(inputs, weight, None, labels)
    >>> grads.dweight.round(6).tolist(), grads.dbias
    ([[-0.75, 0.75]], None)
    """
    z = linear(inputs, weight, bias)
    loss, dz = cross_entropy_with_grad(
        z,
        labels,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        reduction=reduction,
        dloss=dloss,
        out=z,
    )
    grads = linear_backward(inputs, weight, dz)
    return loss, grads if bias is not None else grads._replace(dbias=None)
