"""The functions that stand in for those of `torch.nn.functional` and `torch`, with their signatures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.compiler import is_exporting
from torch.nn import _reduction

from fastsoftmax.torch import activations, originals, routing
from fastsoftmax.torch.calls import Options
from fastsoftmax.torch.head import head_of, workspace_for
from fastsoftmax.torch.loss import loss_of


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    inplace_backward: bool = False,
) -> Tensor:
    r"""Compute the cross entropy of logits and class labels or probabilities, as `torch.nn.functional.cross_entropy`.

    .. math:: L_i = -\sum_j t_{ij} \log a_{ij}, \quad a = \mathrm{softmax}\, z, \quad
              t_j = (1 - \epsilon) w_y 1\{j = y\} + \frac{\epsilon}{C} w_j \quad\text{or}\quad
              t_j = w_j \left((1 - \epsilon) p_j + \frac{\epsilon}{C}\right)

    The gradient is computed with the loss, in one visit of the logits, and the backward pass multiplies it by the
    upstream gradient only where that is not 1.

    Parameters
    ----------
    input : Tensor of float32, float64, float16 or bfloat16, shape (C,), (N, C) or (N, C, d1, ...)
        z. Half types are computed in float32 and rounded once. Of few logits (see `routing`), on other devices than the
        CPU, and for what is no plain tensor, it is PyTorch's function that is called.
    target : Tensor of int64, shape (), (N,) or (N, d1, ...); or of floats, the shape of `input`
        Labels y, or class probabilities p.
    weight : Tensor, shape (C,), optional
        w, the weights of the classes.
    size_average, reduce : bool, optional
        PyTorch's old names of a reduction, which they overrule.
    ignore_index : int
        Rows with this label have no loss and do not count in the mean.
    reduction : {"mean", "sum", "none"}
        The mean over the rows that count, each as often as its label's class weighs, the sum, or a loss for each row.
    label_smoothing : float
        ε, from 0 to 1.
    inplace_backward : bool
        Let the gradient have the memory of `input`, which then holds no logits any more; whatever else needs them for
        its gradient raises PyTorch's error. That is so where a gradient is asked for, of a contiguous `input` that is
        no leaf, and not in what is compiled, where memory is the compiler's.

    Returns
    -------
    Tensor
        The dtype of `input`, under autocast float32; for "none" the shape of the rows, else a scalar.

    Raises
    ------
    IndexError
        If a label is no class: the message names its row. What else does not fit raises PyTorch's own error.

    Examples
    --------
    >>> logits = torch.tensor([[1.0, 3.0], [4.0, 1.0]]).log()
    >>> cross_entropy(logits, torch.tensor([1, 0]), reduction="none").neg().exp()
    tensor([0.7500, 0.8000])
    """
    # First of all, and at once: what goes on to PyTorch may take a tenth longer for it, 0.4 µs for the smallest logits.
    if (
        type(input) is Tensor
        and not is_exporting()  # before the size is compared, which would bind a size that is not known
        and type(size := input.numel()) is int  # `torch.jit.trace` has a tensor
        and size < routing.SMALLEST_LOSS
    ):
        return originals.cross_entropy(
            input, target, weight, size_average, ignore_index, reduce, reduction, label_smoothing
        )
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    if not routing.takes_loss(input, target, weight, reduction, ignore_index, label_smoothing):
        return originals.cross_entropy(input, target, weight, None, ignore_index, None, reduction, label_smoothing)
    dtype = input.dtype
    if routing.is_half(input) and torch.is_autocast_enabled("cpu"):
        dtype = torch.float32
        if reduction == "none":  # each row's loss has the dtype of the logits
            input = input.float()
    return loss_of(input, target, weight, Options(reduction, ignore_index, label_smoothing, dtype), inplace_backward)


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: torch.nn.LinearCrossEntropyOptions | None = None,
) -> Tensor:
    r"""Compute the cross entropy of a linear layer's outputs, as `torch.nn.functional.linear_cross_entropy`.

    .. math:: L(z, y), \quad z = X W^\top + b

    The logits z of some rows at a time are computed, become their gradient, and that gives ∂L/∂X and adds to ∂L/∂W and
    ∂L/∂b: there is never an array of all of them.

    Parameters
    ----------
    input : Tensor of float32, float64, float16 or bfloat16, shape (N, D)
        X. Few rows, (D,), autocast, `torch.func` and a weight that needs no gradient where X does take `cross_entropy`
        of PyTorch's logits.
    linear_weight : Tensor, shape (C, D)
        W, as that of `torch.nn.Linear`; of more axes PyTorch's function takes it.
    target : Tensor of int64, shape (N,), or of floats, shape (N, C)
        Labels or class probabilities.
    linear_bias : Tensor, shape (C,), optional
        b.
    weight, reduction, label_smoothing
        As in `cross_entropy`.
    ignore_index : int, optional
        As in `cross_entropy`; -100 if left out. Not with class probabilities.
    options : torch.nn.LinearCrossEntropyOptions, optional
        How many rows' logits there may be at a time, by `batch_chunk_size` or `chunking_method`; 32 MiB of them if left
        out. Sums are float32 at least, as the most accurate `acc_policy` has them, and graphs may be kept.

    Returns
    -------
    Tensor
        As `cross_entropy` gives it.

    Raises
    ------
    IndexError
        If a label is no class: the message names its row. What else does not fit raises PyTorch's own error.

    Examples
    --------
    >>> weight = torch.tensor([[1.0], [3.0]]).log()
    >>> linear_cross_entropy(torch.ones(1, 1), weight, torch.tensor([1])).neg().exp()
    tensor(0.7500)
    """
    route = routing.head_by(
        input, linear_weight, linear_bias, target, weight, reduction, ignore_index, label_smoothing, options
    )
    known = -100 if ignore_index is None else ignore_index
    if route == "fused":
        workspace = workspace_for(input, linear_weight, options)
        asked = Options(reduction, known, label_smoothing, input.dtype)
        return head_of(input, linear_weight, linear_bias, target, weight, workspace, asked)
    if route == "from logits":
        logits = originals.linear(input, linear_weight, linear_bias)
        return cross_entropy(
            logits, target, weight, ignore_index=known, reduction=reduction, label_smoothing=label_smoothing
        )
    return originals.linear_cross_entropy(
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        weight=weight,
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        options=options,
    )


def softmax(input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None) -> Tensor:
    r"""Compute the probabilities of the classes, as `torch.nn.functional.softmax`.

    .. math:: a_j = e^{z_j} / \sum_s e^{z_s}

    Parameters
    ----------
    input : Tensor of float32, float64, float16 or bfloat16
        z, of any shape. Fewer than some 200,000 logits go to PyTorch's function, and what it alone can.
    dim : int
        The axis of the classes; PyTorch's choice, and warning, if left out.
    dtype : torch.dtype, optional
        What `input` is converted to.

    Returns
    -------
    Tensor
        a, shape and dtype of the converted `input`.

    Examples
    --------
    >>> softmax(torch.tensor([1.0, 3.0]).log(), 0)
    tensor([0.2500, 0.7500])
    """
    if not routing.takes_softmax(input, dim):
        return originals.softmax(input, dim, _stacklevel + 1, dtype)
    probs: Tensor = activations.softmax(input if dtype is None else input.to(dtype), [dim])
    return probs


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: torch.dtype | None = None
) -> Tensor:
    r"""Compute the logarithms of the classes' probabilities, as `torch.nn.functional.log_softmax`.

    .. math:: \log a_j = z_j - \log \sum_s e^{z_s}

    Parameters
    ----------
    input, dim, dtype
        As in `softmax`.

    Returns
    -------
    Tensor
        log a, shape and dtype of the converted `input`.

    Examples
    --------
    >>> log_softmax(torch.tensor([1.0, 3.0]).log(), 0).exp()
    tensor([0.2500, 0.7500])
    """
    if not routing.takes_softmax(input, dim):
        return originals.log_softmax(input, dim, _stacklevel + 1, dtype)
    log_probs: Tensor = activations.log_softmax(input if dtype is None else input.to(dtype), [dim])
    return log_probs


def logsumexp(input: Tensor, dim: int | tuple[int, ...], keepdim: bool = False, *, out: Tensor | None = None) -> Tensor:
    r"""Compute the logarithm of the sum of exponentials, as `torch.logsumexp`.

    .. math:: \log \sum_j e^{z_j}

    Parameters
    ----------
    input : Tensor
        As in `softmax`.
    dim : int or tuple of int
        The axis of the classes, or several that are one list of classes together.
    keepdim : bool
        Keep these axes, with length one.
    out : Tensor, optional
        Receives the result.

    Returns
    -------
    Tensor
        The shape of `input` without the axes of the classes.

    Examples
    --------
    >>> logsumexp(torch.tensor([1.0, 3.0]).log(), 0).exp()
    tensor(4.)
    """
    if out is not None or not routing.takes_logsumexp(input, dim):
        return originals.logsumexp(input, dim, keepdim, out=out)
    axes = [dim] if isinstance(dim, int) else list(dim)
    lse: Tensor = activations.logsumexp(input, axes)
    return lse if keepdim else lse.squeeze(axes)
