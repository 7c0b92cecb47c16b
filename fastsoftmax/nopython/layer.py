"""The linear layer before the loss: its outputs and its gradients."""

from fastsoftmax.reference import LinearGrads

from .entries import checked_by
from .matrices import (
    bias_of,
    check_layer,
    matrix_of,
    result_for,
    settle,
    weight_of,
    weight_result_for,
    write_bias_grad,
    write_input_grad,
    write_outputs,
    write_weight_grad,
)
from .memory import room
from .problems import BIAS_SHAPE, DOUTPUTS_ROWS, WEIGHT_COLUMNS, WEIGHT_ROWS, fine, first_of, is_fine, problem
from .rows import check_result, check_shape
from .typing import jitable


def _check(given):
    """Require types that a layer takes, and a matrix for the result."""
    check_result("out", given["out"], check_layer(given), 2)


def _check_line(given):
    """Require such types, and a line for the result."""
    check_result("out", given["out"], check_layer(given), 1)


@checked_by(_check)
def linear(inputs, weight, bias=None, out=None):
    x, w = matrix_of(inputs), weight_of(weight)
    b = bias_of(bias, w.shape[1], x)
    shape = (x.shape[0], w.shape[1])
    outputs = result_for(out, shape, x, (x, w, b))
    if is_fine(first_of((layer_problem(x, w, b), check_shape(out, shape))), outputs, out):
        write_outputs(x, w, b, outputs)
    return settle(outputs, out)


@checked_by(_check)
def weight_grad(inputs, doutputs, out=None):
    x, dz = matrix_of(inputs), matrix_of(doutputs)
    shape = (x.shape[1], dz.shape[1])
    dweight = result_for(out, shape, x, (x, dz))
    if is_fine(first_of((sides_problem(x, dz), check_shape(out, shape))), dweight, out):
        write_weight_grad(x, dz, dweight)
    return settle(dweight, out)


@checked_by(_check_line)
def bias_grad(doutputs, out=None):
    dz = matrix_of(doutputs)
    shape = (dz.shape[1],)
    dbias = result_for(out, shape, dz, (dz,))
    if is_fine(check_shape(out, shape), dbias, out):
        write_bias_grad(dz, dbias)
    return settle(dbias, out)


@checked_by(_check)
def input_grad(doutputs, weight, out=None):
    dz, w = matrix_of(doutputs), weight_of(weight)
    shape = (dz.shape[0], w.shape[0])
    dinputs = result_for(out, shape, dz, (dz, w))
    if is_fine(first_of((columns_problem(dz, w), check_shape(out, shape))), dinputs, out):
        write_input_grad(dz, w, dinputs)
    return settle(dinputs, out)


@checked_by(check_layer)
def linear_backward(inputs, weight, doutputs):
    x, w, dz = matrix_of(inputs), weight_of(weight), matrix_of(doutputs)
    dinputs, dweight = room(x.shape, x.dtype), weight_result_for(None, w, ())
    dbias = room((dz.shape[1],), x.dtype)
    found = first_of((sides_problem(x, dz), layer_problem(x, w, dbias), columns_problem(dz, w)))
    if is_fine(found, dinputs, dweight):
        write_input_grad(dz, w, dinputs)
        write_weight_grad(x, dz, dweight)
        write_bias_grad(dz, dbias)
    return LinearGrads(dinputs, dweight, dbias)


@jitable
def layer_problem(x, w, b):
    """Find what is wrong with the shapes of a layer."""
    if w.shape[0] != x.shape[1]:
        return problem(WEIGHT_ROWS, 0.0, x.shape[1], w.shape[0], w.shape[1])
    return fine() if b.size == w.shape[1] else problem(BIAS_SHAPE, 0.0, w.shape[1], b.size, 0)


@jitable
def sides_problem(x, dz):
    """Find what is wrong with the shapes of a weight's gradient."""
    return fine() if len(dz) == len(x) else problem(DOUTPUTS_ROWS, 0.0, len(x), dz.shape[0], dz.shape[1])


@jitable
def columns_problem(dz, w):
    """Find what is wrong with the shapes of the inputs' gradient."""
    columns = dz.shape[1]
    return fine() if w.shape[1] == columns else problem(WEIGHT_COLUMNS, 0.0, columns, w.shape[0], w.shape[1])
