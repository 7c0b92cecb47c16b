"""The cross entropy of a row and its options.

With logits q (see `logits`), their maximum m, label y or class probabilities p, class weights w, label smoothing ε,
z-loss ζ, C classes, and s, the weight of the row's sample:

    t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j           the target, T = Σ_j t_j; without options onehot(y), and T = 1
    t_j = w_j ((1−ε) p_j + ε/C)                  with class probabilities
    L = s (T lse − Σ_j t_j q_j + ζ lse²)         lse = log Σ_j e^q_j
      = s (Σ_j t_j (m − q_j) + T log Σ_j e^(q_j − m) + ζ lse²)     no term is negative, so that nothing cancels
    Σ_j t_j (m − q_j) = (1−ε) w_y (m − q_y) + (ε/C) Σ_j w_j (m − q_j)
    ∂L/∂q_j = s (T' a_j − t_j)                   T' = T + 2 ζ lse, the slope: ∂L/∂lse

Where e_j is e^q_j over a power of two that the row shares, so that a_j = e_j / Σ_s e_s, every entry but the label's is
(s T' / Σ e) e_j − s (ε/C) w_j. The label's own is the same with another number, the entry, in place of e_y:

    entry = ((ε/C) Σ_j w_j · Σ e + 2 ζ lse · e_y − T Σ_{j≠y} e_j) / T'      for T' a_y − t_y + (ε/C) w_y,

which without options is −Σ_{j≠y} e_j, and does not cancel where the model is sure. Class probabilities have no such
entry. The entropy is −Σ_j a_j log a_j = log Σ_j e^(q_j − m) + Σ_j a_j (m − q_j).

What is said here of a row holds for each lane of a bundle of rows as well: a row's numbers are vectors of one lane.
"""

from typing import NamedTuple

from ..compiling.staging import staged
from ..compiling.values import Vector
from ..simd.vector import is_double, magnitude, splat, where_equal, where_greater
from ..vecmath.log1p import log1p_quotient
from .options import has_label, has_stats
from .stats import Prediction
from .targets import sums_weights, weighted


class Target(NamedTuple):
    """t, in float64 lanes; None stands for 1, and in the middle for 0."""

    at_label: Vector | None  # (1−ε) w_y; of no meaning with class probabilities
    uniform: Vector | None  # what u_j is multiplied by: ε/C, or 1
    spread: Vector | None  # the same times Σ_j u_j
    total: Vector | None  # T


@staged
def target_of(like, sums, options, n_classes):
    """Compute t from what the passes have found, for float64 lanes such as those of `like`."""
    smoothing, w_label = options.label_smoothing, sums.w_label
    if not has_label(options):
        return Target(None, splat(like, 1.0), sums.weight, sums.weight)
    if smoothing is None:
        return Target(w_label, None, None, w_label)
    at_label, uniform = weighted(splat(like, 1.0 - smoothing), w_label), splat(like, smoothing / n_classes)
    spread = uniform * sums.weight if sums_weights(options) else splat(like, smoothing * options.mean_weight)
    return Target(at_label, uniform, spread, at_label + spread)


class RowSums(NamedTuple):
    """What the passes over a row have found, in float64 lanes; what nobody asked for is None."""

    top: Vector  # m
    below: Vector | None  # m − q_y
    e_top: Vector
    e_label: Vector | None
    others: Vector  # Σ_{j≠y} e_j, or Σ_j e_j without a maximum: see `leaves_out_top`
    w_label: Vector | None  # w_y
    shortfall: Vector | None  # Σ_j u_j (m − q_j): see `targets`
    weight: Vector | None  # Σ_j u_j
    dispersion: Vector | None  # Σ_j e_j (m − q_j)
    prediction: Prediction | None


def leaves_out_top(options):
    """Whether a row's sum leaves out the maximum, not the label: where there is none, and where lse is asked for."""
    return options is None or not has_label(options) or has_stats(options)


