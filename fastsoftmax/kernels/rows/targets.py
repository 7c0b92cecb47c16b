"""The target of a row as a pass over its classes needs it.

    t_j = (1−ε) w_y 1{j=y} + (ε/C) w_j             from a label: u_j = w_j is what passes load
    t_j = w_j ((1−ε) p_j + ε/C)                    from class probabilities p: u_j = t_j

u_j is 0 for classes that a mask leaves out. With a label and without smoothing nothing is loaded.
"""

from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..simd.memory import first_ones, load, load_allowed, load_first, store
from ..simd.vector import fma, lanes_of, splat, where_equal, where_greater
from .bundles import empty_lanes, to_lanes
from .logits import LogitView
from .options import LossOptions


class Spread(NamedTuple):
    """What u_j of a row is loaded by: the row begins at an index of flat arrays such as the logits."""

    options: LossOptions
    start: Number


def spreads(options):
    """Whether the target has a share of all classes."""
    return options.label_smoothing is not None or options.label_probs is not None


def spread_of(options, start):
    """Give what u_j is loaded by; None where the target is the label alone."""
    return Spread(options, start) if spreads(options) else None


def sums_weights(options):
    """Whether Σ_j u_j is a row's own."""
    return options.label_probs is not None or (spreads(options) and options.where is not None)


def weighted(value, weight):
    """Compute w · value; a weight that is None is 1."""
    return value if weight is None else weight * value


def weight_of_class(options, j):
    """Give w_j, or None where all are 1."""
    return None if options.class_weight is None else options.class_weight[j]


def load_spread(spread, j, left, like):
    """Load u_j of the classes from j on, of which `left` are left; None for ones."""
    options = spread.options
    w = None if options.class_weight is None else load_first(options.class_weight, j, left, 0.0)
    if options.label_probs is not None:
        p = load_first(options.label_probs.flat, spread.start + j, left, 0.0)
        w = weighted(_smoothed(p, options), w)
        if isinstance(left, Number) and options.label_smoothing is not None:
            w = w * first_ones(w, left)  # ε/C is no number of what is no class
    if options.where is not None:
        allowed = load_allowed(options.where, spread.start + j, left, like)
        w = allowed if w is None else where_equal(allowed, splat(w, 0.0), splat(w, 0.0), w)
    return w


def _smoothed(p, options):
    """Compute (1−ε) p + ε/C."""
    if options.label_smoothing is None:
        return p
    smoothing, n_classes = options.label_smoothing, options.label_probs.shape[1]
    return fma(splat(p, 1.0 - smoothing), p, splat(p, smoothing / n_classes))


_LEFT_OUT = -1.0  # what a class that is left out has in lanes for its probability


@staged
def spread_lanes(options, bundle):
    """Transpose u_j of a bundle of rows into lanes; None where those of all rows are the same: see `class_spread`."""
    if not sums_weights(options):
        return None
    logits, n_classes = bundle.logits, bundle.n_classes
    lanes, width = empty_lanes(logits), lanes_of(logits)
    if options.label_probs is None:
        source = LogitView(logits.values, options.where, _LEFT_OUT, kept=0.0)
    elif options.where is None:
        source = options.label_probs.flat
    else:
        source = LogitView(options.label_probs.flat, options.where, _LEFT_OUT)
    to_lanes(source, bundle.row, bundle.n_rows, n_classes, lanes)
    for j in range(n_classes):
        p = load(lanes, j * width)
        zero, w = splat(p, 0.0), weight_of_class(options, j)
        w = None if w is None else splat(p, w)
        u = weighted(splat(p, 1.0) if options.label_probs is None else _smoothed(p, options), w)
        # Without a mask a probability may be any number, as with JAX.
        store(lanes, j * width, u if options.where is None else where_greater(zero, p, zero, u))
    return lanes


def class_spread(options, lanes, j, like):
    """Give u_j of one class, for the rows in lanes; None for ones."""
    if lanes is not None:
        return load(lanes, j * lanes_of(like))
    w = weight_of_class(options, j)
    return None if w is None else splat(like, w)
