"""The cross entropy of tensors, with gradients of any order."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fastsoftmax.conversions import Array
from fastsoftmax.torch import originals, routing
from fastsoftmax.torch.calls import OPTIONS, Options, call
from fastsoftmax.torch.library import is_plain_eager, operator, times
from fastsoftmax.torch.tensors import array_of, classes_last, empty_like, tensor_of


def loss_of(logits: Tensor, target: Tensor, weight: Tensor | None, options: Options, overwrite: bool) -> Tensor:
    """Compute the loss of logits that are ours to take; with `overwrite` their memory may become the gradient's."""
    loss: Tensor
    if not routing.is_tracked(logits):
        loss = _cross_entropy(logits, target, weight, *options)
    elif overwrite and is_plain_eager() and _can_be_overwritten(logits):
        loss = LossInPlace.apply(logits, target, weight, options)
    else:
        loss, _ = _cross_entropy_with_grad(logits, target, weight, *options)
    return loss


def _can_be_overwritten(logits: Tensor) -> bool:
    """Whether the gradient may take the logits' place: a leaf's memory is its owner's."""
    rows = logits.movedim(class_axis(logits), -1)
    return not (logits.is_leaf or logits.is_neg()) and (logits.is_contiguous() or rows.is_contiguous())


class LossInPlace(Function):
    """The loss, and its gradient in place of the logits."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> Tensor:
        """Compute the loss, and overwrite the logits."""
        loss = _loss_into(array_of(logits), logits, target, weight, options)
        torch.autograd.graph.increment_version(logits)  # who needs the logits for a gradient is told
        ctx.save_for_backward(logits.detach())
        return loss

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        """Give what the logits have become."""
        if torch.is_grad_enabled():
            raise RuntimeError("inplace_backward: expected False where a gradient is differentiated again, got True")
        (gradient,) = ctx.saved_tensors
        return times(gradient, spread(upstream, gradient)), None, None, None


def class_axis(logits: Tensor) -> int:
    """Give the axis of the classes: the second, if there are two."""
    return min(1, logits.dim() - 1)


def spread(upstream: Tensor, gradient: Tensor) -> Tensor:
    """Give the upstream gradient, that of the whole or one per row, the axes of the logits' gradient."""
    return upstream.unsqueeze(class_axis(gradient)) if upstream.dim() else upstream


# Operators ------------------------------------------------------------------------------------------------------------

_TENSORS = "Tensor logits, Tensor target, Tensor? weight"


def _loss_into(out: Array, logits: Tensor, target: Tensor, weight: Tensor | None, options: Options) -> Tensor:
    """Compute the loss, and write its gradient, which may take the place of the logits."""
    arrays = {"logits": _rows(logits), "out": classes_last(out)}
    loss, _ = call("cross_entropy_with_grad", target, weight, options, **arrays)
    return tensor_of(loss).to(options.dtype)


def _rows(tensor: Tensor) -> Array:
    return classes_last(array_of(tensor))


def _empty_loss(logits: Tensor, target: Tensor, weight: Tensor | None, *options: Any) -> Tensor:
    asked, axis = Options(*options), class_axis(logits)
    rows = logits.shape[:axis] + logits.shape[axis + 1 :]
    return logits.new_empty(rows if asked.reduction == "none" else (), dtype=asked.dtype)


def _empty_gradient(logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, reduction, ignore_index, label_smoothing, dtype = inputs
    ctx.options = reduction, ignore_index, label_smoothing, dtype
    ctx.save_for_backward(*tensors)


def _vjp(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    _, gradient = _cross_entropy_with_grad(*ctx.saved_tensors, *ctx.options)
    return gradient * spread(upstream, gradient), *[None] * 6


@operator(f"cross_entropy({_TENSORS}, {OPTIONS}) -> Tensor", _empty_loss, save=_save, vjp=_vjp)
def _cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None, *options: Any) -> Tensor:
    asked = Options(*options)
    return tensor_of(call("cross_entropy", target, weight, asked, logits=_rows(logits))).to(asked.dtype)


def _save_with_grad(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    logits, target, weight, *options = inputs
    ctx.options = options
    ctx.set_materialize_grads(False)  # no zeros for what does not follow from the gradient
    ctx.save_for_backward(logits, target, weight, output[1])


def _vjp_with_grad(ctx: Any, upstream: Tensor | None, vector: Tensor | None) -> tuple[Tensor | None, ...]:
    """Go back from the loss and, where the gradient was differentiated, from that, by the Hessian."""
    *inputs, gradient = ctx.saved_tensors
    dlogits = None if upstream is None else times(gradient, spread(upstream, gradient))
    if vector is not None:
        product = _cross_entropy_hvp(*inputs, vector, *ctx.options)
        dlogits = product if dlogits is None else dlogits + product
    return dlogits, *[None] * 6


@operator(
    f"cross_entropy_with_grad({_TENSORS}, {OPTIONS}) -> (Tensor, Tensor)",
    lambda *args: (_empty_loss(*args), _empty_gradient(*args)),
    save=_save_with_grad,
    vjp=_vjp_with_grad,
)
def _cross_entropy_with_grad(
    logits: Tensor, target: Tensor, weight: Tensor | None, *options: Any
) -> tuple[Tensor, Tensor]:
    out = empty_like(logits)
    return _loss_into(out, logits, target, weight, Options(*options)), tensor_of(out)


def _vjp_of_hvp(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
    """Go on by PyTorch's own function, which has gradients of any order."""
    logits, target, weight, vector = ctx.saved_tensors
    reduction, ignore_index, label_smoothing, _ = ctx.options

    def loss(logits: Tensor) -> Tensor:
        return originals.cross_entropy(
            logits,
            target,
            weight,
            ignore_index=ignore_index,
            reduction="sum" if reduction == "none" else reduction,
            label_smoothing=label_smoothing,
        )

    def product(logits: Tensor, vector: Tensor) -> Tensor:
        return torch.func.vjp(torch.func.grad(loss), logits)[1](vector)[0]

    of_logits, of_vector = torch.func.vjp(product, logits, vector)[1](upstream)
    return of_logits, None, None, of_vector, *[None] * 4


@operator(
    f"cross_entropy_hvp({_TENSORS}, Tensor vector, {OPTIONS}) -> Tensor",
    _empty_gradient,
    save=_save,
    vjp=_vjp_of_hvp,
)
def _cross_entropy_hvp(logits: Tensor, target: Tensor, weight: Tensor | None, vector: Tensor, *options: Any) -> Tensor:
    out = empty_like(logits)
    arrays = {"logits": _rows(logits), "vector": _rows(vector), "out": classes_last(out)}
    call("cross_entropy_hvp", target, weight, Options(*options), **arrays)
    return tensor_of(out)
