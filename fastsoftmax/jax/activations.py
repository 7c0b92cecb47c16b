"""Functions of logits, with the signatures and results of those of `jax.nn`."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from fastsoftmax.jax.axes import Axis, class_axes, from_rows, to_rows
from fastsoftmax.jax.operations.rows import Activation, takes


def softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    r"""Compute the probabilities of logits: `jax.nn.softmax`.

    .. math:: a_j = e^{z_j} / \sum_s e^{z_s}

    Parameters
    ----------
    x : array_like
        The logits z. Kernels take float32, float64, float16 and bfloat16.
    axis : int, tuple of int, or None
        The axis of the classes, or several whose elements are the classes; all for None.
    where : array_like of bool, optional
        Which classes there are; the others have probability 0. With it JAX's own function computes.

    Returns
    -------
    jax.Array
        Shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        If `axis` is none of the axes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastsoftmax.jax as fj
    >>> [round(float(prob), 3) for prob in fj.softmax(jnp.log(jnp.array([1.0, 3.0])))]
    [0.25, 0.75]
    """
    return _along("softmax", x, axis, where)


def log_softmax(x: ArrayLike, axis: Axis = -1, where: ArrayLike | None = None) -> jax.Array:
    r"""Compute the logarithms of probabilities: `jax.nn.log_softmax`.

    .. math:: \log a_j = z_j - \log \sum_s e^{z_s}

    Parameters
    ----------
    x, axis
        As in `softmax`.
    where : array_like of bool, optional
        Which classes there are; the others have −∞. With it JAX's own function computes.

    Returns
    -------
    jax.Array
        Shape and dtype of `x`.

    Raises
    ------
    TypeError, ValueError
        If `axis` is none of the axes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastsoftmax.jax as fj
    >>> [round(float(jnp.exp(each)), 3) for each in fj.log_softmax(jnp.log(jnp.array([1.0, 3.0])))]
    [0.25, 0.75]
    """
    return _along("log_softmax", x, axis, where)


def logsumexp(
    a: ArrayLike,
    axis: Axis = None,
    b: ArrayLike | None = None,
    keepdims: bool = False,
    return_sign: bool = False,
    where: ArrayLike | None = None,
) -> Any:
    r"""Compute the logarithm of a sum of exponentials: `jax.nn.logsumexp`.

    .. math:: lse = \log \sum_j e^{z_j}

    Parameters
    ----------
    a : array_like
        z. Kernels take float32, float64, float16 and bfloat16.
    axis : int, tuple of int, or None
        The axis of the sum, or several; all for None.
    b, return_sign, where
        As in `jax.nn.logsumexp`, which computes with them.
    keepdims : bool
        Whether the axes of the sum stay, of length 1.

    Returns
    -------
    jax.Array
        lse, of the dtype of `a`; with `return_sign` a pair of it and the sign.

    Raises
    ------
    TypeError, ValueError
        If `axis` is none of the axes.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> import fastsoftmax.jax as fj
    >>> [round(float(jnp.exp(each)), 3) for each in fj.logsumexp(jnp.log(jnp.array([[1.0, 3.0], [4.0, 1.0]])), axis=-1)]
    [4.0, 5.0]
    """
    if b is not None or where is not None or return_sign:
        return jax.nn.logsumexp(a, axis, b, keepdims, return_sign, where)
    a = jnp.asarray(a)
    return _logsumexp(a, class_axes(a.ndim, axis), keepdims)


def _along(name: str, x: ArrayLike, axis: Axis, where: ArrayLike | None) -> jax.Array:
    x = jnp.asarray(x)
    axes = class_axes(x.ndim, axis)
    if where is not None:
        return getattr(jax.nn, name)(x, axes, where)
    return _row_by_row(x, name, axes)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _row_by_row(x: jax.Array, name: str, axes: tuple[int, ...]) -> jax.Array:
    rows = to_rows(x, axes)
    if not takes(rows):
        return getattr(jax.nn, name)(x, axes)
    return from_rows(Activation(name)(rows)[0], x, axes)


@functools.partial(jax.jit, static_argnums=(1, 2), inline=True)
def _logsumexp(a: jax.Array, axes: tuple[int, ...], keepdims: bool) -> jax.Array:
    rows = to_rows(a, axes)
    if not takes(rows):
        return jax.nn.logsumexp(a, axes, keepdims=keepdims)
    (lse,) = Activation("logsumexp")(rows)
    return jnp.expand_dims(lse, axes) if keepdims else lse
