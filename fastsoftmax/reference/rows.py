"""The general row of a loss: every option of it, for rows whose classes are on the last axis."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastsoftmax.reference.types import Array, Labels, Mask, RowStats


class RowOptions(NamedTuple):
    """Options that change the loss of a row."""

    class_weight: Array | None  # w
    ignore_index: int
    label_smoothing: float  # ε
    z_loss: float  # ζ
    softcap: float | None
    scale: float | None
    where: Mask | None


class Mapped(NamedTuple):
    """q = softcap · tanh(scale · z / softcap), −inf where it is left out, and its derivatives; infinities stay."""

    q: Array
    slope: Any  # ∂q/∂z
    bend: Any  # ∂²q/∂z²


def mapped(z: Array, options: RowOptions) -> Mapped:
    """Compute q and what its gradient and its Hessian need."""
    scale = z.dtype.type(1 if options.scale is None else options.scale)
    slope: Any
    bend: Any
    q, slope, bend = z if scale == 1 else scale * z, scale, z.dtype.type(0)
    if options.softcap is not None:
        softcap = z.dtype.type(options.softcap)
        infinite, u = np.isinf(q), q / softcap
        q = np.where(infinite, q, softcap * np.tanh(u))
        slope = np.where(infinite, 0, scale / np.cosh(u) ** 2)
        bend = np.where(infinite, 0, -2 * scale * slope * np.tanh(u) / softcap)
    if options.where is not None:
        q = np.where(options.where, q, z.dtype.type(-np.inf))
    return Mapped(q, slope, bend)


class Target(NamedTuple):
    """t in its parts; the label of class probabilities is their row's greatest logit, of no weight."""

    y: Labels
    at_label: Array  # (1−ε) w_y, of each row
    everywhere: Array  # (ε/C) w_j, or w_j ((1−ε) p_j + ε/C): of each class, or of each row's
    total: Array  # T = Σ_j t_j
    valid: Mask  # rows that are not ignored
    spreads: bool  # whether there is anything everywhere


def target_of(q: Array, labels: Array | Labels, options: RowOptions) -> Target:
    """Compute t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j from labels, or t_j = w_j ((1−ε) p_j + ε/C) from probabilities p."""
    dtype, n_classes = q.dtype.type, q.shape[-1]
    w = np.ones(n_classes, dtype) if options.class_weight is None else np.asarray(options.class_weight, dtype)
    kept, uniform = dtype(1 - options.label_smoothing), dtype(options.label_smoothing / n_classes)
    if labels.dtype.kind == "f":
        y, everywhere = q.argmax(axis=-1), w * (kept * labels.astype(dtype) + uniform)
        at_label, valid = np.zeros(y.shape, dtype), np.ones(y.shape, np.bool_)
    else:
        valid = labels != options.ignore_index
        y = np.where(valid, labels, 0)
        at_label, everywhere = kept * w[y], uniform * w
    if options.where is not None:
        everywhere = np.where(options.where, everywhere, dtype(0))
    spreads = options.label_smoothing > 0 or labels.dtype.kind == "f"
    return Target(y, at_label, everywhere, at_label + everywhere.sum(axis=-1), valid, spreads)


class RowTerms(NamedTuple):
    """A row's loss, and what its gradient is made of."""

    loss: Array
    dq: Array  # Σ · ∂L/∂q
    sums: Array  # Σ = Σ_j exp(q_j − m)
    stats: Any  # RowStats but for `predictions`, where they are asked for


def row_terms(
    q: Array, target: Target, options: RowOptions, room: Array | None = None, *, with_stats: bool = False
) -> RowTerms:
    """Loss and gradient with respect to q, without the weight of a sample; `room` receives the gradient.

    With e = exp(q − m), r the sum of e over the other classes and lse = m + log Σ, L = Σ_j t_j (m − q_j) + T log Σ +
    ζ lse², and Σ · ∂L/∂q is (T + 2ζ lse) e − Σ · t but for T (−r) + 2ζ lse e_y + Σ · (everywhere's sum − its y) at the
    label. Where that holds nearly all, Σ − e_y and log Σ would cancel: r keeps what they lose.
    """
    at = (*np.indices(target.y.shape, sparse=True), target.y)
    m = q.max(axis=-1, keepdims=True)
    e = np.subtract(q, m, out=room)
    shifted_y = e[at]
    below: Any = 0  # not 0 · inf
    if target.spreads:
        shifted = e if options.where is None else np.where(options.where, e, 0)
        below = -(shifted * target.everywhere).sum(axis=-1)
    shifts = e.copy() if with_stats else None
    np.exp(e, out=e)
    mean_shift = np.where(e == 0, 0, e * shifts).sum(axis=-1) if with_stats else None
    e[at] = 0
    r = e.sum(axis=-1)
    e_y = np.exp(shifted_y)
    total = r + e_y
    log_sum = np.where(shifted_y == 0, np.log1p(r), np.log(total))  # 0: the label is the maximum
    loss = np.asarray(target.total * log_sum - target.at_label * shifted_y + below)
    lse = m[..., 0] + log_sum
    slope = target.total
    if options.z_loss:
        loss = np.asarray(loss + options.z_loss * lse * lse)
        curve = (2 * options.z_loss * lse).astype(q.dtype)
        slope = target.total + curve
    e *= slope[..., None]
    e[at] = -target.total * r
    if options.z_loss:
        e[at] += curve * e_y
    if target.spreads:
        e[at] += total * target.everywhere.sum(axis=-1)
        e -= total[..., None] * target.everywhere
    if not with_stats:
        return RowTerms(loss, e, total, None)
    lse = np.where(np.isinf(m[..., 0]), m[..., 0], lse)  # not inf − inf
    return RowTerms(loss, e, total, RowStats(lse, None, log_sum - mean_shift / total))


def predictions(z: Array, options: RowOptions) -> Labels:
    """Give the first greatest class of each row: of the logits, which a softcap may round to one number."""
    found: Labels = (z if options.where is None else np.where(options.where, z, -np.inf)).argmax(axis=-1)
    return found


def weights_in_mean(target: Target, labels: Any, options: RowOptions, sample_weight: Array) -> Array:
    """Weight of each row in a mean, s w_y; s for class probabilities."""
    if options.class_weight is None or labels.dtype.kind == "f":
        return sample_weight
    return sample_weight * np.asarray(options.class_weight, sample_weight.dtype)[target.y]


def sample_weights(target: Target, sample_weight: Array | None, dtype: np.dtype[Any]) -> Array:
    """Weight of each row's sample, s."""
    return np.ones(target.y.shape, dtype) if sample_weight is None else np.asarray(sample_weight, dtype)


def reduce(loss: Array, weights: Array, valid: npt.NDArray[np.bool_], reduction: str) -> Any:
    """Give the losses, their sum, or their mean."""
    loss[~valid] = 0
    if reduction == "none":
        return loss
    total: np.floating[Any] = loss.sum()
    return total / weights[valid].sum() if reduction == "mean" else total
