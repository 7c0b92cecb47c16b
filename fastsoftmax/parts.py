"""What a chunk of rows adds to the loss of a linear layer and its gradients: sums that any scheduler can map and merge.

The cross entropy of a linear layer is a sum over rows, and so are its gradients with respect to the layer. For rows
that are spread over chunks, processes or machines,

    L = Σ_k L_k / Σ_k s_k,  ∂L/∂W = Σ_k ∂L_k/∂W / Σ_k s_k,  ∂L/∂b likewise,

with chunk k's sums L_k and what it counts for in a mean, s_k. `linear_cross_entropy_part` maps a chunk to its sums, in
float64, and `merge` adds those of two chunks: merged in the same order, they have the same bits wherever each of them
was computed. Nothing here knows of a scheduler; `fastsoftmax.dask` and `fastsoftmax.sklearn` are built on it.
"""

import operator
from typing import Any, NamedTuple, TypeVar

import numpy as np

from fastsoftmax import kernels, options
from fastsoftmax.arrays import same_shape
from fastsoftmax.conversions import Array, compute_dtype, floats, one_dtype
from fastsoftmax.curvature import cross_entropy_hvp
from fastsoftmax.head_rows import WORKSPACE, HeadRows, losses_and_grads, take_rows
from fastsoftmax.layer import bias_grad, linear, weight_grad
from fastsoftmax.options import OFF, Asked
from fastsoftmax.reference import LinearGrads

__all__ = ["LayerSums", "Part", "linear_cross_entropy_hvp_part", "linear_cross_entropy_part", "merge"]


class Part(NamedTuple):
    """Sums over the rows of a chunk, in float64."""

    loss: float
    divisor: float  # what a mean divides by: the number of rows that count, or the sum of what they weigh
    dweight: Array  # (D, C)
    dbias: Array  # (C,)

    def mean(self) -> tuple[float, LinearGrads]:
        """Give the mean loss, and its gradients: NaN, and zeros, where no row counts.

        Infinity, and zeros, where all rows weigh nothing and have a loss, as of smoothed labels of weight 0.
        """
        if not self.divisor:
            zeros = LinearGrads(None, np.zeros_like(self.dweight), np.zeros_like(self.dbias))
            return options.mean_of_nothing(self.loss), zeros
        return self.loss / self.divisor, LinearGrads(None, self.dweight / self.divisor, self.dbias / self.divisor)


class LayerSums(NamedTuple):
    """Sums over the rows of a chunk that lie as a layer's parameters do, in float64."""

    weight: Array  # (D, C)
    bias: Array  # (C,)


Sums = TypeVar("Sums", bound=tuple[Any, ...])


def merge(first: Sums, second: Sums) -> Sums:
    """Add what two chunks have summed up: two parts to a part, and so on for any named tuple of sums.

    Addition is commutative to the bit, but not associative: for the same bits in each run merge in the same tree.

    Parameters
    ----------
    first, second : named tuple
        Of the same kind: `Part` or `LayerSums`.

    Returns
    -------
    named tuple
        Of that kind.

    Raises
    ------
    TypeError
        If the two are not of one kind.

    Examples
    --------
    >>> from fastsoftmax.parts import LayerSums, merge
    >>> merge(LayerSums(np.ones((1, 2)), np.ones(2)), LayerSums(np.ones((1, 2)), np.zeros(2)))
    LayerSums(weight=array([[2., 2.]]), bias=array([1., 1.]))
    """
    if type(first) is not type(second):
        raise TypeError(f"second: expected {type(first).__name__} like first, got {type(second).__name__}")
    return type(first)(*map(operator.add, first, second))


def linear_cross_entropy_part(
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
    workspace: int = WORKSPACE,
) -> Part:
    """Map a chunk of rows to what it adds to the cross entropy of X·W + b and to its gradients.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (N, D)
        X, the rows of this chunk; N may be 0.
    weight : array_like, shape (D, C)
        W, the dtype of `inputs`.
    bias : array_like, shape (C,), or None
        b, the dtype of `inputs`.
    labels : array_like of integers, shape (N,), or of floats, shape (N, C)
        y, a class index for each row, or class probabilities.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale, workspace
        As in `linear_cross_entropy_with_grad`; `sample_weight` has a weight for each row of the chunk.

    Returns
    -------
    Part
        The named tuple (loss, divisor, dweight, dbias). The loss is a sum of float64 losses, which are not rounded to
        the inputs' dtype before; the gradients of half types are float32 sums, of a float32 copy of the chunk. dbias is
        that of a bias of zeros where there is none.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class.

    Examples
    --------
    >>> from fastsoftmax.parts import linear_cross_entropy_part, merge
    >>> weight = np.log([[1.0, 3.0]])
    >>> chunks = [([[1.0]], [1]), ([[2.0], [0.0]], [0, 1])]
    >>> first, second = (linear_cross_entropy_part(X, weight, None, y) for X, y in chunks)
    >>> loss, grads = merge(first, second).mean()
    >>> round(loss, 12), grads.dweight.round(12)
    (1.094471448669, array([[-0.51666667,  0.51666667]]))
    """
    asked = Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, False)
    rows = _widened(take_rows(inputs, weight, bias, labels, ignore_index, "sum", asked, workspace))
    rows = rows._replace(has_bias=True)  # which is zero where there is none, its gradient is not
    return part_of(rows, *losses_and_grads(rows, "sum", inputs_grad=False))


