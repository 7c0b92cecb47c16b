"""One pass over a bundle of rows in lanes, as `passes` has it for a row: their greatest logits, and their sums."""

import math
from typing import NamedTuple

from ..compiling.staging import staged
from ..compiling.values import Vector
from ..compiling.views import Array
from ..simd.accumulate import Sum, add_four_to_sum, add_to_sum, empty_sum
from ..simd.memory import load, store
from ..simd.vector import greater, lanes_of, less, splat, where_equal
from .bundles import NO_LABEL, ClassVectors, ask_for_class, store_class
from .further import add_four_dispersions, finite, shortfall_of
from .logits import are_near, exp_logit, exp_near_logit, gap, has_slope, logit
from .options import LossOptions, has_stats
from .targets import class_spread, spreads, sums_weights, weight_of_class
from .vector_sums import begin_sums, fold_lanes, keep_sums, kept_sums


@staged
def lanes_range(lanes, n_classes):
    """Find each row's max_j z_j (NaN is passed over), and whether `exp_near` will do for all of them."""
    width = lanes_of(lanes)
    m, low = splat(lanes, -math.inf), splat(lanes, math.inf)
    for j in range(n_classes):
        z = load(lanes, j * width)
        m, low = greater(z, m), less(z, low)
    return m, False if has_slope(lanes) else are_near(lanes, m, low)


@staged
def lanes_position(lanes, n_classes, top):
    """Find each row's first entry equal to `top`, as a float; NO_LABEL where there is none."""
    width = lanes_of(lanes)
    position = splat(lanes, NO_LABEL)
    number = splat(lanes, n_classes)
    for j in range(n_classes - 1, -1, -1):
        number = number - splat(lanes, 1.0)
        position = where_equal(load(lanes, j * width), top, number, position)
    return position


class LaneSums(NamedTuple):
    """What one pass over a bundle finds of each row; what nobody asked for is None."""

    others: Sum  # Σ_{j≠skip} e_j
    z_label: Vector
    w_label: Vector | None
    shortfall: Sum | None  # Σ_j u_j (m − q_j)
    weight: Sum | None  # Σ_j u_j
    dispersion: Sum | None  # Σ_j e_j (m − q_j)


class BundleSums(NamedTuple):
    """What is asked for of a bundle beside Σ e_j, and of what."""

    labels: Vector  # whose z_y and w_y are wanted, NO_LABEL where there is none
    skip: Vector | None  # the classes that Σ e_j leaves out; None for all that are the maximum
    top: Vector
    options: LossOptions | None = None
    spread: Array | None = None  # u_j: see `targets.spread_lanes`
    by_vectors: bool = False
    later: ClassVectors | None = None  # what to ask for ahead


@staged
def lanes_exp_sum(lanes, n_classes, asked, near, scale, out):
    """Store e_j in `out`, if there is one, and find the sums of each row.

    They are added up four classes at a time, or `by_vectors` in the order of `passes.exp_sum`, and to the same bits.
    """
    add_up = _vectors_exp_sum if asked.by_vectors else _lanes_exp_sum
    if near:
        sums = add_up(exp_near_logit, lanes, n_classes, asked, scale, out)
    else:
        sums = add_up(exp_logit, lanes, n_classes, asked, scale, out)
    return sums


@staged
def _vectors_exp_sum(exp, lanes, n_classes, asked, scale, out):
    """Find the sums as those of vectors of classes: see `vector_sums`."""
    sums, width = _no_sums(lanes, asked.options), lanes_of(lanes)
    none = _running(sums)
    room = begin_sums(lanes, none)
    fours = 0 if has_slope(lanes) else n_classes // (4 * width) * (4 * width)
    for first in range(0, fours, 4 * width):
        for j in range(first, first + width):
            sums = _with_running(sums, kept_sums(room, j - first, none))
            four = j, j + width, j + 2 * width, j + 3 * width
            sums = _add_classes(exp, lanes, four, asked, scale, out, sums)
            keep_sums(room, j - first, _running(sums))
    for j in range(fours, n_classes):
        lane = (j - fours) % width
        sums = _with_running(sums, kept_sums(room, lane, none))
        sums = _add_classes(exp, lanes, (j,), asked, scale, out, sums)
        keep_sums(room, lane, _running(sums))
    return _with_running(sums, fold_lanes(room, none))


