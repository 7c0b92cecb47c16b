"""Cross entropy over whole arrays, with and without its gradient, by regime."""

from numba import prange

from .compiling.jit import ComputeLine, Doubles, Labels, Matrix, kernel
from .compiling.staging import staged
from .drivers import blocked_rows, bundled_rows, each_row, redo_rows, run_of, streamed_rows, task_rows
from .rows import blocked
from .rows.blocked import cross_entropy_again
from .rows.bundles import NO_LABEL, drop_ignored, empty_lanes, load_labels, results_of_bundle, write_lanes
from .rows.cached import cross_entropy_with_grad_row, is_small, room_for_exps
from .rows.few_losses import cross_entropy_lanes, cross_entropy_with_grad_lanes, without_ignored
from .rows.gradient import (
    gradient,
    gradient_anew,
    gradient_of,
    gradient_of_logits,
    gradient_terms,
    label_entry,
    no_gradient_of_logits,
    no_gradient_terms,
)
from .rows.logits import has_slope, view_logits, view_results
from .rows.options import (
    LossArgs,
    LossOptions,
    factor_of,
    has_label,
    is_left_out,
    label_of,
    leave_out_after,
    shares_factor,
    store_losses,
)
from .rows.passes import Range
from .rows.stats import store_found, store_lane_stats
from .rows.targets import spread_lanes
from .rows.whole import cross_entropy_row
from .simd.accumulate import sum_all
from .simd.convert import promote
from .simd.memory import load, store
from .simd.reduce import first_lane
from .simd.vector import lanes_of, splat
from .tuning import CHUNK_ROWS
from .vecmath.quotient import multiply


@kernel
def cross_entropy(logits: Matrix, labels: Labels, options: LossOptions, losses: Doubles):
    """Write each row's loss; 0 for ignored rows."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    args = LossArgs(labels, options, losses)
    for task in prange(-(-n_rows // run)):
        each_row(loss_of_row, False, args, view_logits(logits, options), task_rows(task, run, n_rows))


@staged
def loss_of_row(args, logits, index, row, state):
    """Write one row's loss: what `each_row` takes."""
    y = label_of(args, index)
    found, top = cross_entropy_row(logits, row, y, args.options, following=row.following)
    store_found(args, index, found)
    leave_out_after(args, index, row.start, row.stop)
    return Range(top, None), False, state


@kernel
def cross_entropy_with_grad(
    logits: Matrix,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dlogits: Matrix,
):
    """Write each row's loss, and factor · dloss · ∂L/∂q · ∂q/∂z over the scale; both are 0 for ignored rows."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    for task in prange(-(-n_rows // run)):
        room = room_for_exps(dlogits, dlogits.shape[1])
        each_row(with_grad, True, args, view_logits(logits, options), task_rows(task, run, n_rows), room)


@staged
def with_grad(args, logits, index, row, room):
    """Write one row's loss and gradient: what `each_row` takes."""
    y, factor = label_of(args, index), factor_of(args, index)
    found, following = cross_entropy_with_grad_row(logits, row, y, factor, args.options, args.gradients, room)
    store_found(args, index, found)
    leave_out_after(args, index, row.start, row.stop)
    return following, False, room


