"""What a loss is asked for and where its results go. An option that is off is None, and leaves no trace in a kernel."""

from typing import NamedTuple

import numpy as np

from ..compiling.jit import ComputeLine, ComputeMatrix, Doubles, Labels, Mask
from ..compiling.numbers import where
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.memory import load_first, store_first
from ..simd.vector import lanes_of
from .logits import view_results


class LogitOptions(NamedTuple):
    """What a function of logits is asked for: see `logits`."""

    scale: float = None
    where: Mask = None
    softcap: float = None  # for `cross_entropy_hvp`


class LogProbOptions(NamedTuple):
    """What a logarithm of probabilities is asked for likewise."""

    scale: float = None
    where: Mask = None
    softcap = None


class LossOptions(NamedTuple):
    """What a loss is asked for. Those with a default are parameters of a `Kernel.variant` only."""

    ignore_index: int
    class_weight: ComputeLine = None  # w, of the dtype that logits are computed in
    sample_weight: Doubles = None  # of each row
    label_smoothing: float = None  # ε
    mean_weight: float = None  # Σ_j w_j / C, beside label_smoothing
    label_probs: ComputeMatrix = None  # p, in place of labels
    z_loss: float = None  # ζ
    softcap: float = None
    scale: float = None  # which the factors of gradients contain
    where: Mask = None  # of the logits' elements
    lse: Doubles = None  # statistics of each row
    predictions: Labels = None
    entropy: Doubles = None


class WeightOptions(NamedTuple):
    """Those of them that rows weigh by in a mean."""

    ignore_index: int
    class_weight: ComputeLine = None
    sample_weight: Doubles = None


class LossArgs(NamedTuple):
    """What the rows of a loss share: where labels are and results go; without a gradient the last three are None."""

    labels: Array
    options: LossOptions
    losses: Array
    factor: float | None = None  # of all rows' gradients
    dloss: Array | None = None  # of each; empty where they share theirs
    dlogits: Array | None = None

    @property
    def gradients(self):
        """Where gradients go, as a flat array: 0 for classes that are left out."""
        return view_results(self.dlogits.flat, self.options)


def has_stats(options):
    """Whether statistics of rows are asked for."""
    return options.entropy is not None


def has_label(options):
    """Whether a row has one label."""
    return options.label_probs is None


@staged
def label_of(args, row):
    """Give the label of a row, any class of one that is ignored; None where it has class probabilities."""
    if not has_label(args.options):
        return None
    y = args.labels[row]
    return where(y == args.options.ignore_index, 0, y) if has_stats(args.options) else y


@staged
def is_ignored(args, row):
    """Whether a row has the label that is to be ignored."""
    return has_label(args.options) and args.labels[row] == args.options.ignore_index


def skips(options):
    """Whether rows that are ignored are passed over: their statistics would be missing."""
    return options is not None and has_label(options) and not has_stats(options)


@staged
def leave_out(args, row, start, stop):
    """Give an ignored row no loss and no gradient."""
    args.losses[row] = 0.0
    if args.dlogits is not None:
        args.dlogits.flat[start:stop] = 0


@staged
def is_left_out(args, row):
    """Whether a row is ignored, of which the statistics are wanted."""
    return has_stats(args.options) and is_ignored(args, row)


@staged
def leave_out_after(args, row, start, stop):
    """Leave an ignored row out once its statistics are known."""
    if is_left_out(args, row):
        leave_out(args, row, start, stop)


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
    sample = options.sample_weight
    weight = 1.0 if options.class_weight is None else np.float64(options.class_weight[y])
    return weight if sample is None else sample[row] * weight
