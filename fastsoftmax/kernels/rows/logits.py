"""What options make of logits: q = softcap · tanh(scale · z / softcap), and −∞ where a mask leaves a class out.

Rows read logits z; what they compute of them is that of q. The greatest of a row is the same, for q grows with z. A
product or a tanh that is rounded would show in e^q, times |q|: q has two parts, the second of which is what the first
has rounded off.
"""

import math
from typing import NamedTuple

from ..compiling.numbers import Number
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.convert import promote
from ..simd.memory import load_first, store_first
from ..simd.reduce import first_lane
from ..simd.vector import splat
from ..vecmath import exp
from ..vecmath.softcap import Softcapped, softcap_slope, softcapped


class Transform(NamedTuple):
    """How z becomes q."""

    scale: Number | None
    softcap: Number | None


class LogitView(NamedTuple):
    """An array of logits, or of what there is one of for each, as options have it."""

    values: Array
    mask: Array | None  # of bytes: where it is 0 an element is read as `fill`, and written as it
    fill: float
    transform: Transform | None = None
    kept: float | None = None  # what the other elements are read as, None for themselves

    @property
    def dtype(self):
        """The dtype of an element."""
        return self.values.dtype

    @property
    def stored(self):
        """The dtype that elements are stored in."""
        return self.values.stored

    @property
    def element(self):
        """The LLVM type of an element."""
        return self.values.element

    @property
    def itemsize(self):
        """The bytes of an element."""
        return self.values.itemsize

    @property
    def size(self):
        """The number of elements."""
        return self.values.size

    @property
    def data(self):
        """Where the elements begin."""
        return self.values.data

    @property
    def flat(self):
        """All elements as one dimension."""
        return self._replace(values=self.values.flat)

    @property
    def shape(self):
        """The lengths of the dimensions."""
        return self.values.shape

    def __getitem__(self, index):
        """Give one element of a flat view."""
        return first_lane(load_first(self, index, 1, 0.0))

    def __setitem__(self, index, value):
        """Assign one element of a flat view, or zeros to a slice."""
        if isinstance(index, slice):
            self.values[index] = value
        else:
            store_first(self, index, 1, splat(self, value))


def view_logits(logits, options):
    """View logits as options have them; without such options they are what they were."""
    if options is None or (options.where is None and options.scale is None and options.softcap is None):
        return logits
    plain = options.scale is None and options.softcap is None
    return LogitView(logits, options.where, -math.inf, None if plain else Transform(options.scale, options.softcap))


def view_results(results, options, fill=0.0):
    """View results that are `fill` for what a mask leaves out."""
    return results if options is None or options.where is None else LogitView(results, options.where, fill)


def view_lanes(lanes, logits):
    """View logits in lanes as what they come from: its mask has been read."""
    transform = transform_of(logits)
    return lanes if transform is None else LogitView(lanes, None, 0.0, transform)


def transform_of(logits):
    """Give the transform of a view, None where there is none."""
    return getattr(logits, "transform", None)


class Logit(NamedTuple):
    """A vector of logits z, and what they become with a softcap: q, in two parts. A scale alone is left to `exp`."""

    q: Vector
    rest: Vector | None  # what q has rounded off, None for nothing
    softcapped: Softcapped | None


def logit(z, transform):
    """Compute q of logits; where there is a scale alone, over it."""
    if transform is None or transform.softcap is None:
        return Logit(z, None, None)
    capped = softcapped(z, 1.0 if transform.scale is None else transform.scale, transform.softcap)
    return Logit(capped.q, capped.rest, capped)


class LogitScale(NamedTuple):
    """What exponentials of a row's logits take: see `vecmath.exp.scale_of`."""

    scale: exp.Scale
    top: Logit  # the greatest
    transform: Transform | None


def scale_of(logits, top):
    """Prepare exponentials of rows whose greatest logits are the vector `top`."""
    transform = transform_of(logits)
    top = logit(top, transform)
    return LogitScale(exp.scale_of(top.q, top.rest, scale_in(logits, top.q)), top, transform)


def row_scale(logits, top):
    """Prepare exponentials of a row whose greatest logit is the number `top`."""
    return scale_of(logits, splat(logits, top))


def exp_logit(x, scale):
    """Compute e^q over the power of two of its row: see `vecmath.exp.exp_scaled`."""
    return exp.exp_scaled(x.q, scale.scale, x.rest)


def exp_near_logit(x, scale):
    """Compute the same in rows that are near: see `vecmath.exp.exp_near`."""
    return exp.exp_near(x.q, scale.scale, x.rest)


def exp_top(scale):
    """Compute it of the greatest logits."""
    return exp_logit(scale.top, scale)


def are_near(logits, top, bottom):
    """Whether `exp_near_logit` will do for all logits from `bottom` to `top`, in every lane."""
    return exp.is_near(*(in_two_parts(logits, z)[0] for z in (top, bottom)))


def in_two_parts(logits, z):
    """Compute q and what it has rounded off."""
    x = logit(z, transform_of(logits))
    return exp.scaled(x.q, scale_in(logits, z), x.rest)


def exponent_of(logits, top):
    """Find the exponent of the power of two that the e_j of a row are over, whose greatest logit is a number."""
    return first_lane(exp.exponent_of(in_two_parts(logits, splat(logits, top))[0]))


def has_exponents(logits, top, other):
    """Whether powers of two can tell two greatest logits apart, that are numbers; one of −∞ needs none."""
    if transform_of(logits) is not None:
        top, other = (first_lane(in_two_parts(logits, splat(logits, z))[0]) for z in (top, other))
    return (abs(top) <= exp.EXACT) & ((abs(other) <= exp.EXACT) | (abs(other) == math.inf))


# Differences from the greatest logit: where there is a scale alone those of z, to be multiplied by it -----------------


def wide_top(scale):
    """Compute q of the greatest logits in float64."""
    q, rest, _ = scale.top
    factor = scale.scale.factor
    if factor is not None:
        return promote(factor) * promote(q)
    return promote(q) if rest is None else promote(q) + promote(rest)


def gap(scale, x):
    """Compute the greatest logit less others, over the scale alone: see `in_units`."""
    return _gap(scale.top, x, lambda part: part)


def wide_gap(scale, x):
    """Compute the same in float64."""
    return _gap(scale.top, x, promote)


def _gap(top, x, convert):
    if x.softcapped is None:
        return convert(top.q) - convert(x.q)
    return (convert(top.q) - convert(x.q)) + (convert(top.rest) - convert(x.rest))


def block_gap(logits, top, other):
    """Compute the same of two numbers."""
    transform = transform_of(logits)
    if transform is None or transform.softcap is None:
        return top - other
    return first_lane(wide_gap(row_scale(logits, top), logit(splat(logits, other), transform)))


def in_units(logits, gaps):
    """Make differences of logits of those that `gap` gives, or of sums of them, in float64."""
    scale = scale_in(logits, gaps)
    return gaps if scale is None else scale * gaps


def scale_in(logits, like):
    """Give what `gap` is to be multiplied by in each lane; None for 1."""
    transform = transform_of(logits)
    if transform is None or transform.scale is None or transform.softcap is not None:
        return None
    return splat(like, transform.scale)


def has_slope(logits):
    """Whether ∂q/∂z differs from logit to logit."""
    transform = transform_of(logits)
    return transform is not None and transform.softcap is not None


def slope(x):
    """Compute ∂q/∂z over the scale, which the factors of gradients contain; None where that is 1 everywhere."""
    return None if x.softcapped is None else softcap_slope(x.softcapped)
