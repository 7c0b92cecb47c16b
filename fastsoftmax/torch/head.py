"""The linear layer and the loss in one, of tensors: the logits never exist as a whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from fastsoftmax.head_rows import WORKSPACE
from fastsoftmax.torch import originals, routing
from fastsoftmax.torch.calls import OPTIONS, Options, call
from fastsoftmax.torch.library import operator, times
from fastsoftmax.torch.tensors import array_of, tensor_of


def head_of(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    workspace: int,
    options: Options,
) -> Tensor:
    """Compute the loss of a head that is ours to take, whose logits may take up so many bytes at a time.

    How much each row's loss counts is known in the backward pass only, which then computes the gradients.
    """
    tensors = input, linear_weight, linear_bias, target, weight
    loss: Tensor
    if options.reduction != "none" and routing.is_tracked(input, linear_weight, linear_bias):
        loss, *_ = _with_grad(*tensors, None, input.requires_grad, workspace, *options)
    else:
        loss = _linear_cross_entropy(*tensors, workspace, *options)
    return loss


def workspace_for(input: Tensor, linear_weight: Tensor, options: torch.nn.LinearCrossEntropyOptions | None) -> int:
    """Give the bytes that logits may take up at a time: those of as many rows as PyTorch would have in a chunk."""
    if options is None:
        return WORKSPACE
    (n_rows, n_features), n_classes = input.shape, len(linear_weight)
    chosen = options._adjust(n_rows, n_features, n_classes, input.dtype, input.device)
    size = torch.float32.itemsize if routing.is_half(input) else input.dtype.itemsize
    return int(chosen.batch_chunk_size * n_classes * size)


# Operators ------------------------------------------------------------------------------------------------------------

_TENSORS = "Tensor input, Tensor linear_weight, Tensor? linear_bias, Tensor target, Tensor? weight"
_N_OPTIONS = len(Options._fields)


def _arrays(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> dict[str, Any]:
    """Give the layer as the library takes it, its weight as a view (D, C)."""
    bias = None if linear_bias is None else array_of(linear_bias)
    return {"inputs": array_of(input), "weight": array_of(linear_weight).T, "bias": bias}


def _empty_loss(input: Tensor, *rest: Any) -> Tensor:
    asked = Options(*rest[-_N_OPTIONS:])
    return input.new_empty(input.shape[:1] if asked.reduction == "none" else (), dtype=asked.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.workspace = inputs[:-_N_OPTIONS]
    ctx.options = inputs[-_N_OPTIONS:]
    ctx.save_for_backward(*tensors)


def _vjp(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    tensors, input_grad = ctx.saved_tensors, ctx.needs_input_grad[0]
    if torch.is_grad_enabled():
        grads = _grads_by_pytorch(upstream, ctx.options, *tensors)
    else:
        _, *grads = _with_grad(*tensors, upstream, input_grad, ctx.workspace, *ctx.options)
    return *_those_of(grads, input_grad, tensors[2]), *[None] * (3 + _N_OPTIONS)


def _those_of(grads: list[Tensor | None], input_grad: bool, linear_bias: Tensor | None) -> tuple[Tensor | None, ...]:
    """Give None in place of gradients that there are not."""
    dinput, dweight, dbias = grads
    return dinput if input_grad else None, dweight, None if linear_bias is None else dbias


def _grads_by_pytorch(
    upstream: Tensor,
    options: tuple[Any, ...],
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
) -> list[Tensor | None]:
    """Compute the gradients where they are differentiated again: PyTorch's own function has them of any order."""
    reduction, ignore_index, label_smoothing, _ = options

    def loss(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None = None) -> Tensor:
        return originals.linear_cross_entropy(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            weight=weight,
            reduction=reduction,
            ignore_index=None if target.is_floating_point() else ignore_index,
            label_smoothing=label_smoothing,
        )

    layer = (input, linear_weight) if linear_bias is None else (input, linear_weight, linear_bias)
    found = torch.func.vjp(loss, *layer)[1](upstream)
    return [*found, None][:3]


@operator(
    f"linear_cross_entropy({_TENSORS}, SymInt workspace, {OPTIONS}) -> Tensor",
    _empty_loss,
    save=_save,
    vjp=_vjp,
)
def _linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    workspace: int,
    *options: Any,
) -> Tensor:
    asked, layer = Options(*options), _arrays(input, linear_weight, linear_bias)
    loss = call("linear_cross_entropy", target, weight, asked, **layer, workspace=workspace)
    return tensor_of(loss).to(asked.dtype)


def _empty_with_grad(
    input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None, *rest: Any
) -> tuple[Tensor, ...]:
    _, _, _, input_grad, *_ = rest
    dinput = input.new_empty(input.shape if input_grad else 0)
    dbias = input.new_empty(0 if linear_bias is None else linear_bias.shape)
    return _empty_loss(input, *rest), dinput, linear_weight.new_empty(linear_weight.shape), dbias


def _save_with_grad(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, row_factors, ctx.input_grad, _ = inputs[:-_N_OPTIONS]
    _, *grads = output
    ctx.options = inputs[-_N_OPTIONS:]
    # With factors this is on the way back already.
    ctx.mark_non_differentiable(*(grads if row_factors is None else output))
    ctx.set_materialize_grads(False)  # no zeros for them
    ctx.save_for_backward(*tensors, *grads)


def _vjp_with_grad(ctx: Any, upstream: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    *tensors, dinput, dweight, dbias = ctx.saved_tensors
    grads: list[Tensor | None] = [None, None, None]
    if upstream is not None and torch.is_grad_enabled():
        grads = _grads_by_pytorch(upstream, ctx.options, *tensors)
    elif upstream is not None:
        grads = [times(grad, upstream) for grad in (dinput, dweight, dbias)]
    return *_those_of(grads, ctx.input_grad, tensors[2]), *[None] * (5 + _N_OPTIONS)


@operator(
    f"linear_cross_entropy_with_grad({_TENSORS}, Tensor? row_factors, bool input_grad, SymInt workspace, {OPTIONS})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _empty_with_grad,
    save=_save_with_grad,
    vjp=_vjp_with_grad,
)
def _with_grad(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    row_factors: Tensor | None,
    input_grad: bool,
    workspace: int,
    *options: Any,
) -> tuple[Tensor, ...]:
    """Compute the loss and the gradients of input, weight and bias; those that there are not are empty."""
    asked = Options(*options)
    arguments = _arrays(input, linear_weight, linear_bias) | {"inputs_grad": input_grad, "workspace": workspace}
    if row_factors is not None:
        arguments["dloss"] = array_of(row_factors)
    loss, (dinput, dweight, dbias) = call("linear_cross_entropy_with_grad", target, weight, asked, **arguments)
    grads = dinput if input_grad else None, np.ascontiguousarray(dweight.T), dbias
    of_layer = [input.new_empty(0) if grad is None else tensor_of(grad).to(input.dtype) for grad in grads]
    return tensor_of(loss).to(asked.dtype), *of_layer
