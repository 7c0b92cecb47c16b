"""A row's gradient, made of its e_j and of what `loss.row_loss` has found: see `loss` for the equations."""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.memory import load
from ..simd.reduce import first_lane
from ..simd.vector import lanes_of, set_lane, splat
from ..vecmath.quotient import Quotient, multiply, row_quotient
from .logits import LogitScale, exp_logit, logit, row_scale, slope, transform_of
from .options import LossOptions, has_label
from .targets import Spread, class_spread, load_spread, spread_of, weighted


class GradientTerms(NamedTuple):
    """A row's numbers that its gradient is made of."""

    weight: Number  # s T'
    total: Number  # Σ_j e_j
    uniform: Number | None  # s times what u_j is multiplied by
    spread: Spread | None


@staged
def gradient_terms(found, factor, options, start):
    """Give what makes a row's gradient, from its loss as `row_loss` found it; the row begins at an index."""
    weight = factor if found.slope is None else factor * first_lane(found.slope)
    uniform = None if found.uniform is None else factor * first_lane(found.uniform)
    return GradientTerms(weight, first_lane(found.total), uniform, spread_of(options, start))


@staged
def no_gradient_terms(options, start):
    """Give terms of the same kind that stand for no row."""
    spread = spread_of(options, start)
    return GradientTerms(0.0, 1.0, None if spread is None else 0.0, spread)


class Gradient(NamedTuple):
    """What makes gradients of vectors of e_j."""

    multiply: Callable
    quotient: Quotient  # s T' / Σ_j e_j
    uniform: Vector | None  # s times what u_j is multiplied by
    spread: Spread | None


@staged
def gradient_of(like, multiply, terms):
    """Prepare `gradient` for a row."""
    uniform = None if terms.uniform is None else splat(like, terms.uniform)
    return Gradient(multiply, row_quotient(like, terms.weight, terms.total), uniform, terms.spread)


@staged
def gradient(e, j, left, given):
    """Compute s ∂L/∂q_j of the classes from j on, of which `left` are left."""
    product = given.multiply(e, given.quotient)
    if given.spread is None:
        return product
    return product - weighted(given.uniform, load_spread(given.spread, j, left, e))


# Anew from the logits: where no e_j are kept --------------------------------------------------------------------------


class LabelEntry(NamedTuple):
    """What takes the place of e_y: see `loss`."""

    y: Number
    entry: Number


class GradientOfLogits(NamedTuple):
    """What makes gradients of vectors of logits."""

    scale: LogitScale
    gradient: Gradient
    label: LabelEntry | None
    headroom: float | None  # what e_j are to be multiplied by, None for 1


@staged
def gradient_of_logits(logits, top, terms, label, headroom=None):
    """Prepare `gradient_anew` for a row."""
    return GradientOfLogits(row_scale(logits, top), gradient_of(logits, multiply, terms), label, headroom)


@staged
def label_entry(found, y):
    """Give what takes the place of e_y; None without a label."""
    return None if y is None else LabelEntry(y, first_lane(found.entry))


@staged
def no_gradient_of_logits(logits, options):
    """Prepare the same for no row."""
    label = LabelEntry(-1, 0.0) if has_label(options) else None
    return gradient_of_logits(logits, logits.dtype.type(0), no_gradient_terms(options, 0), label)


@staged
def gradient_anew(z, j, left, given):
    """Compute s ∂L/∂z_j of the classes from j on, of which `left` are left, from their logits."""
    x, label = logit(z, given.scale.transform), given.label
    e = exp_logit(x, given.scale)
    if given.headroom is not None:
        e = e * splat(e, given.headroom)
    if label is not None and j <= label.y < j + left:
        e = set_lane(e, label.y - j, label.entry)
    return weighted(gradient(e, j, left, given.gradient), slope(x))


# Rows in lanes -------------------------------------------------------------------------------------------------------


class LaneGradient(NamedTuple):
    """What makes gradients of the classes of the rows in lanes."""

    multiply: Callable
    quotient: Quotient
    uniform: Vector | None
    options: LossOptions
    spread: Array | None  # u_j of each row: see `targets.spread_lanes`
    logits: Any | None  # z of each row, where a softcap has a slope


@staged
def class_gradient(e, j, given):
    """Compute s ∂L/∂z_j of one class of the rows in lanes."""
    found = given.multiply(e, given.quotient)
    if given.uniform is not None:
        found = found - weighted(given.uniform, class_spread(given.options, given.spread, j, e))
    if given.logits is None:
        return found
    return found * slope(logit(load(given.logits, j * lanes_of(e)), transform_of(given.logits)))
