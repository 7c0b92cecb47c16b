"""The linear layer and the loss together, without the (N, C) array of logits between them."""

import numpy as np
from numba import types

from fastsoftmax import head as face
from fastsoftmax.reference import LinearGrads

from .chunks import write_gradients, write_losses
from .labels import check_labels
from .layer import layer_problem
from .losses import REDUCTIONS, factor_of, reduced, targets_of, with_stats
from .matrices import (
    bias_of,
    check_bias,
    check_matrices,
    matrix_of,
    result_for,
    settle,
    weight_of,
    weight_result_for,
)
from .memory import overlap, room, view_as
from .options import (
    check_types,
    check_upstream,
    constant,
    divisor_of,
    loss_options,
    number_or,
    stats_of,
    upstream,
)
from .problems import OUT_OVERLAPS, WORKSPACE, fine, first_of, is_fine, problem
from .rows import check_result, check_shape
from .typing import by_type, is_integer, is_none, jitable, literal, refuse

_WORKSPACE = face.WORKSPACE


def linear_cross_entropy(
    inputs,
    weight,
    bias,
    labels,
    class_weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=None,
    z_loss=None,
    softcap=None,
    scale=None,
    reduction="mean",
    return_stats=False,
    workspace=_WORKSPACE,
):
    _check_layer(inputs, weight, bias, labels, workspace)
    check_types(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale)
    constant("reduction", reduction, REDUCTIONS)
    constant("return_stats", return_stats, (False, True))

    def compute(
        inputs,
        weight,
        bias,
        labels,
        class_weight=None,
        sample_weight=None,
        ignore_index=-100,
        label_smoothing=None,
        z_loss=None,
        softcap=None,
        scale=None,
        reduction="mean",
        return_stats=False,
        workspace=_WORKSPACE,
    ):
        x, w = matrix_of(inputs), weight_of(weight)
        b = bias_of(bias, w.shape[1], x)
        # Options and labels are checked by what the logits will be like: there are none yet.
        like = logits_like(x, w)
        y, probs, counted, label_problem = targets_of(like, -1, labels, ignore_index)
        stats = stats_of(return_stats, like)
        options, option_problem = loss_options(
            like, -1, probs, class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, stats
        )
        losses, divisor = room((x.shape[0],), np.float64), 0.0
        found = first_of((layer_problem(x, w, b), label_problem, option_problem, workspace_problem(workspace)))
        if is_fine(found, losses, None):
            divisor = divisor_of(options, y, counted, ignore_index)
            write_losses(x, w, b, y, ignore_index, options, losses, workspace)
        loss = reduced(losses, divisor, reduction, like, losses.shape)
        return with_stats((loss,), stats, like, losses.shape)

    return compute


