"""Softmax, log-softmax and logsumexp of tensors, with gradients of any order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import fastsoftmax
from fastsoftmax import threads
from fastsoftmax.torch.library import operator, times
from fastsoftmax.torch.tensors import array_of, empty_like, tensor_of


def _call(name: str, axes: list[int], *tensors: Tensor) -> Tensor:
    """Call one of the library's functions whose result lies as the first of its arguments does."""
    out = empty_like(tensors[0])
    with threads.at_most(torch.get_num_threads()):
        getattr(fastsoftmax, name)(*map(array_of, tensors), axis=tuple(axes), out=out)
    return tensor_of(out)


def _like_first(first: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(first)


# Gradients behind a softmax; those behind these come from PyTorch's own functions. ------------------------------------


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.axes = inputs
    ctx.save_for_backward(*tensors)


def _vjp_of(function: Callable[..., Tensor]) -> Callable[..., tuple[Tensor | None, ...]]:
    def go_back(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        vjp = torch.func.vjp(partial(function, axes=ctx.axes), *ctx.saved_tensors)[1]
        return *vjp(upstream), None

    return go_back


@operator(
    "softmax_backward(Tensor probs, Tensor dprobs, int[] axes) -> Tensor",
    _like_first,
    save=_save_inputs,
    vjp=_vjp_of(lambda a, g, axes: a * (g - (a * g).sum(axes, keepdim=True))),
)
def _softmax_backward(probs: Tensor, dprobs: Tensor, axes: list[int]) -> Tensor:
    return _call("softmax_backward", axes, probs, dprobs)


@operator(
    "log_softmax_backward(Tensor log_probs, Tensor dlog_probs, int[] axes) -> Tensor",
    _like_first,
    save=_save_inputs,
    vjp=_vjp_of(lambda log_a, g, axes: g - log_a.exp() * g.sum(axes, keepdim=True)),
)
def _log_softmax_backward(log_probs: Tensor, dlog_probs: Tensor, axes: list[int]) -> Tensor:
    return _call("log_softmax_backward", axes, log_probs, dlog_probs)


# Softmax and its kin --------------------------------------------------------------------------------------------------


def _save_output(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.axes = inputs
    ctx.save_for_backward(output)


@operator(
    "softmax(Tensor logits, int[] axes) -> Tensor",
    _like_first,
    save=_save_output,
    vjp=lambda ctx, upstream: (_softmax_backward(*ctx.saved_tensors, upstream, ctx.axes), None),
)
def softmax(logits: Tensor, axes: list[int]) -> Tensor:
    """Compute the probabilities of classes along some axes."""
    return _call("softmax", axes, logits)


@operator(
    "log_softmax(Tensor logits, int[] axes) -> Tensor",
    _like_first,
    save=_save_output,
    vjp=lambda ctx, upstream: (_log_softmax_backward(*ctx.saved_tensors, upstream, ctx.axes), None),
)
def log_softmax(logits: Tensor, axes: list[int]) -> Tensor:
    """Compute the logarithms of these probabilities."""
    return _call("log_softmax", axes, logits)


def _empty_lse(logits: Tensor, axes: list[int]) -> Tensor:
    kept = {axis % logits.dim() for axis in axes}
    return logits.new_empty([1 if i in kept else size for i, size in enumerate(logits.shape)])


@operator(
    "logsumexp(Tensor logits, int[] axes) -> Tensor",
    _empty_lse,
    save=_save_inputs,
    vjp=lambda ctx, upstream: (times(softmax(*ctx.saved_tensors, ctx.axes), upstream), None),
)
def logsumexp(logits: Tensor, axes: list[int]) -> Tensor:
    """Compute the logarithm of the sum of exponentials along some axes, of which a length of one is kept."""
    with threads.at_most(torch.get_num_threads()):
        return tensor_of(fastsoftmax.logsumexp(array_of(logits), axis=tuple(axes), keepdims=True))
