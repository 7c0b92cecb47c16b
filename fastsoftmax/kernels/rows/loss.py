"""The cross entropy of a row and its options.

With logits z, their maximum m, label y, class weights w, label smoothing ε, z-loss ζ, C classes, and s, the weight of
the row's sample:

    t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j           the target, T = Σ_j t_j; without options onehot(y), and T = 1
    L = s (T lse − Σ_j t_j z_j + ζ lse²)         lse = log Σ_j e^z_j
      = s (Σ_j t_j (m − z_j) + T log Σ_j e^(z_j − m) + ζ lse²)     no term is negative, so that nothing cancels
    Σ_j t_j (m − z_j) = (1−ε) w_y (m − z_y) + (ε/C) Σ_j w_j (m − z_j)
    ∂L/∂z_j = s (T' a_j − t_j)                   T' = T + 2 ζ lse, the slope: ∂L/∂lse

Where e_j is e^z_j over a power of two that the row shares, so that a_j = e_j / Σ_s e_s, every entry but the label's is
(s T' / Σ e) e_j − s (ε/C) w_j. The label's own is the same with another number, the entry, in place of e_y:

    entry = ((ε/C) Σ_j w_j · Σ e + 2 ζ lse · e_y − T Σ_{j≠y} e_j) / T'      for T' a_y − t_y + (ε/C) w_y,

which without options is −Σ_{j≠y} e_j, and does not cancel where the model is sure.

What is said here of a row holds for each lane of a bundle of rows as well: a row's numbers are vectors of one lane.
An option that is off is None, and leaves no trace in a kernel.
"""

from typing import NamedTuple

import numpy as np

from ..compiling.jit import Doubles, Line
from ..compiling.staging import staged
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.memory import load_first, store_first
from ..simd.vector import is_double, lanes_of, magnitude, splat, where_equal, where_greater
from ..vecmath.log1p import log1p_quotient


class LossOptions(NamedTuple):
    """What a loss is asked for. Those with a default are parameters of a `Kernel.variant` only."""

    ignore_index: int
    class_weight: Line = None  # w, of the dtype of the logits
    sample_weight: Doubles = None  # of each row
    label_smoothing: float = None  # ε
    mean_weight: float = None  # Σ_j w_j / C, beside label_smoothing
    z_loss: float = None  # ζ


class WeightOptions(NamedTuple):
    """Those of them that rows weigh by in a mean."""

    ignore_index: int
    class_weight: Line = None
    sample_weight: Doubles = None


class LossArgs(NamedTuple):
    """What the rows of a loss share: where labels are and results go; without a gradient the last three are None."""

    labels: Array
    options: LossOptions
    losses: Array
    factor: float | None = None  # of all rows' gradients
    dloss: Array | None = None  # of each; empty where they share theirs
    dlogits: Array | None = None


# Rows: labels, weights, losses --------------------------------------------------------------------------------------


@staged
def is_ignored(args, row):
    """Whether a row has the label that is to be ignored."""
    return args.labels[row] == args.options.ignore_index


@staged
def leave_out(args, row, start, stop):
    """Give an ignored row no loss and no gradient."""
    args.losses[row] = 0.0
    if args.dlogits is not None:
        args.dlogits.flat[start:stop] = 0


@staged
def store_loss(args, row, loss):
    """Store a row's loss times the weight of its sample."""
    weight = args.options.sample_weight
    args.losses[row] = loss if weight is None else weight[row] * loss


@staged
def store_losses(args, row, n_rows, losses):
    """Store the losses of a bundle likewise; what ignored rows have stays 0."""
    weight = args.options.sample_weight
    if weight is not None:
        losses = losses * load_first(weight, row, n_rows, 0.0, lanes_of(losses))
    store_first(args.losses, row, n_rows, losses)


@staged
def shares_factor(args):
    """Whether the gradients of all rows have one factor."""
    return args.options.sample_weight is None and args.dloss.size == 0


@staged
def factor_of(args, row):
    """Give the factor of a row's gradient, s times what follows the loss."""
    weight = args.options.sample_weight
    factor = args.factor if weight is None else args.factor * weight[row]
    return factor * args.dloss[row] if args.dloss.size else factor


@staged
def weight_in_mean(options, row, y):
    """Give what a row counts in a mean: the weight of its sample times that of its label's class."""
    sample, of_class = options.sample_weight, weight_of_class(options, y)
    weight = 1.0 if of_class is None else np.float64(of_class)
    return weight if sample is None else sample[row] * weight


