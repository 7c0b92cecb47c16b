"""Operations on rows whose classes do not lie next to each other, such as those of images: see `rows.planes`.

Each gives the bits of the kernels for classes that do.
"""

import math

import numpy as np
from numba import prange

from .compiling.jit import ComputeLine, Doubles, Labels, Line, kernel
from .compiling.staging import staged
from .cross_entropy import bundle_loss, bundle_with_grad, lane_factors, loss_of_row, with_grad
from .drivers import (
    Rows,
    each_row,
    independent_rows,
    panel_rows,
    panels_of,
    redo_rows,
    spatial_bundles,
    task_rows,
)
from .rows.backward import log_softmax_backward_row, softmax_backward_row
from .rows.blocked import Results, results_of
from .rows.logits import view_logits
from .rows.options import LogitOptions, LogProbOptions, LossArgs, LossOptions, args_from
from .rows.planes import Planes, panel_to_planes, planes_to_panel
from .rows.whole import log_softmax_row
from .simd.memory import finish_streams
from .softmax import (
    bundle_log_softmax,
    bundle_logsumexp,
    bundle_softmax,
    logsumexp_again,
    logsumexp_of_row,
    softmax_of_row,
)
from .tuning import CHUNK_ROWS

# Few classes ----------------------------------------------------------------------------------------------------------


@kernel
def softmax_spatial_few(logits: Line, planes: Planes, options: LogitOptions, probs: Line):
    """Write the probabilities of each row of few classes, a bundle of rows at a time."""
    for chunk in prange(-(-planes.n_rows // CHUNK_ROWS)):
        rows, args = task_rows(chunk, CHUNK_ROWS, planes.n_rows), results_of(probs, options, 0.0)
        spatial_bundles(bundle_softmax, args, view_logits(logits, options), planes, rows)


@kernel
def log_softmax_spatial_few(logits: Line, planes: Planes, options: LogProbOptions, log_probs: Line):
    """Write the log-probabilities of each row of few classes, a bundle of rows at a time."""
    for chunk in prange(-(-planes.n_rows // CHUNK_ROWS)):
        rows, args = task_rows(chunk, CHUNK_ROWS, planes.n_rows), results_of(log_probs, options, -math.inf)
        spatial_bundles(bundle_log_softmax, args, view_logits(logits, options), planes, rows)


@kernel
def logsumexp_spatial_few(logits: Line, planes: Planes, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of each row of few classes, a bundle of rows at a time."""
    for chunk in prange(-(-planes.n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, planes.n_rows)
        spatial_bundles(bundle_logsumexp, Results(lse), view_logits(logits, options), planes, rows)


@kernel
def cross_entropy_spatial_few(logits: Line, planes: Planes, labels: Labels, options: LossOptions, losses: Doubles):
    """Write the losses of rows of few classes, a bundle of rows at a time."""
    args = LossArgs(labels, options, losses)
    for chunk in prange(-(-planes.n_rows // CHUNK_ROWS)):
        rows = task_rows(chunk, CHUNK_ROWS, planes.n_rows)
        spatial_bundles(bundle_loss, args, view_logits(logits, options), planes, rows)


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
    """Write the losses and gradients of rows of few classes, a bundle of rows at a time."""
    args = LossArgs(labels, options, losses, factor, dloss, dlogits)
    for chunk in prange(-(-planes.n_rows // CHUNK_ROWS)):
        rows, given = task_rows(chunk, CHUNK_ROWS, planes.n_rows), (args, lane_factors(args))
        spatial_bundles(bundle_with_grad, given, view_logits(logits, options), planes, rows)


# Many classes: a mask or class probabilities would have to be in panels as well, and are left to rows -----------------


@kernel
def softmax_spatial(logits: Line, planes: Planes, options: LogitOptions, probs: Line):
    """Write the probabilities of each row, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        rows, panel = panel_rows(planes, panels, task), np.empty((panels.size, planes.n_classes), logits.dtype)
        planes_to_panel(logits, rows, panel)
        each_row(softmax_of_row, True, Results(panel), view_logits(panel, options), Rows(0, rows.n_rows))
        _write(panel, rows, probs)


@kernel
def log_softmax_spatial(logits: Line, planes: Planes, options: LogProbOptions, log_probs: Line):
    """Write the log-probabilities of each row, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        rows, panel = panel_rows(planes, panels, task), np.empty((panels.size, planes.n_classes), logits.dtype)
        planes_to_panel(logits, rows, panel)
        args = view_logits(panel.flat, options), panel.flat
        independent_rows(log_softmax_row, args, planes.n_classes, Rows(0, rows.n_rows))
        _write(panel, rows, log_probs)


@kernel
def logsumexp_spatial(logits: Line, planes: Planes, options: LogitOptions, lse: Line):
    """Write log Σ_j e^z_j of each row, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        rows, panel = panel_rows(planes, panels, task), np.empty((panels.size, planes.n_classes), logits.dtype)
        planes_to_panel(logits, rows, panel)
        z, args, all_of_them = view_logits(panel, options), Results(lse[rows.row :]), Rows(0, rows.n_rows)
        again, _ = each_row(logsumexp_of_row, False, args, z, all_of_them)
        redo_rows(logsumexp_again, again, args, z, all_of_them)


@kernel
def cross_entropy_spatial(logits: Line, planes: Planes, labels: Labels, options: LossOptions, losses: Doubles):
    """Write each row's loss, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        rows, panel = panel_rows(planes, panels, task), np.empty((panels.size, planes.n_classes), logits.dtype)
        planes_to_panel(logits, rows, panel)
        args = args_from(LossArgs(labels, options, losses), rows.row)
        each_row(loss_of_row, False, args, view_logits(panel, options), Rows(0, rows.n_rows))


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
    """Write each row's loss and gradient, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        rows, panel = panel_rows(planes, panels, task), np.empty((panels.size, planes.n_classes), logits.dtype)
        planes_to_panel(logits, rows, panel)
        args = args_from(LossArgs(labels, options, losses, factor, dloss), rows.row, panel)
        each_row(with_grad, True, args, view_logits(panel, options), Rows(0, rows.n_rows))
        _write(panel, rows, dlogits)


@kernel
def softmax_backward_spatial(probs: Line, dprobs: Line, planes: Planes, dlogits: Line):
    """Write each row's gradient behind a softmax, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        _backward_panel(softmax_backward_row, probs, dprobs, planes, panels, task, dlogits)


@kernel
def log_softmax_backward_spatial(log_probs: Line, dlog_probs: Line, planes: Planes, dlogits: Line):
    """Write each row's gradient behind a log-softmax, a panel of rows at a time."""
    panels = panels_of(planes)
    for task in prange(panels.n_panels):
        _backward_panel(log_softmax_backward_row, log_probs, dlog_probs, planes, panels, task, dlogits)


@staged
def _backward_panel(do_row, values, grads, planes, panels, task, dlogits):
    rows, shape = panel_rows(planes, panels, task), (panels.size, planes.n_classes)
    panel, grads_panel = np.empty(shape, values.dtype), np.empty(shape, values.dtype)
    planes_to_panel(values, rows, panel)
    planes_to_panel(grads, rows, grads_panel)
    args = panel.flat, grads_panel.flat, panel.flat, False
    independent_rows(do_row, args, planes.n_classes, Rows(0, rows.n_rows))
    _write(panel, rows, dlogits)


@staged
def _write(panel, rows, out):
    panel_to_planes(panel, rows, out)
    finish_streams()
