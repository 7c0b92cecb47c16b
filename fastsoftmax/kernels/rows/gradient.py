"""A row's gradient, made of its e_j and of what `loss.row_loss` has found: see `loss` for the equations."""

from collections.abc import Callable
from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.reduce import first_lane
from ..simd.vector import splat
from ..vecmath.quotient import Quotient, row_quotient
from .loss import class_weights, weighted


class GradientTerms(NamedTuple):
    """A row's numbers that its gradient is made of."""

    weight: Number  # s T'
    total: Number  # Σ_j e_j
    uniform: Number | None  # s ε/C
    class_weight: Array | None


@staged
def gradient_terms(found, factor, options):
    """Give what makes a row's gradient, from its loss as `row_loss` found it."""
    weight = factor if found.slope is None else factor * first_lane(found.slope)
    uniform = None if found.uniform is None else factor * first_lane(found.uniform)
    return GradientTerms(weight, first_lane(found.total), uniform, options.class_weight)


@staged
def no_gradient_terms(options):
    """Give terms of the same kind that stand for no row."""
    return GradientTerms(0.0, 1.0, None if options.label_smoothing is None else 0.0, options.class_weight)


class Gradient(NamedTuple):
    """What makes gradients of vectors of e_j."""

    multiply: Callable
    quotient: Quotient  # s T' / Σ_j e_j
    uniform: Vector | None  # s ε/C
    class_weight: Array | None


@staged
def gradient_of(like, multiply, terms):
    """Prepare `gradient` for a row."""
    uniform = None if terms.uniform is None else splat(like, terms.uniform)
    return Gradient(multiply, row_quotient(like, terms.weight, terms.total), uniform, terms.class_weight)


@staged
def gradient(e, j, left, given):
    """Compute s ∂L/∂z_j of the classes from j on, of which `left` are left."""
    product = given.multiply(e, given.quotient)
    if given.uniform is None:
        return product
    return product - weighted(given.uniform, class_weights(given.class_weight, j, left))


@staged
def class_gradient(e, j, given):
    """Compute s ∂L/∂z_j of one class of the rows in lanes."""
    product = given.multiply(e, given.quotient)
    if given.uniform is None:
        return product
    w = None if given.class_weight is None else splat(e, given.class_weight[j])
    return product - weighted(given.uniform, w)
