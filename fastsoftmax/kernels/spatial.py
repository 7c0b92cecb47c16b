"""Operations on rows whose classes do not lie next to each other, such as those of images: see `rows.planes`.

Each gives the bits of the kernels for classes that do: those for few classes add up in the order of the kernels for few
classes, the others in that of rows one by one.
"""

import math

import numpy as np
from numba import prange

from .compiling.jit import ComputeLine, Doubles, Labels, Line, kernel
from .compiling.staging import noinline, staged
from .cross_entropy import bundle_loss, bundle_with_grad, lane_factors
from .drivers import spatial_bundles, spatial_run, task_rows
from .rows.backward import log_softmax_backward_lanes, softmax_backward_lanes
from .rows.blocked import Results, results_of
from .rows.bundles import empty_lanes
from .rows.few import logsumexp_by_vectors
from .rows.logits import view_lanes, view_logits
from .rows.options import LogitOptions, LogProbOptions, LossArgs, LossOptions
from .rows.planes import Planes, planes_to_strip, rows_from, rows_of_a_strip, strip_to_planes
from .rows.slow_path import careful_logsumexp
from .simd.convert import demote
from .simd.memory import finish_streams, store, store_first
from .simd.reduce import greatest_lane
from .simd.vector import lanes_of
from .softmax import bundle_log_softmax, bundle_logsumexp, bundle_softmax


@kernel
def softmax_spatial_few(logits: Line, planes: Planes, options: LogitOptions, probs: Line):
    """Write the probabilities of rows of few classes."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _softmax(logits, planes, options, False, probs, task, run)


@kernel
def softmax_spatial(logits: Line, planes: Planes, options: LogitOptions, probs: Line):
    """Write the probabilities of rows."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _softmax(logits, planes, options, True, probs, task, run)


@staged
def _softmax(logits, planes, options, by_vectors, probs, task, run):
    rows, args = task_rows(task, run, planes.n_rows), results_of(probs, options, 0.0)
    spatial_bundles(bundle_softmax, args, view_logits(logits, options), planes, by_vectors, probs, rows)


@kernel
def log_softmax_spatial_few(logits: Line, planes: Planes, options: LogProbOptions, log_probs: Line):
    """Write the log-probabilities of rows of few classes."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _log_softmax(logits, planes, options, False, log_probs, task, run)


@kernel
def log_softmax_spatial(logits: Line, planes: Planes, options: LogProbOptions, log_probs: Line):
    """Write the log-probabilities of rows."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _log_softmax(logits, planes, options, True, log_probs, task, run)


@staged
def _log_softmax(logits, planes, options, by_vectors, log_probs, task, run):
    rows, args = task_rows(task, run, planes.n_rows), results_of(log_probs, options, -math.inf)
    spatial_bundles(bundle_log_softmax, args, view_logits(logits, options), planes, by_vectors, log_probs, rows)


