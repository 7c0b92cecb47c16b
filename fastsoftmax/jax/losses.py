"""Cross entropy of logits, with the signatures and results of optax's losses."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fastsoftmax.conversions import compute_dtype
from fastsoftmax.jax import formulas
from fastsoftmax.jax.axes import Axis, class_axes, to_rows
from fastsoftmax.jax.handlers.labels import IGNORED
from fastsoftmax.jax.operations.rows import losses_of, takes


def softmax_cross_entropy_with_integer_labels(
    logits: ArrayLike, labels: ArrayLike, axis: int | tuple[int, ...] = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Compute the cross entropy of logits and class labels: `optax.softmax_cross_entropy_with_integer_labels`.

    .. math:: L_i = -\log a_{i,y_i} = \log \sum_j e^{z_{ij}} - z_{i,y_i}

    Parameters
    ----------
    logits : array_like of floats
        z, of any shape with an axis of classes. Kernels take float32, float64, float16 and bfloat16.
    labels : array_like of integers
        y, a class index for each row: the shape of `logits` without the axes of the classes.
    axis : int or tuple of int
        The axis of the classes. Of several the elements are the classes, and a label is a flat index.
    where : array_like of bool, optional
        Which rows count, of the shape of `labels`, or which classes, of the shape of `logits`. A row of which nothing
        is left has no loss and no gradient. For a mask of classes JAX's own operations compute.

    Returns
    -------
    jax.Array
        A loss for each row, in the dtype of `logits`.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    jax.errors.JaxRuntimeError, ValueError
        The former where JAX runs the computation at once, when a label is no class: the message has it and its row,
        counted along all axes of `labels`. optax gives NaN for such a label, and takes negative ones from the end.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastsoftmax.jax as fj
    >>> logits = jnp.log(jnp.array([[1.0, 3.0], [4.0, 1.0]]))
    >>> losses = fj.softmax_cross_entropy_with_integer_labels(logits, jnp.array([1, 0]))
    >>> [round(float(jnp.exp(-loss)), 3) for loss in losses]
    [0.75, 0.8]
    """
    logits, labels = floats("logits", logits), jnp.asarray(labels)
    if not formulas.is_labels(labels):
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    if axis is None:
        raise TypeError("axis: expected an integer or a tuple of them, got None")
    return _of_labels(logits, labels, where, class_axes(logits.ndim, axis))


def softmax_cross_entropy(
    logits: ArrayLike, labels: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Compute the cross entropy of logits and class probabilities: `optax.softmax_cross_entropy`.

    .. math:: L_i = -\sum_j p_{ij} \log a_{ij}

    Parameters
    ----------
    logits : array_like of floats
        z, of any shape with an axis of classes. Kernels take float32, float64, float16 and bfloat16.
    labels : array_like
        p, a probability for each class of each row: the shape of `logits`, or one that fits it. They need not add up
        to 1.
    axis : int, tuple of int, or None
        The axis of the classes, or several; all for None.
    where : array_like of bool, optional
        Which rows count, or which classes; JAX's own operations compute then.

    Returns
    -------
    jax.Array
        A loss for each row, in the dtype of `logits` and `labels` together.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastsoftmax.jax as fj
    >>> logits = jnp.log(jnp.array([[1.0, 3.0], [4.0, 1.0]]))
    >>> losses = fj.softmax_cross_entropy(logits, jnp.eye(2)[::-1])
    >>> [round(float(jnp.exp(-loss)), 3) for loss in losses]
    [0.75, 0.8]
    """
    axis = tuple(axis) if isinstance(axis, list) else axis
    return _of_probs(floats("logits", logits), jnp.asarray(labels), where, axis)


def floats(name: str, value: ArrayLike) -> jax.Array:
    """Take an array of floats."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name}: expected floats, got {array.dtype}")
    return array


# What kernels do, and what formulas -----------------------------------------------------------------------------------


@functools.partial(jax.jit, static_argnums=3, inline=True)
def _of_labels(logits: jax.Array, labels: jax.Array, where: Any, axes: tuple[int, ...]) -> jax.Array:
    rows, given, mask = to_rows(logits, axes), signed(labels), None
    fits = all(length in (1, other) or other == 1 for length, other in zip(labels.shape, rows.shape, strict=False))
    if labels.ndim != rows.ndim - 1 or not fits:
        raise ValueError(f"labels: expected shape {rows.shape[:-1]}, got {labels.shape}")
    if where is not None:
        mask = to_rows(_mask(where, logits, axes), axes)
        given = jnp.where(mask[..., 0], given, IGNORED)
    if (mask is None or mask.shape[-1] == 1) and given.shape == rows.shape[:-1] and takes(rows):
        return losses_of(rows, given)
    return formulas.loss_of_labels(rows, labels, mask)


@functools.partial(jax.jit, static_argnums=3, inline=True)
def _of_probs(logits: jax.Array, labels: jax.Array, where: Any, axis: Axis) -> jax.Array:
    axes = class_axes(logits.ndim, axis)
    rows, dtype = to_rows(logits, axes), jnp.promote_types(logits.dtype, labels.dtype)
    try:
        shape = jnp.broadcast_shapes(logits.shape, labels.shape)
    except ValueError:
        raise ValueError(f"labels: expected a shape that fits {logits.shape}, got {labels.shape}") from None
    if where is None and shape == logits.shape and dtype == logits.dtype and takes(rows):
        probs = to_rows(jnp.broadcast_to(labels, logits.shape), axes)
        return losses_of(rows, probs.astype(compute_dtype(logits.dtype)))
    mask = None if where is None else _mask(where, logits, axes)
    return formulas.loss_of_probs(logits, labels, axis, mask)


def _mask(where: ArrayLike, logits: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Give a mask of rows the axes of the classes, of length 1."""
    mask = jnp.asarray(where)
    return mask if mask.ndim == logits.ndim else jnp.expand_dims(mask, axes)


def signed(labels: jax.Array) -> jax.Array:
    """Give labels as handlers take them: int32, or int64 where JAX has that; what is too large stays so."""
    dtype = jnp.int64 if labels.dtype.itemsize == 8 else jnp.int32
    if labels.dtype.kind == "u" and labels.dtype.itemsize >= 4:
        labels = jnp.minimum(labels, jnp.array(jnp.iinfo(dtype).max, labels.dtype))
    return labels.astype(dtype)
