"""The cross entropy of a row and its options.

With logits z, their maximum m, label y, class weights w, label smoothing ε, C classes and a row's own factor s:

    t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j           the target, T = Σ_j t_j; without options onehot(y), and T = 1
    L = T log Σ_j e^z_j − Σ_j t_j z_j
      = Σ_j t_j (m − z_j) + T log Σ_j e^(z_j − m)     no term is negative, so that nothing cancels
    Σ_j t_j (m − z_j) = (1−ε) w_y (m − z_y) + (ε/C) Σ_j w_j (m − z_j)
    s ∂L/∂z_j = s (T a_j − t_j)

Where e_j is e^z_j over a power of two that the row shares, so that a_j = e_j / Σ_s e_s, every entry but the label's is
(s T / Σ e) e_j − s (ε/C) w_j. The label's own, T a_y − t_y = −T Σ_{j≠y} a_j + (ε/C) (Σ_j w_j − w_y), is the same with
−Σ_{j≠y} e_j + (ε/C) Σ_j w_j / T · Σ e in place of e_y: that does not cancel where the model is sure. (Where ε/C Σ_j w_j
is more than (1−ε) w_y, it is e_y − (1−ε) w_y / T · Σ e.)

What is said here of a row holds for each lane of a bundle of rows as well: a row's numbers are vectors of one lane.
An option that is off is None, and leaves no trace in a kernel.
"""

from collections.abc import Callable
from typing import NamedTuple

from ..compiling.jit import Line
from ..compiling.staging import staged
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.memory import load_first
from ..simd.vector import splat, where_equal, where_greater
from ..vecmath.log1p import log1p_quotient
from ..vecmath.quotient import Quotient, row_quotient


class LossOptions(NamedTuple):
    """What a loss is asked for. Those with a default are parameters of a `Kernel.variant` only."""

    ignore_index: int
    class_weight: Line = None  # w, of the dtype of the logits
    label_smoothing: float = None  # ε
    mean_weight: float = None  # Σ_j w_j / C, beside label_smoothing


class LossArgs(NamedTuple):
    """What the rows of a loss share: where labels are and results go; without a gradient the last three are None."""

    labels: Array
    options: LossOptions
    losses: Array
    weight: float | None = None  # of all rows
    dloss: Array | None = None  # of each; empty where they share theirs
    dlogits: Array | None = None


# Options ----------------------------------------------------------------------------------------------------------


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
def factor_of(args, row):
    """Give s, the factor of a row's gradient."""
    return args.weight * args.dloss[row] if args.dloss.size else args.weight


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
    return None if options.class_weight is None else options.class_weight[j]


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


# Loss and gradient ------------------------------------------------------------------------------------------------


@staged
def log_sum_with_label(like, top, z_label, e_top, e_label, others):
    """Compute log Σ_j e^(z_j − m) from Σ_{j≠y} e_j, e_y and e_m, to the digits of the dtype of `like`.

    If the label is the maximum that is log1p(Σ_{j≠y} e_j / e_y), which keeps its digits where the model is sure.
    """
    others = where_equal(z_label, top, others, others + (e_label - e_top))
    return log1p_quotient(like, others, where_equal(z_label, top, e_label, e_top))


@staged
def loss_of(top, z_label, log_sum, target, shortfall):
    """Compute L from m, z_y, log Σ_j e^(z_j − m) and, with smoothing, Σ_j w_j (m − z_j)."""
    below = weighted(top - z_label, target.at_label)
    if target.uniform is not None:
        below = below + target.uniform * shortfall
    return below + weighted(log_sum, target.total)


@staged
def label_entry(others, e_label, target):
    """Give what takes the place of e_y in the gradient, from Σ_{j≠y} e_j and e_y.

    With smoothing it has two terms, and of two ways to write it the one whose terms are the lesser.
    """
    zero = splat(others, 0.0)
    if target.uniform is None:
        return zero - others
    share = (others + e_label) / where_equal(target.total, zero, splat(zero, 1.0), target.total)
    by_others, by_itself = target.spread * share - others, e_label - target.at_label * share
    return where_greater(target.spread, target.at_label, by_itself, by_others)


class Gradient(NamedTuple):
    """What makes a row's gradient of its e_j."""

    multiply: Callable
    quotient: Quotient  # s T / Σ_j e_j
    uniform: Vector | None  # s ε/C
    class_weight: Array | None


@staged
def gradient_of(like, multiply, weight, total, uniform, class_weight):
    """Prepare `gradient` for a row: from s T, Σ_j e_j and s ε/C."""
    return Gradient(
        multiply, row_quotient(like, weight, total), None if uniform is None else splat(like, uniform), class_weight
    )


@staged
def gradient(e, j, left, given):
    """Compute s ∂L/∂z_j of the classes from j on, of which `left` are left."""
    product = given.multiply(e, given.quotient)
    if given.uniform is None:
        return product
    return product - weighted(given.uniform, class_weights(given.class_weight, j, left))
