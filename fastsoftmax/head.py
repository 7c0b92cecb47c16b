"""The linear layer and the loss together, without the (N, C) array of logits between them."""

from typing import Any

from fastsoftmax.conversions import compute_dtype
from fastsoftmax.head_rows import WORKSPACE, losses_and_grads, losses_of, take_rows
from fastsoftmax.losses import Reduction, reduce
from fastsoftmax.options import OFF, Asked
from fastsoftmax.reference import LinearGrads


def linear_cross_entropy(
    inputs: object,
    weight: object,
    bias: object,
    labels: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    workspace: int = WORKSPACE,
) -> Any:
    """Compute the cross entropy of a linear layer's outputs, L(X·W + b, y).

    With fewer than 64 classes a strip of rows at a time is multiplied and done with in one pass; with more, the
    logits of as many rows as the workspace holds are computed at a time.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (N, D)
        X. Integers are taken as float64, or as the dtype of a floating argument beside them, and so are lists.
    weight : array_like, shape (D, C)
        W, the dtype of `inputs`. The transpose `w.T` of a contiguous (C, D) array is taken as it lies.
    bias : array_like, shape (C,), or None
        b, the dtype of `inputs`.
    labels : array_like of integers, shape (N,), or of floats, shape (N, C)
        y, a class index for each row, or class probabilities.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale, reduction, return_stats
        As in `cross_entropy`.
    workspace : int
        Bytes of memory to use for logits, 32 MiB by default; at least one row's are used.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` gives it.
    stats : RowStats
        If asked for.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class: the message names its row.

    Examples
    --------
    >>> import numpy as np
    >>> import fastsoftmax as fs
    >>> weight = np.log([[1.0, 3.0]])
    >>> float(np.exp(-fs.linear_cross_entropy([[1.0]], weight, None, [1])).round(12))
    0.75
    """
    asked = Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, return_stats)
    rows = take_rows(inputs, weight, bias, labels, ignore_index, reduction, asked, workspace)
    losses = losses_of(rows)
    loss = reduce(losses, rows.divisor, reduction, rows.dtype, losses.shape)
    return (loss, *rows.given.stats(compute_dtype(rows.dtype), losses.shape)) if return_stats and rows.given else loss


def linear_cross_entropy_with_grad(
    inputs: object,
    weight: object,
    bias: object,
    labels: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    dloss: object = None,
    inputs_grad: bool = True,
    workspace: int = WORKSPACE,
    out: LinearGrads | None = None,
) -> Any:
    """Compute the cross entropy of a linear layer's outputs and the gradients of X, W and b.

    With fewer than 64 classes one pass over X computes everything, a strip of rows at a time. With more, as many rows
    as the workspace holds get their logits, these become their gradient, and that gives ∂L/∂X and adds to ∂L/∂W.

    Parameters
    ----------
    inputs, weight, bias, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale,
    reduction, return_stats, workspace
        As in `linear_cross_entropy`. Without `dloss` the gradients for "none" are those of the sum.
    dloss : float or array_like, optional
        The upstream gradient: a scalar for "mean" and "sum", one per row for "none". Ones if left out.
    inputs_grad : bool
        False leaves ∂L/∂X out, which a model's first layer does not need.
    out : LinearGrads, optional
        Arrays that receive the gradients, such as those of the step before: fresh memory for a large ∂L/∂X can take as
        long as computing it. None in a place makes a new array.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` gives it.
    grads : LinearGrads
        The named tuple (dinputs, dweight, dbias), the arrays of `out` where given; dinputs is None where left out,
        dbias without a bias. A new dweight lies as `weight` does, transposed or not.
    stats : RowStats
        If asked for.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class.

    Examples
    --------
    >>> import numpy as np
    >>> import fastsoftmax as fs
    >>> loss, grads = fs.linear_cross_entropy_with_grad([[1.0]], np.log([[1.0, 3.0]]), None, [1])
    >>> grads.dweight.round(12), grads.dbias
    (array([[ 0.25, -0.25]]), None)
    """
    asked = Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, return_stats)
    rows = take_rows(inputs, weight, bias, labels, ignore_index, reduction, asked, workspace)
    losses, grads = losses_and_grads(rows, reduction, dloss, inputs_grad, out)
    loss = reduce(losses, rows.divisor, reduction, rows.dtype, losses.shape)
    return (loss, grads, *rows.given.stats(compute_dtype(rows.dtype), losses.shape)) if rows.given else (loss, grads)
