"""The cross entropy with its gradient and Hessian."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fastsoftmax.reference.activations import softmax
from fastsoftmax.reference.rows import (
    RowOptions,
    mapped,
    predictions,
    reduce,
    row_terms,
    sample_weights,
    target_of,
    weights_in_mean,
)
from fastsoftmax.reference.types import Array, Labels, Mask, Reduction, RowStats, quiet


def _classes_last(array: Any, axis: int, logits: Array) -> Any:
    """Move the class axis to the end, of what has one."""
    array = np.asarray(array) if array is not None else None
    return array if array is None or array.ndim != logits.ndim else np.moveaxis(array, axis, -1)


def cross_entropy(
    logits: Array,
    labels: Labels | Array,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float | None = None,
    where: Mask | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    axis: int = -1,
) -> Any:
    """Cross entropy, L_i = −log a_i,y_i = (m_i − z_i,y_i) + log Σ_s exp(z_is − m_i).

    With options it is s (T lse − Σ_j t_j q_j + ζ lse²) of q_j = softcap · tanh(scale · z_j / softcap) and a target t,
    T = Σ_j t_j: t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j from a label, w_j ((1−ε) p_j + ε/C) from class probabilities p, 0
    for classes that `where` leaves out. s is the weight of the row's sample, w the class weights, ε label smoothing, ζ
    z-loss; the mean divides by Σ_i s_i w_y, with probabilities by Σ_i s_i. Where the label is the maximum −log a_y is
    log1p(r), with r = Σ_{s≠y} exp(q_s − m). A row that holds NaN or +inf, or only −inf, has a NaN loss; a label of
    logit −inf, or that `where` leaves out, has the loss +inf.

    Parameters
    ----------
    logits : ndarray, float32 or float64
    labels : ndarray of integers, of the shape of `logits` without the class axis; or class probabilities of its shape
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
    softcap, scale : float, optional
        Above 0. Infinite logits stay infinite.
    where : ndarray of bool, of the shape of `logits`, optional
        Which classes a row has.
    reduction : {"mean", "sum", "none"}
        The mean over no rows at all is NaN.
    return_stats : bool
        Append the `RowStats` of all rows, those that are ignored too.
    axis : int

    Returns
    -------
    scalar of the dtype of `logits`; for "none" an ndarray of the shape of the rows

    Examples
    --------
    >>> logits = np.log([[1.0, 3.0], [4.0, 1.0]])
    >>> loss = cross_entropy(logits, np.array([1, 0]), reduction="none")
    >>> np.exp(-loss).round(6).tolist()
    [0.75, 0.8]
    """
    labels, where = (_classes_last(array, axis, logits) for array in (labels, where))
    options = RowOptions(class_weight, ignore_index, label_smoothing, z_loss, softcap, scale, where)
    with quiet():
        q, *_ = mapped(np.moveaxis(logits, axis, -1), options)
        target = target_of(q, labels, options)
        s = sample_weights(target, sample_weight, logits.dtype)
        found = predictions(np.moveaxis(logits, axis, -1), options) if return_stats else None
        loss, *_, stats = row_terms(q, target, options, with_stats=return_stats)
        loss = reduce(np.asarray(s * loss), weights_in_mean(target, labels, options, s), target.valid, reduction)
    return (loss, _stats(stats, found, logits)) if return_stats else loss


def cross_entropy_with_grad(
    logits: Array,
    labels: Labels | Array,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float | None = None,
    where: Mask | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    axis: int = -1,
    dloss: npt.ArrayLike | None = None,
    out: Array | None = None,
) -> Any:
    """Cross entropy and its gradient, ∂L/∂z = (a − onehot(y)) / N, where N counts the rows not ignored.

    With options (see `cross_entropy`) it is s ((T + 2ζ lse) a_j − t_j) ∂q_j/∂z_j / Σ_i s_i w_y, with the slope
    ∂q_j/∂z_j = scale (1 − (q_j/softcap)²), 0 for classes left out. "sum" and "none" do not divide. The label's own
    entry is −r / Σ, which is a_y − 1 without its cancellation. An ignored row's gradient is 0, whatever its logits;
    else a NaN loss has a NaN gradient.

    Parameters
    ----------
    logits, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale, where,
    reduction, return_stats, axis
        As in `cross_entropy`.
    dloss : scalar for "mean" and "sum", array of the shape of the rows for "none"; optional
        The upstream gradient, ones by default.
    out : ndarray of the shape of `logits`, optional
        Receives the gradient.

    Returns
    -------
    loss : as `cross_entropy` returns it
    dlogits : ndarray of the shape and dtype of `logits`
    stats : RowStats, where they are asked for

    Examples
    --------
    >>> loss, dlogits = cross_entropy_with_grad(np.log([[1.0, 3.0], [4.0, 1.0]]), np.array([1, 0]))
    >>> dlogits.round(6).tolist()
    [[0.125, -0.125], [-0.1, 0.1]]
    """
    out = np.empty_like(logits) if out is None else out
    factor = np.asarray(1 if dloss is None else dloss, dtype=logits.dtype)
    labels, where = (_classes_last(array, axis, logits) for array in (labels, where))
    options = RowOptions(class_weight, ignore_index, label_smoothing, z_loss, softcap, scale, where)
    with quiet():
        q, slope, _ = mapped(np.moveaxis(logits, axis, -1), options)
        target = target_of(q, labels, options)
        s = sample_weights(target, sample_weight, logits.dtype)
        weights = weights_in_mean(target, labels, options, s)
        found = predictions(np.moveaxis(logits, axis, -1), options) if return_stats else None  # `out` may be logits
        loss, dz, sums, stats = row_terms(q, target, options, np.moveaxis(out, axis, -1), with_stats=return_stats)
        if reduction == "mean":
            factor = factor / weights[target.valid].sum()
        dz *= (s * factor / sums)[..., None]
        dz *= slope
        dz[~target.valid] = 0
        if where is not None:
            dz[~where] = 0
        loss = reduce(np.asarray(s * loss), weights, target.valid, reduction)
    return (loss, out, _stats(stats, found, logits)) if return_stats else (loss, out)


def _stats(stats: RowStats, found: Any, logits: Array) -> RowStats:
    lse, entropy = (np.asarray(each).astype(logits.dtype)[()] for each in (stats.lse, stats.entropy))
    return RowStats(lse, found, entropy)


def cross_entropy_hvp(
    logits: Array,
    labels: Labels | Array,
    vector: Array,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float | None = None,
    where: Mask | None = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    """Hessian of the cross entropy times a vector, H v = d H_q (d v) + g ∂²q/∂z² v of each row, with d = ∂q/∂z.

    H_q u = s ((T + 2ζ lse)(a u − a (a·u)) + 2ζ a (a·u)) is the product with respect to q, and g = ∂L/∂q. The options
    are those of `cross_entropy`; the Hessian is that of the mean, or of the sum.

    >>> cross_entropy_hvp(np.log([[1.0, 3.0]]), np.array([1]), np.array([[1.0, 0.0]])).round(6).tolist()
    [[0.1875, -0.1875]]
    """
    labels, where = (_classes_last(array, axis, logits) for array in (labels, where))
    options = RowOptions(class_weight, ignore_index, label_smoothing, z_loss, softcap, scale, where)
    with quiet():
        v = np.moveaxis(vector, axis, -1)
        q, slope, bend = mapped(np.moveaxis(logits, axis, -1), options)
        target = target_of(q, labels, options)
        s = sample_weights(target, sample_weight, logits.dtype)
        a, u = softmax(q), slope * v
        if where is not None:
            a, u = np.where(where, a, 0), np.where(where, u, 0)
        along = (a * u).sum(axis=-1, keepdims=True)
        _, dq, sums, stats = row_terms(q, target, options, with_stats=True)
        product = (target.total + 2 * options.z_loss * stats.lse)[..., None] * (a * (u - along))
        if z_loss:
            product += 2 * z_loss * (a * along)
        product *= slope
        if softcap is not None:
            product += dq / sums[..., None] * (bend * v)
        product *= s[..., None]
        if reduction == "mean":
            product /= weights_in_mean(target, labels, options, s)[target.valid].sum()
    product[~target.valid] = 0
    if where is not None:
        product[~where] = 0
    result: Array = np.moveaxis(product, -1, axis)
    if out is None:
        return result
    out[...] = result
    return out