def _running(sums):
    """Give the running sums."""
    return sums.others, sums.shortfall, sums.weight, sums.dispersion


def _with_running(sums, running):
    others, shortfall, weight, dispersion = running
    return sums._replace(others=others, shortfall=shortfall, weight=weight, dispersion=dispersion)


def _no_sums(lanes, options):
    zero = splat(lanes, 0.0)
    if options is None:
        return LaneSums(empty_sum(lanes), zero, None, None, None, None)
    wanted = spreads(options), sums_weights(options), has_stats(options)
    further = [empty_sum(lanes) if each else None for each in wanted]
    return LaneSums(empty_sum(lanes), zero, None if options.class_weight is None else zero, *further)


@staged
def _lanes_exp_sum(exp, lanes, n_classes, asked, scale, out):
    sums = _no_sums(lanes, asked.options)
    fours = 0 if has_slope(lanes) else n_classes // 4 * 4  # of a softcap one is code enough
    for j in range(0, fours, 4):
        sums = _add_classes(exp, lanes, (j, j + 1, j + 2, j + 3), asked, scale, out, sums)
    for j in range(fours, n_classes):
        sums = _add_classes(exp, lanes, (j,), asked, scale, out, sums)
    return sums


def _add_classes(exp, lanes, classes, asked, scale, out, sums):
    """Add one class or four, the addends of which go to each other first: see `add_four_to_sum`."""
    found, z_label, w_label = [], sums.z_label, sums.w_label
    for j in classes:
        addends, z_label, w_label = _one_class(exp, lanes, j, asked, scale, out, z_label, w_label)
        found.append(addends)
    add = add_to_sum if len(classes) == 1 else add_four_to_sum
    others, shortfalls, weights, dispersions = zip(*found, strict=True)
    if sums.dispersion is None:
        dispersion = None
    elif asked.by_vectors and len(classes) > 1:
        dispersion = add_four_dispersions(sums.dispersion, *reversed(list(zip(*dispersions, strict=True))))
    else:
        dispersion = add(sums.dispersion, *(e * below for e, below in dispersions))
    return LaneSums(
        add(sums.others, *others),
        z_label,
        w_label,
        None if sums.shortfall is None else add(sums.shortfall, *shortfalls),
        None if sums.weight is None else add(sums.weight, *weights),
        dispersion,
    )


def _one_class(exp, lanes, j, asked, scale, out, z_label, w_label):
    """Store e_j in `out`, and give what it adds to the sums (0 where j is to be skipped), and z_y and w_y so far.

    Of the dispersion that are e_j and m − q_j.
    """
    options, zero, number = asked.options, splat(lanes, 0.0), splat(lanes, j)
    z = load(lanes, j * lanes_of(lanes))
    if asked.later is not None:
        ask_for_class(asked.later, j)
    x = logit(z, scale.transform)
    e = exp(x, scale)
    if out is not None:
        store(out, j * lanes_of(lanes), e)
    shortfall = weight = dispersion = None
    if w_label is not None:
        w_label = where_equal(asked.labels, number, splat(lanes, weight_of_class(options, j)), w_label)
    if options is not None and (spreads(options) or has_stats(options)):
        below = gap(scale, x)
        if spreads(options):
            u = class_spread(options, asked.spread, j, lanes)
            shortfall = shortfall_of(options, u, below)
            weight = u if sums_weights(options) else None
        if has_stats(options):
            dispersion = e, finite(below)
    z_label = where_equal(asked.labels, number, z, z_label)
    skip = (z, asked.top) if asked.skip is None else (asked.skip, number)
    return (where_equal(*skip, zero, e), shortfall, weight, dispersion), z_label, w_label


@staged
def finish_lanes(finish, exps, n_classes, labels, entry, given, results):
    """Write finish(e_j, …) of e_j in `exps`, and of e_y what it makes of `entry`, if there is one."""
    width = lanes_of(exps)
    for j in range(n_classes):
        value = load(exps, j * width)
        if entry is not None:
            value = where_equal(labels, splat(exps, j), entry, value)
        store_class(results, j, finish(value, j, given))
