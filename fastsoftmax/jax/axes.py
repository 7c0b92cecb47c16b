"""Arrays as rows of classes, and back."""

import math
import operator

import jax
import jax.numpy as jnp

Axis = int | tuple[int, ...] | None


def class_axes(ndim: int, axis: object) -> tuple[int, ...]:
    """Take the axes of the classes as numbers from 0, in the order in which they were given; None for all."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    try:
        found = [operator.index(each) for each in given]
    except TypeError:
        raise TypeError(f"axis: expected an integer, a tuple of them or None, got {axis!r}") from None
    if not all(-ndim <= each < ndim for each in found):
        raise ValueError(f"axis: expected one of the {ndim} axes, got {axis}")
    axes = tuple(each % ndim for each in found)
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis: expected each axis once, got {axis}")
    return axes


def to_rows(array: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Give an array whose last axis has the classes of some axes."""
    rows = jnp.moveaxis(array, axes, range(array.ndim - len(axes), array.ndim))
    if len(axes) == 1:
        return rows
    n_rows_axes = array.ndim - len(axes)
    return rows.reshape(*rows.shape[:n_rows_axes], math.prod(rows.shape[n_rows_axes:]))


def from_rows(rows: jax.Array, like: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Put the classes of rows back where they were in an array."""
    ends = range(like.ndim - len(axes), like.ndim)
    if len(axes) > 1:
        rows = rows.reshape(*rows.shape[:-1], *(like.shape[axis] for axis in axes))
    return jnp.moveaxis(rows, ends, axes)
