"""The cross entropy of a linear layer and its gradients, over chunks of rows."""

from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from fastsoftmax.conversions import Array, compute_dtype, floats
from fastsoftmax.dask import chunks
from fastsoftmax.dask.tasks import mapped, of_chunk, on_one_thread, sent, tree
from fastsoftmax.head_rows import WORKSPACE, losses_and_grads, take_rows
from fastsoftmax.losses import Reduction, reduce
from fastsoftmax.options import OFF, Asked, mean_factor
from fastsoftmax.parts import merge, part_of
from fastsoftmax.reference import LinearGrads


class Layer(NamedTuple):
    """What each task needs beside its chunk."""

    weight: Array  # this and the bias of half types as float32: what is added up later is not rounded before
    bias: Array | None
    ignore_index: object
    asked: Asked
    workspace: object
    inputs_grad: bool


class Sums(NamedTuple):
    """What a chunk adds up to: a `Part`, and how many rows count."""

    loss: float
    divisor: float
    dweight: Array
    dbias: Array
    counted: int


class Chunk(NamedTuple):
    """What a task makes of its chunk."""

    losses: Array
    dinputs: Array | None
    sums: Sums


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
    inputs_grad: bool = True,
    workspace: int = WORKSPACE,
) -> tuple[da.Array, LinearGrads]:
    r"""Compute the cross entropy of a linear layer's outputs and the gradients of X, W and b, chunk by chunk.

    .. math:: L = \frac{\Sigma_k L_k}{\Sigma_k s_k}, \quad
              \frac{\partial L}{\partial W} = \frac{\Sigma_k \partial L_k / \partial W}{\Sigma_k s_k}

    Nothing is computed before Dask is asked to. A task for each chunk k computes its sums in one pass, and they are
    merged in float64, neighbours first: the same bits on any number of workers and threads.

    Parameters
    ----------
    inputs : dask.array.Array of float32, float64, float16, bfloat16 or integers, shape (N, D)
        X, in chunks of whole rows, as many as there may be. Their lengths need not be known.
    weight : array_like, shape (D, C)
        W, in memory. It travels to each worker.
    bias : array_like, shape (C,), or None
        b, in memory.
    labels : dask.array.Array or array_like of integers, shape (N,), or of floats, shape (N, C)
        y, a class index for each row, or class probabilities; rechunked as the rows are.
    sample_weight : dask.array.Array or array_like, shape (N,), optional
        As `labels`.
    class_weight, ignore_index, label_smoothing, z_loss, softcap, scale, reduction
        As in `fastsoftmax.cross_entropy`. The gradients for "none" are those of the sum.
    inputs_grad : bool
        False leaves ∂L/∂X out, which has the size of the data. For "mean" its chunks wait until all rows are counted,
        and for "sum" they do not.
    workspace : int
        Bytes of memory that a task uses for logits.

    Returns
    -------
    loss : dask.array.Array
        Of no axes, or for "none" in the chunks of the rows; as `fastsoftmax.linear_cross_entropy_with_grad` gives it.
    grads : LinearGrads
        The named tuple (dinputs, dweight, dbias) of Dask arrays in the dtype of `inputs`: dinputs in the chunks of the
        rows, None where left out; dbias None without a bias. Compute what you need of all this in one `dask.compute`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; if what only the data can tell does not, such as a label that is no class, when it
        is computed.

    Examples
    --------
    >>> import dask, dask.array as da
    >>> from fastsoftmax.dask import linear_cross_entropy_with_grad
    >>> X, y = da.ones((4, 1), chunks=(2, 1)), da.ones(4, chunks=2, dtype=int)
    >>> loss, grads = linear_cross_entropy_with_grad(X, np.log([[1.0, 3.0]]), None, y)
    >>> loss, dweight = dask.compute(loss, grads.dweight)
    >>> np.exp(-loss).round(12), dweight.round(12)
    (np.float64(0.75), array([[ 0.25, -0.25]]))
    """
    for name, value in (("weight", weight), ("bias", bias), ("class_weight", class_weight)):
        chunks.check_in_memory(name, value)
    x = chunks.row_chunks("inputs", inputs, "fastsoftmax.linear_cross_entropy_with_grad takes arrays in memory")
    y = chunks.beside("labels", labels, x, "inputs")
    s = None if sample_weight is None else chunks.beside("sample_weight", sample_weight, x, "inputs")
    if not isinstance(inputs_grad, (bool, np.bool_)):
        raise TypeError(f"inputs_grad: expected True or False, got {type(inputs_grad).__name__}")
    none = None if s is None else np.empty((0, *s.shape[1:]), s.dtype)
    asked = Asked(class_weight, none, label_smoothing, z_loss, softcap, scale, None, False)
    rows = _no_rows(x), weight, bias, np.empty((0, *y.shape[1:]), y.dtype)
    checked = take_rows(*rows, ignore_index, reduction, asked, workspace)  # all that can be told without data
    dtype = checked.dtype
    w, b = (each.view(dtype).astype(compute_dtype(dtype)) for each in (checked.weight, checked.bias))
    layer = sent(Layer(w, b if checked.has_bias else None, ignore_index, asked, workspace, bool(inputs_grad)))
    parts = mapped(_linear_cross_entropy, chunks.zipped(x, y, s), layer)
    sums = tree(merge, mapped(_sums, [(part,) for part in parts]))
    factor = delayed(_factor)(sums, reduction)

    def gradient(name: str, like: Array) -> da.Array:
        return chunks.single(delayed(_reduced_grad)(sums, name, factor, dtype), like.shape, dtype)

    loss = _loss(parts, sums, reduction, dtype, x)
    dinputs = None
    if inputs_grad:
        dinputs = chunks.gathered(_scaled_dinputs, parts, factor, sent(dtype), chunks=x.chunks, dtype=dtype)
    return loss, LinearGrads(dinputs, gradient("dweight", w), gradient("dbias", b) if checked.has_bias else None)