def linear_cross_entropy_with_grad(
    inputs,
    weight,
    bias,
    labels,
    class_weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=None,
    z_loss=None,
    softcap=None,
    scale=None,
    reduction="mean",
    return_stats=False,
    dloss=None,
    inputs_grad=True,
    workspace=_WORKSPACE,
    out=None,
):
    _check_layer(inputs, weight, bias, labels, workspace)
    check_types(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale)
    check_upstream(dloss, constant("reduction", reduction, REDUCTIONS), 2)
    constant("return_stats", return_stats, (False, True))
    has_inputs_grad, has_bias = constant("inputs_grad", inputs_grad, (False, True)), not is_none(bias)
    _check_out(out, inputs, has_inputs_grad, has_bias)

    def compute(
        inputs,
        weight,
        bias,
        labels,
        class_weight=None,
        sample_weight=None,
        ignore_index=-100,
        label_smoothing=None,
        z_loss=None,
        softcap=None,
        scale=None,
        reduction="mean",
        return_stats=False,
        dloss=None,
        inputs_grad=True,
        workspace=_WORKSPACE,
        out=None,
    ):
        x, w = matrix_of(inputs), weight_of(weight)
        b = bias_of(bias, w.shape[1], x)
        like = logits_like(x, w)
        y, probs, counted, label_problem = targets_of(like, -1, labels, ignore_index)
        stats = stats_of(return_stats, like)
        options, option_problem = loss_options(
            like, -1, probs, class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, stats
        )
        factor, row_factors, upstream_problem = upstream(dloss, like)
        out_dinputs, out_dweight, out_dbias = parts_of(out)
        inputs_shape = x.shape if has_inputs_grad else (0, 0)
        read = (x, w, b, y, row_factors, options[0], options[1], options[4])
        dinputs = result_for(out_dinputs, inputs_shape, x, read)
        dweight = weight_result_for(out_dweight, w, read)
        dbias = result_for(out_dbias, b.shape, x, read)
        losses, divisor = room((x.shape[0],), np.float64), 0.0
        found = (
            layer_problem(x, w, b),
            label_problem,
            option_problem,
            upstream_problem,
            workspace_problem(workspace),
            check_shape(out_dinputs, inputs_shape),
            check_shape(out_dweight, w.shape),
            check_shape(out_dbias, b.shape),
            results_problem(dinputs, dweight, dbias),
        )
        if not is_fine(first_of(found), dinputs, dweight):
            losses[:], dbias[:] = np.nan, np.nan
        else:
            divisor = divisor_of(options, y, counted, ignore_index)
            factor = factor_of(reduction, factor, divisor, counted) * number_or(options[7], 1.0)
            upstream_factors = (factor, row_factors)
            write_gradients(
                x, w, b, y, ignore_index, options, upstream_factors, losses, dinputs, dweight, dbias, workspace
            )
        loss = reduced(losses, divisor, reduction, like, losses.shape)
        grads = LinearGrads(
            given_if(has_inputs_grad, settle(dinputs, out_dinputs)),
            settle(dweight, out_dweight),
            given_if(has_bias, settle(dbias, out_dbias)),
        )
        return with_stats((loss, grads), stats, like, losses.shape)

    return compute


# Arguments ------------------------------------------------------------------------------------------------------------


def _check_layer(inputs, weight, bias, labels, workspace):
    check_matrices({"inputs": inputs}, weight=weight)
    check_bias(bias, inputs)
    check_labels(inputs, labels)
    if not is_integer(workspace) and type(literal(workspace)) is not int:
        refuse("workspace", "an integer", workspace)


def _check_out(out, inputs, has_inputs_grad, has_bias):
    if is_none(out):
        return
    if not (isinstance(out, types.BaseTuple) and len(out) == 3):
        refuse("out", "LinearGrads or None", out)
    for name, each, ndim in zip(LinearGrads._fields, out, (2, 2, 1), strict=True):
        check_result(f"out.{name}", each, inputs, ndim)
    for name, each, exists in (("dinputs", out[0], has_inputs_grad), ("dbias", out[2], has_bias)):
        if not (exists or is_none(each)):
            refuse(f"out.{name}", "None, as there is no such gradient", each)


@by_type
def parts_of(out):
    """Give the arrays of `out`, None where there is none."""
    if is_none(out):
        return lambda out: (None, None, None)
    return lambda out: (out[0], out[1], out[2])


@by_type
def given_if(exists, result):
    """Give a result that exists, else None."""
    if literal(exists):
        return lambda exists, result: result
    return lambda exists, result: None


@jitable
def workspace_problem(workspace):
    """Find what is wrong with the size of the workspace."""
    return fine() if workspace >= 1 else problem(WORKSPACE, 0.0, workspace, 0, 0)


@jitable
def results_problem(dinputs, dweight, dbias):
    """Find whether arrays of results overlap."""
    apart = not (overlap(dinputs, (dweight, dbias)) or overlap(dweight, (dbias,)))
    return fine() if apart else problem(OUT_OVERLAPS, 0.0, 0, 0, 0)


@jitable
def logits_like(x, w):
    """Give what stands for the logits where only their shape and dtype are asked for: nobody reads its elements."""
    return view_as(x, (x.shape[0], w.shape[1]), x.dtype)
