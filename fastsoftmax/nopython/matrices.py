"""Matrices as the kernels of products take them."""

from numba import types

from fastsoftmax import kernels

from .calls import multiply, run
from .memory import overlap, room
from .rows import copied, fill, is_contiguous, line_of
from .typing import by_type, is_none, jitable, refuse, take_floats

_NARROW_OUTPUTS, _NARROW_DOUTPUTS = kernels.tuning.NARROW_OUTPUTS, kernels.tuning.NARROW_DOUTPUTS
_STREAM_BYTES = kernels.tuning.STREAM_BYTES

# Arguments ------------------------------------------------------------------------------------------------------------


def check_layer(given):
    """Require matrices of one dtype, those of a function's arguments that there are, and a bias; give the first."""
    (name, first), *others = [(each, given[each]) for each in ("inputs", "weight", "doutputs") if each in given]
    take_floats(name, first, (2,))
    for other_name, other in others:
        take_floats(other_name, other, (2,))
        if other.dtype != first.dtype:
            refuse(other_name, f"{first.dtype} like {name}", other)
    bias = given.get("bias")
    if not (is_none(bias) or (isinstance(bias, types.Array) and bias.ndim == 1 and bias.dtype == first.dtype)):
        refuse("bias", f"a one-dimensional array of {first.dtype}, or None", bias)
    return first


@by_type
def matrix_of(array):
    """View or copy a matrix as a contiguous one."""
    if is_contiguous(array):
        return lambda array: array
    return lambda array: copied(array)


@by_type
def weight_of(array):
    """View or copy a weight as a contiguous one, or as the transpose of one."""
    if array.layout == "F" and array.aligned:
        return lambda array: array
    return lambda array: matrix_of(array)


@by_type
def bias_of(bias, n_outputs, like):
    """View or copy a bias as a contiguous one; without one it is zero."""
    dtype = like.dtype
    if not is_none(bias):
        return lambda bias, n_outputs, like: line_of(bias)

    def zero(bias, n_outputs, like):
        zeros = room((n_outputs,), dtype)
        zeros[:] = 0
        return zeros

    return zero


# Results --------------------------------------------------------------------------------------------------------------


@by_type
def result_for(out, shape, like, inputs):
    """Give the array to compute a result in: `out`, unless it overlaps an input, or a new one."""
    if is_none(out) or not is_contiguous(out):
        return lambda out, shape, like, inputs: room(shape, like.dtype)

    def choose(out, shape, like, inputs):
        return out if out.shape == shape and not overlap(out, inputs) else room(shape, like.dtype)

    return choose


@by_type
def weight_result_for(out, weight, inputs):
    """Give the array to compute the gradient of a weight in: it lies as the weight does."""
    if weight.layout == "F":
        return lambda out, weight, inputs: transposed_result(out, weight, inputs)
    return lambda out, weight, inputs: result_for(out, weight.shape, weight, inputs)


@by_type
def transposed_result(out, weight, inputs):
    """Give it for a weight that is the transpose of a contiguous array."""
    if is_none(out) or out.layout != "F" or not out.aligned:
        return lambda out, weight, inputs: room((weight.shape[1], weight.shape[0]), weight.dtype).T

    def choose(out, weight, inputs):
        if out.shape == weight.shape and not overlap(out, inputs):
            return out
        return room((weight.shape[1], weight.shape[0]), weight.dtype).T

    return choose


@by_type
def settle(result, out):
    """Give a result, in `out` if there is one."""
    if is_none(out):
        return lambda result, out: result
    if out.ndim == 1:

        def settle_line(result, out):
            fill(out, result)
            return out

        return settle_line
    can_be_out = out.layout == result.layout and out.aligned

    def settle_matrix(result, out):
        if not (can_be_out and overlap(result, (out,))):
            for i in range(out.shape[0]):
                for j in range(out.shape[1]):
                    out[i, j] = result[i, j]
        return out

    return settle_matrix


# Products -------------------------------------------------------------------------------------------------------------


@jitable
def write_outputs(x, w, b, outputs):
    """Write z = X·W + b."""
    if w.shape[1] <= _NARROW_OUTPUTS:
        run("linear", "narrow", x, x.size, (), (x, w, b, outputs))
    else:
        multiply("linear", "wide", x, x.size * w.shape[1], (), (x, w, b, outputs))


@jitable
def write_weight_grad(x, dz, dweight):
    """Write ∂L/∂W = Xᵀ·∂L/∂z."""
    if dz.shape[1] <= _NARROW_DOUTPUTS:
        run("weight_grad", "narrow", x, x.size, (), (x, dz, dweight))
    else:
        multiply("weight_grad", "wide", x, x.size * dz.shape[1], (), (x, dz, dweight, False))


@jitable
def write_bias_grad(dz, dbias):
    """Write ∂L/∂b = Σ_i ∂L/∂z_i."""
    run("helpers", "bias_grad", dz, dz.size, (), (dz, dbias))


@jitable
def write_input_grad(dz, w, dinputs):
    """Write ∂L/∂X = ∂L/∂z·Wᵀ."""
    if dz.shape[1] <= _NARROW_DOUTPUTS and dinputs.size * dinputs.itemsize >= _STREAM_BYTES:
        run("input_grad", "narrow", dz, dinputs.size, (), (dz, w, dinputs))
    else:
        multiply("input_grad", "wide", dz, dz.size * w.shape[0], (), (dz, w, dinputs))