def _widened(rows: HeadRows) -> HeadRows:
    """Give rows in the dtype that they are computed in: sums over many are too large for a float16."""
    dtype = compute_dtype(rows.dtype)
    if dtype == rows.dtype:
        return rows
    x, w, b = (array.view(rows.dtype).astype(dtype) for array in (rows.inputs, rows.weight, rows.bias))
    return rows._replace(dtype=dtype, inputs=x, weight=w, bias=b)


def part_of(rows: HeadRows, losses: Array, grads: LinearGrads) -> Part:
    """Sum up the losses of rows, beside the sums that their gradients are."""
    loss = float(kernels.operations.HELPERS.total_loss.serial(losses))
    dbias = np.zeros(rows.bias.shape) if grads.dbias is None else grads.dbias
    return Part(loss, float(rows.divisor), grads.dweight.astype(np.float64), dbias.astype(np.float64))


def linear_cross_entropy_hvp_part(
    inputs: object,
    weight: object,
    bias: object,
    labels: object,
    vector: tuple[object, object],
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    workspace: int = WORKSPACE,
) -> LayerSums:
    r"""Map a chunk of rows to what it adds to the product of the loss's Hessian, in W and b, with a vector (V, c).

    .. math:: (\Sigma_i\, x_i\, u_i^T,\ \Sigma_i\, u_i), \quad u_i = H_i (V^T x_i + c)

    with the Hessian H_i of row i's loss with respect to its logits, `cross_entropy_hvp`.

    Parameters
    ----------
    inputs, weight, bias, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale
        As in `linear_cross_entropy_part`.
    vector : tuple of two array_like, shapes (D, C) and (C,)
        V and c, the dtype of `inputs`; integers and lists are taken as that.
    workspace : int
        Bytes of memory for logits and for each of their products, a chunk of rows at a time.

    Returns
    -------
    LayerSums
        The named tuple (weight, bias).

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class.

    Examples
    --------
    >>> from fastsoftmax.parts import linear_cross_entropy_hvp_part
    >>> weight = np.log([[1.0, 3.0]])
    >>> linear_cross_entropy_hvp_part([[1.0]], weight, None, [1], ([[1.0, 0.0]], [0.0, 0.0])).weight
    array([[ 0.1875, -0.1875]])
    """
    asked = Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, False)
    rows = take_rows(inputs, weight, bias, labels, ignore_index, "sum", asked, workspace)
    x, w, b = (array.view(rows.dtype) for array in (rows.inputs, rows.weight, rows.bias))
    v, c = _direction(vector, w, b)
    y = rows.targets.labels if rows.targets.probs is None else rows.targets.probs
    s = None if sample_weight is None else floats("sample_weight", sample_weight)
    sums = LayerSums(np.zeros(w.shape), np.zeros(b.shape))
    computed = compute_dtype(rows.dtype)
    w, b, v, c = (each.astype(computed, copy=False) for each in (w, b, v, c))
    for chunk, z in rows.chunks():
        of_chunk = x[chunk].astype(computed, copy=False)
        linear(of_chunk, w, b, out=z)
        u = linear(of_chunk, v, c)
        cross_entropy_hvp(
            z,
            y[chunk],
            u,
            class_weight=class_weight,
            sample_weight=None if s is None else s[chunk],
            ignore_index=rows.targets.ignored,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            scale=scale,
            reduction="sum",
            out=u,
        )
        sums = merge(sums, LayerSums(weight_grad(of_chunk, u), bias_grad(u)))
    return sums


def _direction(vector: object, weight: Array, bias: Array) -> list[Array]:
    """Take a direction among a layer's parameters."""
    if not (isinstance(vector, tuple) and len(vector) == 2):
        came = f"{len(vector)} of them" if isinstance(vector, tuple) else type(vector).__name__
        raise TypeError(f"vector: expected a tuple of two arrays, got {came}")
    taken = []
    for each, name, like in zip(vector, ("weight", "bias"), (weight, bias), strict=True):
        array = floats("vector", each)
        same_shape("vector", array, name, like)
        taken.append(one_dtype({name: like, "vector": each}, [like, array])[1])
    return taken
