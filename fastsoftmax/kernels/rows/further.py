"""Sums over a row that options ask for beside Σ e_j: Σ_j u_j (m − q_j), Σ_j u_j, Σ_j e_j (m − q_j).

u_j is what `targets` has of a class. Of m − q_j those that `logits.gap` gives are added up.
"""

from typing import NamedTuple

from ..compiling.values import Vector
from ..simd.accumulate import Sum, add_four_to_sum, add_to_sum, empty_sum, sum_of
from ..simd.memory import prefetch
from ..simd.vector import fma, lanes_of, less, splat, where_equal
from .logits import LogitScale, gap
from .options import LossOptions, has_stats
from .targets import Spread, load_spread, spread_of, spreads, sums_weights, weighted


class Further(NamedTuple):
    """What a pass over a row is asked for beside Σ e_j."""

    scale: LogitScale
    options: LossOptions
    spread: Spread | None


class FurtherSums(NamedTuple):
    """Running sums of it; None for what nobody asked for."""

    shortfall: Sum | None  # Σ_j u_j (m − q_j)
    weight: Sum | None  # Σ_j u_j
    dispersion: Sum | None  # Σ_j e_j (m − q_j)


def further_of(scale, options, start):
    """Give what options ask for of a row that begins at an index; None for nothing."""
    if options is None or not (spreads(options) or has_stats(options)):
        return None
    return Further(scale, options, spread_of(options, start))


def no_further_sums(like, asked):
    """Begin the sums that are asked for."""
    if asked is None:
        return FurtherSums(None, None, None)
    options = asked.options
    wanted = spreads(options), sums_weights(options), has_stats(options)
    return FurtherSums(*(empty_sum(like) if each else None for each in wanted))


def prefetch_further(asked, i):
    """Ask for class probabilities from an index on to be in the cache soon, if there are any."""
    if asked is not None and asked.options.label_probs is not None:
        prefetch(asked.options.label_probs.flat, i)


class _Addends(NamedTuple):
    """What some classes add to the sums; `below` is m − q_j, of which e_j makes that."""

    shortfall: Vector | None
    weight: Vector | None
    below: Vector | None


def _addends(asked, i, left, x):
    """Compute what the classes from index i on add; u_j and m − q_j are 0 for what is no class."""
    options, below = asked.options, gap(asked.scale, x)
    shortfall = weight = None
    if asked.spread is not None:
        u = load_spread(asked.spread, i - asked.spread.start, left, below)
        shortfall = shortfall_of(options, u, below)
        weight = u if sums_weights(options) else None
    return _Addends(shortfall, weight, finite(below) if has_stats(options) else None)


def shortfall_of(options, u, below):
    """Compute u_j (m − q_j); 0 for classes that a mask leaves out, where that is 0 · ∞."""
    shortfall = weighted(below, u)
    if options.where is None:
        return shortfall
    zero = splat(u, 0.0)
    return where_equal(u, zero, zero, shortfall)


def finite(below):
    """Give m − q_j, where that is infinite and e_j is 0 a number whose product with it is 0."""
    return less(below, splat(below, 1e30))


def add_four_dispersions(running, below, e):
    """Add e_j (m − q_j) of four vectors; of float32 ones their sum is rounded less than they are."""
    if running.error is not None:
        return add_four_to_sum(running, *(a * b for a, b in zip(e, below, strict=True)))
    total = e[0] * below[0]
    for k in range(1, 4):
        total = fma(e[k], below[k], total)
    return add_to_sum(running, total)


def add_four_further(sums, asked, i, x, e):
    """Add the classes of four vectors, from index i on."""
    width = lanes_of(e[0])
    addends = [_addends(asked, i + k * width, width, x[k]) for k in range(4)]
    shortfalls, weights, below = zip(*addends, strict=True)
    return FurtherSums(
        None if sums.shortfall is None else add_four_to_sum(sums.shortfall, *shortfalls),
        None if sums.weight is None else add_four_to_sum(sums.weight, *weights),
        None if sums.dispersion is None else add_four_dispersions(sums.dispersion, below, e),
    )


def add_further(sums, asked, i, left, x, e):
    """Add the classes from index i on, of which `left` are left."""
    shortfall, weight, below = _addends(asked, i, left, x)
    return FurtherSums(
        None if sums.shortfall is None else add_to_sum(sums.shortfall, shortfall),
        None if sums.weight is None else add_to_sum(sums.weight, weight),
        None if sums.dispersion is None else add_to_sum(sums.dispersion, e * below),
    )


def values_of(sums):
    """Give the values of running sums over all lanes."""
    return tuple(None if running is None else sum_of(running) for running in sums)
