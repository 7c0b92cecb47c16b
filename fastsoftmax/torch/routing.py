"""Who computes: this library, or PyTorch, where that is faster, the only one that can, or has something to refuse."""

from typing import Literal

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.compiler import is_exporting
from torch.fx.experimental.symbolic_shapes import statically_known_true

from fastsoftmax.torch.library import is_transformed

# Below so many logits PyTorch is done before a call of ours has passed autograd, twice through Python.
SMALLEST_LOSS = 2**17
SMALLEST_LOSS_ALONE = 2**18  # where no gradient is asked for
SMALLEST_LOGSUMEXP = 2**17
SMALLEST_HEAD = 2**18
SMALLEST_SOFTMAX = 2**19

_HALVES = (torch.float16, torch.bfloat16)
_DTYPES = (torch.float32, torch.float64, *_HALVES)
# Half types that the processor multiplies at twice the rate of float32 or more: there PyTorch's product wins.
_MULTIPLIED = [
    dtype
    for dtype, names in (
        (torch.bfloat16, ("avx512_bf16", "amx_bf16")),
        (torch.float16, ("avx512_fp16", "amx_fp16")),
    )
    if any(torch.cpu.get_capabilities().get(name) for name in names)
]
_PLAIN = (Tensor, torch.nn.Parameter)
_REDUCTIONS = ("mean", "sum", "none")

Head = Literal["fused", "from logits", "PyTorch"]


def takes_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> bool:
    """Whether `cross_entropy` is ours."""
    if not _is_plain(input):
        return False
    if _is_less(input.numel(), SMALLEST_LOSS if is_tracked(input) else SMALLEST_LOSS_ALONE):
        return False
    return _is_ours(input) and _takes_target(
        input.shape, input.dtype, target, weight, reduction, ignore_index, label_smoothing
    )


def takes_softmax(input: Tensor, dim: object) -> bool:
    """Whether a softmax or log-softmax along an axis is ours."""
    if not _is_plain(input) or _is_less(input.numel(), SMALLEST_SOFTMAX):
        return False
    return _is_axis(dim, input) and _is_ours(input)


def takes_logsumexp(input: Tensor, dim: object) -> bool:
    """Whether a logsumexp along some axes is ours."""
    if not _is_plain(input) or _is_less(input.numel(), SMALLEST_LOGSUMEXP):
        return False
    dims = dim if isinstance(dim, (tuple, list)) else (dim,)
    if not (dims and all(_is_axis(each, input) for each in dims)):
        return False
    return len({each % input.dim() for each in dims}) == len(dims) and _is_ours(input)


def head_by(
    input: Tensor,
    linear_weight: Tensor,
    linear_bias: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int | None,
    label_smoothing: float,
    options: torch.nn.LinearCrossEntropyOptions | None,
) -> Head:
    """Say how `linear_cross_entropy` is computed: fused, by our loss from PyTorch's logits, or by PyTorch."""
    if not _is_our_layer(input, linear_weight, linear_bias):
        return "PyTorch"
    shape = input.shape[:1] + linear_weight.shape[:1]
    if target.shape == shape and ignore_index is not None:  # which PyTorch refuses
        return "PyTorch"
    ignored = -100 if ignore_index is None else ignore_index
    if not _takes_target(shape, input.dtype, target, weight, reduction, ignored, label_smoothing):
        return "PyTorch"
    is_frozen = is_tracked(input) and not linear_weight.requires_grad
    if is_frozen or is_transformed() or torch.is_autocast_enabled("cpu") or input.dtype in _MULTIPLIED:
        return "from logits" if options is None else "PyTorch"
    return "fused" if options is None or _adds_up_in(options.acc_dtype, input.dtype) else "PyTorch"


def _is_our_layer(input: Tensor, linear_weight: Tensor, linear_bias: Tensor | None) -> bool:
    """Whether a layer fits together, has one dtype, unless autocast sees to that, and is large enough."""
    layer = [input, linear_weight] if linear_bias is None else [input, linear_weight, linear_bias]
    if not (all(map(_is_plain, layer)) and input.dim() == linear_weight.dim() == 2):
        return False
    if _is_less(input.shape[0] * linear_weight.shape[0], SMALLEST_HEAD) or not all(map(_is_ours, layer)):
        return False
    if input.shape[1] != linear_weight.shape[1]:
        return False
    if linear_bias is not None and linear_bias.shape != linear_weight.shape[:1]:
        return False
    return torch.is_autocast_enabled("cpu") or all(each.dtype == input.dtype for each in layer)


def _adds_up_in(asked: torch.dtype | None, dtype: torch.dtype) -> bool:
    """Whether sums in float32 or wider do for a dtype of sums that is asked for; PyTorch refuses some."""
    return asked in (None, dtype) or (asked == torch.float32 and dtype in _HALVES)


def is_tracked(*tensors: Tensor | None) -> bool:
    """Whether a gradient of one of these may be asked for."""
    if is_transformed():
        return True
    return torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors)


def is_half(tensor: Tensor) -> bool:
    """Whether a tensor is of a half type."""
    return tensor.dtype in _HALVES


def _is_plain(tensor: object) -> bool:
    """Whether it is a tensor without a mind of its own, as subclasses have, such as DTensor; export has its own."""
    return type(tensor) in _PLAIN or (isinstance(tensor, Tensor) and is_exporting())


def _is_less(size: int, least: int) -> bool:
    """Whether a size is less; of one that is not known while a program is exported, whether it is so in any case."""
    if is_exporting():
        return statically_known_true(size < least)
    # That of `torch.jit.trace`, which knows PyTorch's functions, is a tensor.
    return type(size) is not int or size < least


def _is_axis(dim: object, tensor: Tensor) -> bool:
    return type(dim) is int and -tensor.dim() <= dim < tensor.dim()


def _is_ours(tensor: Tensor) -> bool:
    """Whether we have kernels for a tensor, and a gradient for what may be asked of it."""
    return (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and tensor.dtype in _DTYPES
        and forward_ad._current_level < 0  # no forward mode
        and not (torch.compiler.is_compiling() and is_transformed())  # which would lose the gradient
    )


def _takes_target(
    shape: torch.Size,
    dtype: torch.dtype,
    target: Tensor,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int,
    label_smoothing: float,
) -> bool:
    """Whether we take labels or probabilities, class weights and options, for logits of a shape and dtype."""
    if not (_is_plain(target) and target.device.type == "cpu" and target.layout is torch.strided):
        return False
    axis = min(1, len(shape) - 1)
    if target.shape == shape:
        known = _is_constant(target, dtype) and ignore_index < 0
    else:
        known = target.dtype == torch.int64 and target.shape == shape[:axis] + shape[axis + 1 :]
    if weight is not None:
        known = known and _is_plain(weight) and weight.shape == shape[axis : axis + 1] and _is_constant(weight, dtype)
    return known and reduction in _REDUCTIONS and 0 <= label_smoothing <= 1


def _is_constant(tensor: Tensor, dtype: torch.dtype) -> bool:
    """Whether floats go with logits of a dtype, and nobody can ask for their gradient."""
    if tensor.requires_grad or torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        return False
    together = _DTYPES if torch.is_autocast_enabled("cpu") else (dtype,)
    return tensor.device.type == "cpu" and tensor.dtype in together
