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
from .drivers import spatial_bundles, spatial_run, spatial_strips, task_rows
from .rows.backward import log_softmax_backward_lanes, softmax_backward_lanes
from .rows.blocked import Results, results_of
from .rows.bundles import bundle_of, empty_lanes
from .rows.few import logsumexp_by_vectors
from .rows.logits import view_lanes, view_logits
from .rows.options import LogitOptions, LogProbOptions, LossArgs, LossOptions
from .rows.planes import Planes
from .rows.slow_path import careful_logsumexp
from .simd.convert import demote
from .simd.memory import store, store_first
from .simd.reduce import greatest_lane
from .simd.vector import lanes_of
from .softmax import bundle_log_softmax, bundle_logsumexp, bundle_softmax


@kernel
def softmax_spatial_few(logits: Line, planes: Planes, options: LogitOptions, probs: Line):
    """Write the probabilities of rows of few classes."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _write(bundle_softmax, results_of(probs, options, 0.0), logits, planes, options, False, (task, run))


@kernel
def softmax_spatial(logits: Line, planes: Planes, options: LogitOptions, probs: Line):
    """Write the probabilities of rows."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        _write(bundle_softmax, results_of(probs, options, 0.0), logits, planes, options, True, (task, run))


@kernel
def log_softmax_spatial_few(logits: Line, planes: Planes, options: LogProbOptions, log_probs: Line):
    """Write the log-probabilities of rows of few classes."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        results = results_of(log_probs, options, -math.inf)
        _write(bundle_log_softmax, results, logits, planes, options, False, (task, run))


@kernel
def log_softmax_spatial(logits: Line, planes: Planes, options: LogProbOptions, log_probs: Line):
    """Write the log-probabilities of rows."""
    run = spatial_run(planes, logits)
    for task in prange(-(-planes.n_rows // run)):
        results = results_of(log_probs, options, -math.inf)
        _write(bundle_log_softmax, results, logits, planes, options, True, (task, run))


@staged
def _write(do_bundle, results, logits, planes, options, by_vectors, place):
    """Do a task whose results are as many as the logits."""
    rows, z = task_rows(*place, planes.n_rows), view_logits(logits, options)
    spatial_bundles(do_bundle, results, z, planes, by_vectors, results.out, rows)


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
        spatial_strips(_backward_strip, softmax_backward_lanes, (probs, dprobs), planes, dlogits, rows)


@kernel
def log_softmax_backward_spatial(log_probs: Line, dlog_probs: Line, planes: Planes, dlogits: Line):
    """Write the gradients of rows behind a log-softmax."""
    run = spatial_run(planes, log_probs)
    for task in prange(-(-planes.n_rows // run)):
        rows = task_rows(task, run, planes.n_rows)
        spatial_strips(_backward_strip, log_softmax_backward_lanes, (log_probs, dlog_probs), planes, dlogits, rows)


@staged
def _backward_strip(do_lanes, n_classes, strip):
    values, grads = strip.lanes
    for i in range(0, strip.n_rows, lanes_of(values)):
        later = bundle_of(strip.later[0], i), bundle_of(strip.later[1], i)
        results = bundle_of(strip.results, i)
        do_lanes(values[i * n_classes :], grads[i * n_classes :], n_classes, results, later)
