"""What may come in, and every message about it.

Each function takes what a user passed and gives what the kernels take: float32, float64 or the bits of half types,
native byte order, classes last, C-contiguous; of a weight it may be the transpose that is. An error names the argument,
what was expected and what came.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any, Literal

import numpy as np

from fastsoftmax.conversions import FLOATS, Array, array_of, floats, is_masked, stored

_REDUCTIONS = ("mean", "sum", "none")
_LINE = 64

Order = Literal["C", "F"]


def same_shape(name: str, array: Array, first: str, like: Array) -> None:
    """Require an array to have the shape of the first."""
    if array.shape != like.shape:
        raise ValueError(f"{name}: expected shape {like.shape} like {first}, got {array.shape}")


def matrix(name: str, value: object, rows: int | None = None, columns: int | None = None) -> Array:
    """Take a two-dimensional array, of a given number of rows and columns where they are given."""
    array = floats(name, value)
    shape = array.shape
    if len(shape) != 2 or rows not in (None, shape[0]) or columns not in (None, shape[1]):
        expected = f"shape ({'any' if rows is None else rows}, {'any' if columns is None else columns})"
        raise ValueError(f"{name}: expected {expected}, got shape {shape}")
    return array


def class_axis(name: str, array: Array, axis: object) -> int:
    """Take the axis of the classes as a number from 0; there must be a class."""
    shape = array.shape  # NumPy makes a tuple of it each time
    if type(axis) is int and -len(shape) <= axis < len(shape) and shape[axis]:
        return axis % len(shape)
    index = integer("axis", axis)
    if not -len(shape) <= index < len(shape):
        if array.ndim == 0:
            raise ValueError(f"{name}: expected at least one axis, that of the classes, got a scalar")
        raise ValueError(f"axis: expected one of the {array.ndim} axes of {name}, got {index}")
    if shape[index] == 0:
        raise ValueError(f"{name}: expected at least one class, got shape {shape} with axis {index}")
    return index % len(shape)


def class_axes(name: str, array: Array, axis: object) -> tuple[int, ...]:
    """Take one axis or several as numbers from 0, in order; None for all."""
    n_axes = array.ndim
    if type(axis) is int and -n_axes <= axis < n_axes:
        return (axis % n_axes,)
    if axis is None:
        return tuple(range(n_axes))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    if n_axes == 0 and given:
        raise ValueError(f"{name}: expected at least one axis, that of the classes, got a scalar")
    axes = tuple(sorted([_axis(name, n_axes, each) for each in given]))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis: expected each axis once, got {axis}")
    return axes


def _axis(name: str, n_axes: int, axis: object) -> int:
    index = integer("axis", axis)
    if not -n_axes <= index < n_axes:
        raise ValueError(f"axis: expected one of the {n_axes} axes of {name}, got {index}")
    return index % n_axes


def shape_without(array: Array, axes: tuple[int, ...], keepdims: bool = False) -> tuple[int, ...]:
    """Give the shape without some axes, or with a length of one in their places."""
    shape = array.shape
    if len(axes) == 1:
        (axis,) = axes
        return shape[:axis] + ((1,) if keepdims else ()) + shape[axis + 1 :]
    if keepdims:
        return tuple(1 if i in axes else shape[i] for i in range(len(shape)))
    return tuple(shape[i] for i in range(len(shape)) if i not in axes)


def rows_of_axes(array: Array, axes: tuple[int, ...]) -> Array:
    """View or copy an array as contiguous rows whose classes are all along some axes."""
    if len(axes) == 1 and array.shape[axes[0]]:
        return rows_of(array, axes[0])
    n_classes = math.prod(array.shape[i] for i in axes)
    rows = np.moveaxis(array, axes, range(array.ndim - len(axes), array.ndim))
    return contiguous(rows.reshape(math.prod(shape_without(array, axes)), n_classes))


def rows_in_place(array: Array, axis: int) -> Array | None:
    """View an array as contiguous rows of classes; None where it takes a copy."""
    if not array.flags.carray or axis != array.ndim - 1:
        return None
    if axis != 1:
        n_classes = array.shape[-1]
        array = array.reshape(array.size // n_classes, n_classes)
    return array if array.itemsize != 2 else stored(array)


def rows_of(array: Array, axis: int) -> Array:
    """View or copy an array as contiguous rows of classes."""
    if axis != array.ndim - 1:
        array = np.moveaxis(array, axis, -1)
    if array.ndim != 2:
        n_classes = array.shape[-1]
        array = array.reshape(array.size // n_classes, n_classes)
    return contiguous(array)


def contiguous(array: Array) -> Array:
    """View or copy an array as an aligned, C-contiguous one that Numba takes for writable, half types as their bits."""
    flags = array.flags
    if flags.carray:  # all of that, in one look
        return array if array.itemsize != 2 else stored(array)
    array = stored(array)
    return np.asarray(_Writable(array)) if flags.c_contiguous and flags.aligned else np.array(array, order="C")


def order_of(weight: Array) -> Order:
    """Give the order in which kernels take a weight: "F" for the transpose of a C-contiguous (C, D) array."""
    return "F" if weight.flags.fnc else "C"


def as_it_lies(weight: Array) -> Array:
    """View or copy a weight as `contiguous` does; where its transpose is what is contiguous, that.

    Transposed copies of a large one and of its gradient would take a quarter of a head's time (M66).
    """
    return contiguous(weight.T).T if weight.flags.fnc else contiguous(weight)


class _Writable:
    """A read-only array, to be taken for a writable one.

    Numba would compile a kernel anew for every set of its arguments that are read-only. No kernel writes to an input.
    """

    def __init__(self, array: Array):
        self._owner = array
        interface = array.__array_interface__
        self.__array_interface__ = interface | {"data": (interface["data"][0], False)}


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype[Any], name: str = "out") -> None:
    """Require `out` to be a writable array of this shape and dtype."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"{name}: expected an array or None, got {type(out).__name__}")
    if type(out) is not np.ndarray and is_masked(out):
        raise TypeError(f"{name}: expected an array without a mask, got a masked array")
    if out.dtype != dtype or not out.dtype.isnative:
        raise TypeError(f"{name}: expected {dtype}, got {out.dtype}")
    if out.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError(f"{name}: expected a writable array, got a read-only one")