@kernel
def cross_entropy_with_grad_streamed(
    logits: Matrix,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dlogits: Matrix,
):
    """Write each row's loss, and its gradient past the caches, while the next row is computed."""
    n_rows, run = logits.shape[0], run_of(logits.shape[0])
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    for task in prange(-(-n_rows // run)):
        rows, z, dz = task_rows(task, run, n_rows), view_logits(logits, options), view_results(dlogits, options)
        if not has_slope(z):
            nothing = gradient, gradient_of(z, multiply, no_gradient_terms(options, 0))
            again = streamed_rows(_stream_with_grad, nothing, True, args, z, dz, rows)
        else:
            nothing = gradient_anew, no_gradient_of_logits(z.flat, options)
            again = streamed_rows(_stream_with_grad_anew, nothing, False, args, z, dz, rows)
        redo_rows(cross_entropy_again, again, args, z, rows)


@staged
def _stream_with_grad(args, logits, index, row, exps, pending):
    y, factor = label_of(args, index), factor_of(args, index)
    found, top = cross_entropy_row(logits, row, y, args.options, exps, pending, row.following)
    store_found(args, index, found)
    if y is not None:
        exps.values[exps.at + y] = first_lane(found.entry)
    terms = gradient_terms(found, factor, args.options, row.start)
    again = is_small(logits, terms.weight, terms.total) | is_left_out(args, index)
    return (gradient, gradient_of(logits, multiply, terms)), top, again


@staged
def _stream_with_grad_anew(args, logits, index, row, exps, pending):
    y, factor = label_of(args, index), factor_of(args, index)
    found, top = cross_entropy_row(logits, row, y, args.options, None, pending, row.following)
    store_found(args, index, found)
    terms = gradient_terms(found, factor, args.options, row.start)
    given = gradient_of_logits(logits, row.top, terms, label_entry(found, y))
    return (gradient_anew, given), top, is_small(logits, terms.weight, terms.total) | is_left_out(args, index)


@kernel
def cross_entropy_few(logits: Matrix, labels: Labels, options: LossOptions, losses: Doubles):
    """Write the losses of rows of few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    args = LossArgs(labels, options, losses)
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, n_rows)
        bundled_rows(bundle_loss, args, view_logits(logits.flat, options), n_classes, rows)


@staged
def bundle_loss(args, lanes, bundle):
    """Write the losses of a bundle."""
    labels, spread = bundle_labels(args, lanes, bundle), spread_lanes(args.options, bundle)
    found, _ = cross_entropy_lanes(lanes, bundle, labels, args.options, lanes, spread)
    store_bundle(args, bundle, found, labels)


@staged
def bundle_labels(args, lanes, bundle):
    """Load the labels of a bundle, in float64 lanes; without any, each row's is none."""
    width = lanes_of(lanes)
    if not has_label(args.options):
        return promote(splat(lanes, NO_LABEL))
    return load_labels(args.labels, bundle.row, bundle.n_rows, width, args.options.ignore_index)


@staged
def store_bundle(args, bundle, found, labels):
    """Store the losses and the statistics of a bundle."""
    store_losses(args, bundle.row, bundle.n_rows, without_ignored(found.loss, labels))
    store_lane_stats(args, bundle.row, bundle.n_rows, found)


@kernel
def cross_entropy_with_grad_few(
    logits: Matrix,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dlogits: Matrix,
):
    """Write the losses and gradients of rows of few classes, a bundle of rows at a time."""
    n_rows, n_classes = logits.shape
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    for chunk in prange(-(-n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, n_rows)
        given = args, lane_factors(args)
        bundled_rows(bundle_with_grad, given, view_logits(logits.flat, options), n_classes, rows)


@staged
def lane_factors(args):
    """Make room for the factor of each lane's gradient: what all rows share, to begin with."""
    factors = empty_lanes(args.losses)
    for lane in range(0, 16, lanes_of(factors)):
        store(factors, lane, splat(factors, args.factor))
    return factors


@staged
def bundle_with_grad(given, lanes, bundle):
    """Write the losses of a bundle, and the gradient where its logits are in their own array."""
    args, factors = given
    width = lanes_of(lanes)
    if not shares_factor(args):
        for lane in range(bundle.n_rows):
            factors[lane] = factor_of(args, bundle.row + lane)
    labels, spread = bundle_labels(args, lanes, bundle), spread_lanes(args.options, bundle)
    found = cross_entropy_with_grad_lanes(lanes, bundle, labels, load(factors, 0, width), args.options, spread)
    store_bundle(args, bundle, found, labels)
    drop_ignored(results_of_bundle(lanes, bundle), bundle.n_classes, labels)
    write_lanes(lanes, bundle, args.gradients)


@kernel
def cross_entropy_blocked(logits: Matrix, labels: Labels, options: LossOptions, losses: Doubles):
    """Write the losses of long rows, which all threads share."""
    blocked_rows(prange, blocked.CROSS_ENTROPY, LossArgs(labels, options, losses), view_logits(logits, options))


@kernel
def cross_entropy_with_grad_blocked(
    logits: Matrix,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dlogits: Matrix,
):
    """Write the losses and gradients of long rows, which all threads share."""
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    z, dz = view_logits(logits, options), view_results(dlogits, options)
    blocked_rows(prange, blocked.CROSS_ENTROPY_WITH_GRAD, args, z, dz)


@kernel
def total_loss(losses: Doubles) -> float:
    """Add up the rows' losses, always in the same order."""
    return sum_all(losses)
