"""The linear layer and the loss together, without the (N, C) array of logits between them."""

import numpy as np
from numba import types

from fastsoftmax import head_rows
from fastsoftmax.reference import LinearGrads

from .chunks import write_gradients, write_losses
from .entries import checked_by
from .labels import check_labels
from .layer import layer_problem
from .losses import asked_of, factor_of, reduced, with_stats
from .matrices import (
    bias_of,
    check_layer,
    matrix_of,
    result_for,
    settle,
    weight_of,
    weight_result_for,
)
from .memory import overlap, room, view_as
from .options import (
    check_options,
    check_upstream,
    divisor_of,
    number_or,
    upstream,
)
from .problems import OUT_OVERLAPS, WORKSPACE, fine, first_of, is_fine, problem
from .rows import check_result, check_shape
from .typing import by_type, is_integer, is_none, jitable, literal, refuse

_WORKSPACE = head_rows.WORKSPACE


def _check(given):
    """Require types that the head takes."""
    inputs, workspace = check_layer(given), given["workspace"]
    check_labels(inputs, given["labels"])
    if not is_integer(workspace) and type(literal(workspace)) is not int:
        refuse("workspace", "an integer", workspace)
    check_options(given)
    check_upstream(given, 2)
    if not is_none(given.get("out")):
        _check_out(given["out"], inputs, literal(given["inputs_grad"]), not is_none(given["bias"]))


@checked_by(_check)
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
    x, w = matrix_of(inputs), weight_of(weight)
    b, like = bias_of(bias, w.shape[1], x), logits_like(x, w)
    of_rows, of_logits = (class_weight, sample_weight, label_smoothing, z_loss), (softcap, scale, None)
    y, counted, options, found = asked_of(like, -1, labels, ignore_index, of_rows, of_logits, return_stats)
    losses, divisor = room((x.shape[0],), np.float64), 0.0
    if is_fine(first_of((layer_problem(x, w, b), found, workspace_problem(workspace))), losses, None):
        divisor = divisor_of(options, y, counted, ignore_index)
        write_losses(x, w, b, y, ignore_index, options, losses, workspace)
    loss = reduced(losses, divisor, reduction, like, losses.shape)
    return with_stats((loss,), options, like, losses.shape)


@checked_by(_check)
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
    x, w = matrix_of(inputs), weight_of(weight)
    b, like = bias_of(bias, w.shape[1], x), logits_like(x, w)
    of_rows, of_logits = (class_weight, sample_weight, label_smoothing, z_loss), (softcap, scale, None)
    y, counted, options, found = asked_of(like, -1, labels, ignore_index, of_rows, of_logits, return_stats)
    factor, row_factors, upstream_problem = upstream(dloss, like)
    out_dinputs, out_dweight, out_dbias = parts_of(out)
    inputs_shape = x.shape if inputs_grad else (0, 0)
    read = (x, w, b, y, row_factors, options[0], options[1], options[4])
    dinputs = result_for(out_dinputs, inputs_shape, x, read)
    dweight = weight_result_for(out_dweight, w, read)
    dbias = result_for(out_dbias, b.shape, x, read)
    losses, divisor = room((x.shape[0],), np.float64), 0.0
    found = (
        layer_problem(x, w, b),
        found,
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
        results = (losses, dinputs, dweight, dbias)
        write_gradients(x, w, b, y, ignore_index, options, (factor, row_factors), results, workspace)
    loss = reduced(losses, divisor, reduction, like, losses.shape)
    grads = LinearGrads(
        given_if(inputs_grad, settle(dinputs, out_dinputs)),
        settle(dweight, out_dweight),
        beside(bias, settle(dbias, out_dbias)),
    )
    return with_stats((loss, grads), options, like, losses.shape)


# Arguments ------------------------------------------------------------------------------------------------------------


def _check_out(out, inputs, has_inputs_grad, has_bias):
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


@by_type
def beside(given, result):
    """Give a result where there is what it is the gradient of, else None."""
    if is_none(given):
        return lambda given, result: None
    return lambda given, result: result


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