class RowLoss(NamedTuple):
    """A row's loss without s, and what its gradient and its statistics are made of."""

    loss: Vector
    total: Vector  # Σ_j e_j
    entry: Vector | None  # what takes the place of e_y
    slope: Vector | None  # T', None for 1
    uniform: Vector | None  # what u_j is multiplied by
    lse: Vector | None
    entropy: Vector | None
    prediction: Prediction | None


@staged
def row_loss(like, sums, options, n_classes):
    """Compute a row's loss, to the digits of the dtype of `like`."""
    target = target_of(sums.top, sums, options, n_classes)
    log_sum, others = log_sum_and_others(like, sums, options)
    loss = weighted(log_sum, target.total)
    below = _below(sums, target, options)
    loss = below + loss
    curve = lse = entropy = None
    if options.z_loss is not None or has_stats(options):
        lse = sums.top + log_sum
    if options.z_loss is not None:
        curve = splat(lse, 2.0 * options.z_loss) * lse
        loss = loss + splat(lse, options.z_loss) * lse * lse
    slope = _slope(like, target.total, curve)
    if has_label(options):
        total, entry = others + sums.e_label, _label_entry(sums, others, target, curve, slope)
    else:
        total, entry = others + sums.e_top, None
    if has_stats(options):
        entropy = log_sum + sums.dispersion / total
    return RowLoss(loss, total, entry, slope, target.uniform, lse, entropy, sums.prediction)


@staged
def log_sum_and_others(like, sums, options):
    """Compute log Σ_j e^(q_j − m), and Σ_{j≠y} e_j: without a label Σ_j e_j without a maximum.

    The maximum's own term is put back by log1p, which keeps what a term of 1 would swallow: the digits of a sure model.
    """
    top, label = sums.e_top, sums.e_label
    if leaves_out_top(options):
        log_sum = log1p_quotient(like, sums.others, top)
        return log_sum, sums.others if label is None else sums.others + (top - label)
    label_is_top = sums.below, splat(sums.below, 0.0)
    others = where_equal(*label_is_top, sums.others, sums.others + (label - top))
    return log1p_quotient(like, others, where_equal(*label_is_top, label, top)), sums.others


@staged
def _below(sums, target, options):
    """Compute Σ_j t_j (m − q_j)."""
    below = weighted(sums.below, target.at_label) if has_label(options) else None
    if target.uniform is None:
        return below
    share = target.uniform * sums.shortfall
    return share if below is None else below + share


@staged
def _slope(like, total, curve):
    """Compute T' = T + 2 ζ lse.

    Where the two all but cancel it is kept away from 0, for the label's entry is divided by it: by less than the last
    bit of T.
    """
    if curve is None:
        return total
    total = splat(curve, 1.0) if total is None else total
    least = splat(curve, 2.0**-60 if is_double(like) else 2.0**-30) * total
    slope = total + curve
    return where_greater(least, magnitude(slope), least, slope)


@staged
def _label_entry(sums, others, target, curve, slope):
    """Compute what takes the place of e_y.

    With smoothing, of two ways to write it the one whose terms are the lesser: the other is e_y − (1−ε) w_y / T' · Σ e.
    """
    e_label, zero = sums.e_label, splat(sums.others, 0.0)
    if target.uniform is None and curve is None:
        return zero - others
    # Each is divided first: e_j have headroom, and large weights would overflow with it.
    divisor = where_equal(slope, zero, splat(zero, 1.0), slope)
    one = splat(zero, 1.0)
    terms = zero - weighted(one, target.total) / divisor * others
    if curve is not None:
        terms = terms + curve / divisor * e_label
    if target.uniform is None:
        return terms
    total = others + e_label
    by_others, by_itself = terms + target.spread / divisor * total, e_label - target.at_label / divisor * total
    return where_greater(target.spread, target.at_label, by_itself, by_others)