def _no_rows(x: da.Array) -> Array:
    """Give no rows, of as many features as there are."""
    return np.empty((0, x.shape[1]), x.dtype)


def _loss(parts: list[Delayed], sums: Delayed, reduction: Reduction, dtype: np.dtype[Any], x: da.Array) -> da.Array:
    """Give the loss as the reduction has it."""
    if reduction == "none":
        return chunks.gathered(_rounded_losses, parts, sent(dtype), chunks=x.chunks[:1], dtype=dtype)
    return chunks.single(delayed(_reduced_loss)(sums, reduction, dtype), (), compute_dtype(dtype))


@of_chunk
def _linear_cross_entropy(inputs: object, labels: object, sample_weight: object, layer: Layer) -> Chunk:
    """Compute what a chunk of rows adds up to."""
    x = floats("inputs", inputs).astype(layer.weight.dtype, copy=False)
    asked = layer.asked._replace(sample_weight=sample_weight)
    rows = take_rows(x, layer.weight, layer.bias, labels, layer.ignore_index, "sum", asked, layer.workspace)
    losses, grads = losses_and_grads(rows, "sum", inputs_grad=layer.inputs_grad)
    part = part_of(rows, losses, grads)
    return Chunk(losses, grads.dinputs, Sums(*part, rows.targets.counted))


def _sums(chunk: Chunk) -> Sums:
    return chunk.sums


def _factor(sums: Sums, reduction: Reduction) -> float:
    """Give what the gradients of the sum are multiplied by."""
    return mean_factor(1.0, sums.divisor, sums.counted) if reduction == "mean" else 1.0


@on_one_thread
def _reduced_loss(sums: Sums, reduction: Reduction, dtype: np.dtype[Any]) -> Any:
    return reduce(np.array([sums.loss]), sums.divisor, reduction, dtype, ())


@on_one_thread
def _rounded_losses(chunk: Chunk, dtype: np.dtype[Any]) -> Array:
    losses: Array = reduce(chunk.losses, 1.0, "none", dtype, chunk.losses.shape)
    return losses


def _reduced_grad(sums: Sums, name: str, factor: float, dtype: np.dtype[Any]) -> Array:
    return _scaled(getattr(sums, name), factor, dtype)


def _scaled_dinputs(chunk: Chunk, factor: float, dtype: np.dtype[Any]) -> Array:
    assert chunk.dinputs is not None
    return _scaled(chunk.dinputs, factor, dtype)


def _scaled(grad: Array, factor: float, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):  # what is too large is infinite
        return (grad if factor == 1 else grad * factor).astype(dtype, copy=False)
