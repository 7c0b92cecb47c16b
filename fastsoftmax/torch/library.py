"""Operators of PyTorch's: what torch.compile, torch.export and torch.func see in place of calls into NumPy."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

_LIBRARY = torch.library.Library("fastsoftmax", "DEF")


def operator(
    schema: str,
    like: Callable[..., Any],
    *,
    save: Callable[[Any, tuple[Any, ...], Any], None],
    vjp: Callable[..., Any],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make an operator of a function of CPU tensors, and give what calls it.

    `like` gives empty tensors of the shapes, dtypes and strides of the results, `save` puts into a context what
    is needed of inputs and output to go back, and `vjp` gives a gradient for each input. It is made of operators, so
    that gradients have gradients, too.
    """

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = schema.partition("(")[0]
        _LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)
        _LIBRARY.impl(name, function, "CPU")
        made, full_name = getattr(torch.ops.fastsoftmax, name).default, f"fastsoftmax::{name}"
        torch.library.register_fake(full_name, like, lib=_LIBRARY)
        torch.library.register_autograd(full_name, vjp, setup_context=save, lib=_LIBRARY)
        torch.library.register_vmap(full_name, _one_by_one(made), lib=_LIBRARY)

        class Transformed(Function):
            """The operator for `torch.func`, which does not take the gradients that operators have."""

            generate_vmap_rule = True
            setup_context = staticmethod(save)  # type: ignore[assignment]
            backward = staticmethod(vjp)

            @staticmethod
            def forward(*args: Any) -> Any:
                return made(*args)

        class Eager(Function):
            """The function without the price of an operator, half of what a small call takes."""

            backward = staticmethod(vjp)

            @staticmethod
            def forward(ctx: Any, *args: Any) -> Any:
                output = function(*args)
                save(ctx, args, output)
                return output

        def call(*args: Any) -> Any:
            if is_plain_eager():
                is_tracked = torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in args)
                return Eager.apply(*args) if is_tracked else function(*args)
            return Transformed.apply(*args) if is_transformed() else made(*args)

        return call

    return register


def _one_by_one(made: Callable[..., Any]) -> Callable[..., Any]:
    """Give the rule by which vmap calls an operator: for each example, as each is large where ours is called at all."""

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        def of_example(i: int) -> list[Any]:
            return [arg.select(dim, i) if isinstance(dim, int) else arg for arg, dim in zip(args, in_dims, strict=True)]

        results = [made(*of_example(i)) for i in range(info.batch_size)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        stacked = tuple(map(torch.stack, zip(*results, strict=True)))
        return stacked, (0,) * len(stacked)

    return rule


def times(gradient: Tensor, upstream: Tensor) -> Tensor:
    """Multiply a gradient that was made for this; where nobody needs it again, in place, and by 1 not at all.

    A graph that is kept gives it again: then it must not be handed out, as a `.grad` to which more is added.
    """
    is_one_of_many = torch._C._functorch.is_legacy_batchedtensor(upstream)  # with is_grads_batched=True
    if torch.is_grad_enabled() or is_one_of_many or not is_plain_eager() or _keeps_graph():
        return gradient * upstream
    gradient = gradient.detach()  # what was saved as a result knows what it comes from, and would keep it
    return gradient if upstream.dim() == 0 and upstream.item() == 1 else gradient.mul_(upstream)


def _keeps_graph() -> bool:
    return bool(torch._C._autograd._get_current_graph_task_keep_graph())


def is_plain_eager() -> bool:
    """Whether tensors are what they seem: nothing is compiled or transformed, and nobody watches operators."""
    return not (torch.compiler.is_compiling() or is_transformed() or torch._C._len_torch_dispatch_stack())


def is_transformed() -> bool:
    """Whether this is inside a transformation of `torch.func`."""
    return torch._C._are_functorch_transforms_active()