# Classes: weights ---------------------------------------------------------------------------------------------------


def smoothed(options):
    """Give the options if there is smoothing, else None: Σ_j w_j (m − z_j) is added up for it alone."""
    return None if options is None or options.label_smoothing is None else options


def weighted(value, weight):
    """Compute w · value; a weight that is None is 1."""
    return value if weight is None else weight * value


@staged
def class_weights(class_weight, j, left):
    """Load the weights of the classes from j on, of which `left` are left."""
    return None if class_weight is None else load_first(class_weight, j, left, 0.0)


@staged
def weight_of_class(options, j):
    """Give w_j, or None where all are 1."""
    return None if options is None or options.class_weight is None else options.class_weight[j]


@staged
def below_top(top, z, options, j, left):
    """Compute w_j (m − z_j) of the classes from j on."""
    return weighted(top - z, class_weights(options.class_weight, j, left))


def options_from(options, first):
    """Give the options of the classes from one on, for `below_top` of a block of them."""
    if options is None or options.class_weight is None:
        return options
    return options._replace(class_weight=options.class_weight[first:])


# Loss and gradient --------------------------------------------------------------------------------------------------


class Target(NamedTuple):
    """t, in float64 lanes; None stands for 1, and in the middle for 0."""

    at_label: Vector | None  # (1−ε) w_y
    uniform: Vector | None  # ε/C
    spread: Vector | None  # (ε/C) Σ_j w_j
    total: Vector | None  # T


@staged
def target_of(like, w_label, options, n_classes):
    """Compute t from w_y, which is None without class weights, for float64 lanes such as those of `like`."""
    smoothing = options.label_smoothing
    if smoothing is None:
        return Target(w_label, None, None, w_label)
    at_label = weighted(splat(like, 1.0 - smoothing), w_label)
    spread = splat(like, smoothing * options.mean_weight)
    return Target(at_label, splat(like, smoothing / n_classes), spread, at_label + spread)


class LabelSums(NamedTuple):
    """What the passes over a row have found, in float64 lanes."""

    top: Vector  # m
    z_label: Vector
    e_top: Vector
    e_label: Vector
    others: Vector  # Σ_{j≠y} e_j
    w_label: Vector | None  # w_y
    shortfall: Vector | None  # Σ_j w_j (m − z_j)


class RowLoss(NamedTuple):
    """A row's loss without s, and what its gradient is made of."""

    loss: Vector
    total: Vector  # Σ_j e_j
    entry: Vector  # what takes the place of e_y
    slope: Vector | None  # T', None for 1
    uniform: Vector | None  # ε/C


@staged
def row_loss(like, sums, options, n_classes):
    """Compute a row's loss, to the digits of the dtype of `like`."""
    target = target_of(sums.top, sums.w_label, options, n_classes)
    log_sum = log_sum_with_label(like, sums)
    loss = _below(sums, target) + weighted(log_sum, target.total)
    curve = None
    if options.z_loss is not None:
        lse = sums.top + log_sum
        curve = splat(lse, 2.0 * options.z_loss) * lse
        loss = loss + splat(lse, options.z_loss) * lse * lse
    slope = _slope(like, target.total, curve)
    entry = _label_entry(sums, target, curve, slope)
    return RowLoss(loss, sums.others + sums.e_label, entry, slope, target.uniform)


@staged
def log_sum_with_label(like, sums):
    """Compute log Σ_j e^(z_j − m).

    If the label is the maximum that is log1p(Σ_{j≠y} e_j / e_y), which keeps its digits where the model is sure.
    """
    z, top = sums.z_label, sums.top
    others = where_equal(z, top, sums.others, sums.others + (sums.e_label - sums.e_top))
    return log1p_quotient(like, others, where_equal(z, top, sums.e_label, sums.e_top))


@staged
def _below(sums, target):
    """Compute Σ_j t_j (m − z_j)."""
    below = weighted(sums.top - sums.z_label, target.at_label)
    return below if target.uniform is None else below + target.uniform * sums.shortfall


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
def _label_entry(sums, target, curve, slope):
    """Compute what takes the place of e_y.

    With smoothing, of two ways to write it the one whose terms are the lesser: the other is e_y − (1−ε) w_y / T' · Σ e.
    """
    others, e_label, zero = sums.others, sums.e_label, splat(sums.others, 0.0)
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