@kernel
def logsumexp_spatial_few(logits: Line, planes: Planes, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of rows of few classes."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        rows, z = task_rows(task, run, planes.n_rows), view_logits(logits, options)
        spatial_bundles(bundle_logsumexp, Results(lse), z, planes, False, None, rows)


@kernel
def logsumexp_spatial(logits: Line, planes: Planes, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of rows."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        rows, z = task_rows(task, run, planes.n_rows), view_logits(logits, options)
        spatial_bundles(_bundle_logsumexp, Results(lse), z, planes, True, None, rows)


@staged
def _bundle_logsumexp(results, lanes, bundle):
    found = logsumexp_by_vectors(lanes, bundle)
    store_first(results.out, bundle.row, bundle.n_rows, demote(found.lse, lanes))
    if greatest_lane(found.uncertain) > 0:
        _logsumexp_again(results, lanes, bundle, found.uncertain)


@noinline
def _logsumexp_again(results, lanes, bundle, uncertain):
    """Do the rows that are not certain with care, one by one."""
    width, n_classes = lanes_of(lanes), bundle.n_classes
    flags, room = empty_lanes(uncertain), np.empty(n_classes, lanes.dtype)
    store(flags, 0, uncertain)
    for lane in range(0, bundle.n_rows):
        if flags[lane] > 0:
            for j in range(n_classes):
                room[j] = lanes[j * width + lane]
            results.out[bundle.row + lane] = careful_logsumexp(view_lanes(room, lanes), 0, n_classes)


@kernel
def cross_entropy_spatial_few(logits: Line, planes: Planes, labels: Labels, options: LossOptions, losses: Doubles):
    """Write the losses of rows of few classes."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _cross_entropy(logits, planes, False, LossArgs(labels, options, losses), task, run)


@kernel
def cross_entropy_spatial(logits: Line, planes: Planes, labels: Labels, options: LossOptions, losses: Doubles):
    """Write the losses of rows."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _cross_entropy(logits, planes, True, LossArgs(labels, options, losses), task, run)


@staged
def _cross_entropy(logits, planes, by_vectors, args, task, run):
    rows, z = task_rows(task, run, planes.n_rows), view_logits(logits, args.options)
    spatial_bundles(bundle_loss, args, z, planes, by_vectors, None, rows)


@kernel
def cross_entropy_with_grad_spatial_few(
    logits: Line,
    planes: Planes,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dlogits: Line,
):
    """Write the losses and gradients of rows of few classes."""
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _cross_entropy_with_grad(logits, planes, False, args, task, run)


@kernel
def cross_entropy_with_grad_spatial(
    logits: Line,
    planes: Planes,
    labels: Labels,
    options: LossOptions,
    factor: float,
    dloss: ComputeLine,
    losses: Doubles,
    dlogits: Line,
):
    """Write the losses and gradients of rows."""
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _cross_entropy_with_grad(logits, planes, True, args, task, run)


@staged
def _cross_entropy_with_grad(logits, planes, by_vectors, args, task, run):
    rows, given = task_rows(task, run, planes.n_rows), (args, lane_factors(args))
    z = view_logits(logits, args.options)
    spatial_bundles(bundle_with_grad, given, z, planes, by_vectors, args.dlogits, rows)


@kernel
def softmax_backward_spatial(probs: Line, dprobs: Line, planes: Planes, dlogits: Line):
    """Write the gradients of rows behind a softmax."""
    run = spatial_run(planes, probs)
    for task in prange(-(-planes.n_rows // run)):
        rows = task_rows(task, run, planes.n_rows)
        _backward_bundles(softmax_backward_lanes, probs, dprobs, planes, dlogits, rows)


@kernel
def log_softmax_backward_spatial(log_probs: Line, dlog_probs: Line, planes: Planes, dlogits: Line):
    """Write the gradients of rows behind a log-softmax."""
    run = spatial_run(planes, log_probs)
    for task in prange(-(-planes.n_rows // run)):
        rows = task_rows(task, run, planes.n_rows)
        _backward_bundles(log_softmax_backward_lanes, log_probs, dlog_probs, planes, dlogits, rows)


@staged
def _backward_bundles(do_lanes, values, grads, planes, out, rows):
    """Go through rows as `spatial_bundles` does, with two inputs."""
    n_classes, width, row = planes.n_classes, lanes_of(values), rows.first
    most = rows_of_a_strip(values, n_classes)
    strip, grads_strip = np.empty(most * n_classes, values.dtype), np.empty(most * n_classes, values.dtype)
    while row < rows.last:
        n_rows = rows_from(planes, row, min(most, rows.last - row), out)
        planes_to_strip(values, planes, row, n_rows, strip)
        planes_to_strip(grads, planes, row, n_rows, grads_strip)
        for i in range(0, n_rows, width):
            do_lanes(strip[i * n_classes :], grads_strip[i * n_classes :], n_classes)
        strip_to_planes(strip, planes, row, n_rows, out)
        row += n_rows
    finish_streams()