def buffer(
    out: Array | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *inputs: Array,
    name: str = "out",
    aligned: bool = False,
    orders: tuple[Order, ...] = ("C",),
) -> Array:
    """Give the contiguous array to compute a result in: a checked `out`, unless it overlaps an input, or a new one.

    That has the first of the orders that the kernel can write.
    """
    if out is not None:
        check_out(out, shape, dtype, name)
        flags = out.flags  # whose `farray` is true of arrays that are not contiguous, too
        fits = (flags.carray and "C" in orders) or (flags.fnc and flags.behaved and "F" in orders)
        if fits and not any(np.may_share_memory(out, array) for array in inputs):
            return out
    return _aligned(shape, dtype) if aligned else np.empty(shape, dtype, orders[0])


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Make room that begins at a multiple of 64 bytes, for what is written past the caches a tile at a time.

    Not for what is written element by element as it is read: memory 48 bytes further into its page than NumPy's usual
    place makes the chip take each read for one of what was just written, and the whole takes twice as long (M21).
    """
    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + _LINE, np.uint8)
    start = -room.ctypes.data % _LINE
    return room[start : start + size].view(dtype).reshape(shape)


def settle(result: Array, out: Array | None) -> Array:
    """Give a result, in `out` if there is one."""
    if out is None or result is out:
        return result
    out[...] = result
    return out


def rows_for(out: Array | None, like: Array, axis: int, inputs: Iterable[Array]) -> Array:
    """Give the rows a kernel writes to: those of `out` where it can write there itself, else new ones.

    The kernels finish reading an element before they write it, so `out` may be one of the inputs, but must not overlap
    one in any other way.
    """
    rows = None if out is None else rows_in_place(out, axis)
    if rows is not None:
        for array in inputs:
            if array.size and _overlaps(rows, array):
                break
        else:
            return rows
    n_classes = like.shape[axis]
    rows = np.empty((like.size // n_classes, n_classes), like.dtype)
    return rows if rows.itemsize != 2 else stored(rows)


def _overlaps(a: Array, b: Array) -> bool:
    """Whether two arrays may share memory without being the same elements."""
    if a is b or not np.may_share_memory(a, b):
        return False
    return bool(a.ctypes.data != b.ctypes.data or a.strides != b.strides or a.shape != b.shape)


def deliver(rows: Array, out: Array | None, like: Array, axis: int) -> Array:
    """Give the rows the shape of `like`; in `out`, if there is one."""
    if rows is out or (out is not None and np.may_share_memory(rows, out)):
        return out
    if like.itemsize == 2:
        rows = rows.view(like.dtype)
    if like.ndim != 2:
        rows = rows.reshape(*row_shape(like.shape, axis), like.shape[axis])
    if axis != like.ndim - 1:
        rows = np.moveaxis(rows, -1, axis)
    if out is None:
        return rows
    out[...] = rows
    return out


def mask(where: object, shape: tuple[int, ...], axes: tuple[int, ...]) -> Array:
    """Take which classes rows of logits have, as the flat bytes of rows whose classes are all along some axes."""
    array = array_of("where", where)
    if array.dtype != np.bool_:
        raise TypeError(f"where: expected booleans, got {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"where: expected shape {shape} like logits, got {array.shape}")
    return rows_of_axes(array, axes).view(np.uint8).reshape(-1)


def integer(name: str, value: object) -> int:
    """Take an integer."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name}: expected an integer, got {type(value).__name__}") from None


def row_shape(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    """Give a shape without the axis of the classes."""
    return shape[:axis] + shape[axis + 1 :]


def check_reduction(reduction: object) -> None:
    """Require one of the reductions."""
    if not (isinstance(reduction, str) and reduction in _REDUCTIONS):
        raise ValueError(f"reduction: expected one of {', '.join(_REDUCTIONS)}, got {reduction!r}")


def upstream(dloss: object, reduction: str, rows: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[float, Array]:
    """Take the gradient of what follows the loss: (factor of all rows, factors one per row or none)."""
    none = _NO_ROWS.get(dtype, _NO_FLOAT32)
    if dloss is None:
        return 1.0, none
    array = floats("dloss", dloss)
    expected = rows if reduction == "none" else ()
    if array.shape != expected:
        raise ValueError(f'dloss: expected shape {expected} for reduction="{reduction}", got {array.shape}')
    if reduction == "none":
        with np.errstate(all="ignore"):  # what is too large is infinite, what is too small is zero
            return 1.0, contiguous(array.astype(none.dtype, copy=False)).reshape(-1)
    return float(array), none


_NO_ROWS = {dtype: np.empty(0, dtype) for dtype in FLOATS}

_NO_FLOAT32 = _NO_ROWS[FLOATS[0]]


def no_rows(dtype: np.dtype[Any]) -> Array:
    """Give an array of nothing in the compute dtype of another."""
    return _NO_ROWS.get(dtype, _NO_FLOAT32)
