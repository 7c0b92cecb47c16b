"""Arrays as rows of classes, as kernels take them, and results as the caller asked for them."""

from numba import types

from .memory import clash, overlap, room, view_as
from .problems import AXIS, OUT_SHAPE, fine, problem
from .typing import by_type, is_integer, is_none, jitable, literal, refuse

# Ways in which classes lie in an array: along the last axis; along the first of two; along all; each element is a row.
LAST, FIRST, ALL, EACH = range(4)


def is_contiguous(array):
    """Whether the type of an array says that kernels can take it as it is."""
    return array.layout == "C" and array.aligned


# The axis of the classes ----------------------------------------------------------------------------------------------


@by_type
def check_axis(logits, axis):
    """Find what is wrong with an axis that is a variable."""
    if not is_integer(axis) or type(literal(axis)) is int:
        return lambda logits, axis: fine()
    n_axes = logits.ndim
    return lambda logits, axis: fine() if -n_axes <= axis < n_axes else problem(AXIS, 0.0, n_axes, axis, 0)


def way_of(array, axis):
    """Give in which way classes lie for types of arguments; None where that is LAST or FIRST, by a variable."""
    n_axes, given = array.ndim, literal(axis)
    if is_none(axis):
        return ALL if n_axes == 2 else LAST
    if not is_integer(axis) and type(given) is not int:
        return _way_of_axes(n_axes, axis)
    if n_axes == 1:
        return LAST
    if type(given) is not int:
        return None
    if not -2 <= given < 2:
        refuse("axis", f"one of the {n_axes} axes of logits", given)
    return (FIRST, LAST)[given % 2]


def _way_of_axes(n_axes, axis):
    axes = [literal(each) for each in getattr(axis, "types", axis if isinstance(axis, tuple) else [None])]
    if not all(type(each) is int and -n_axes <= each < n_axes for each in axes):
        refuse("axis", f"an integer, None, or a constant tuple of axes of logits, of which there are {n_axes}", axis)
    if len({each % n_axes for each in axes}) != len(axes):
        refuse("axis", "each axis once", axis)
    if not axes:
        return EACH
    return ALL if len(axes) == n_axes == 2 else LAST if (axes[0] + 1) % n_axes == 0 else FIRST


def check_one_axis(axis):
    """Require the axis of a loss's classes to be one."""
    if not is_integer(axis) and type(literal(axis)) is not int:
        refuse("axis", "an integer", axis)


def n_axes_without(array, axis, keepdims):
    """Give how many axes that shape has."""
    way = way_of(array, axis)
    return array.ndim if keepdims or way == EACH else 0 if way == ALL else array.ndim - 1


@by_type
def shape_without(logits, axis, keepdims):
    """Give the shape without the axes of the classes, or with a length of one in their places."""
    way, keeps, n_axes = way_of(logits, axis), literal(keepdims), logits.ndim
    if way == EACH:
        return lambda logits, axis, keepdims: logits.shape
    if way == ALL or n_axes == 1:
        shape = (1,) * n_axes if keeps else ()
        return lambda logits, axis, keepdims: shape
    if keeps:
        return lambda logits, axis, keepdims: (logits.shape[0], 1) if is_last(axis) else (1, logits.shape[1])
    return lambda logits, axis, keepdims: (logits.shape[0] if is_last(axis) else logits.shape[1],)


@by_type
def is_last(axis):
    """Whether an axis, of two, is the last one."""
    if not is_integer(axis):
        known = literal(axis.types[0]) % 2 == 1
        return lambda axis: known
    return lambda axis: axis == -1 or axis == 1


@by_type
def shaped(line, shape):
    """Give what rows have one of each the shape of the rows: a single row's own is a number."""
    if len(shape) == 0:
        return lambda line, shape: line[0]
    return lambda line, shape: view_as(line, shape, line.dtype)


# Rows in and out ------------------------------------------------------------------------------------------------------


@by_type
def rows_of(array, axis):
    """View or copy an array as contiguous rows."""
    contiguous, way = is_contiguous(array), way_of(array, axis)
    if way is None:
        return lambda array, axis: rows_of(array, -1) if is_last(axis) else turned(array)
    if way == FIRST:
        return lambda array, axis: turned(array)
    if way == LAST and array.ndim == 2:
        return lambda array, axis: array if contiguous else copied(array)
    is_each = way == EACH

    def take_all(array, axis):
        shape = (array.size, 1) if is_each else (1, array.size)
        return view_as(array if contiguous else copied(array), shape, array.dtype)

    return take_all


@by_type
def copied(array):
    """Copy an array to contiguous memory."""
    if array.ndim == 1:

        def copy_line(array):
            copy = room(array.shape, array.dtype)
            for i in range(array.size):
                copy[i] = array[i]
            return copy

        return copy_line

    def copy(array):
        copy = room(array.shape, array.dtype)
        for i in range(array.shape[0]):
            for j in range(array.shape[1]):
                copy[i, j] = array[i, j]
        return copy

    return copy


@jitable
def turned(array):
    """Copy the transpose of an array to contiguous memory."""
    n, m = array.shape
    copy = room((m, n), array.dtype)
    for i in range(m):
        for j in range(n):
            copy[i, j] = array[j, i]
    return copy


@by_type
def line_of(array):
    """View or copy a one-dimensional array as a contiguous one."""
    if is_contiguous(array):
        return lambda array: view_as(array, (array.size,), array.dtype)
    return lambda array: copied(array)


def check_result(name, out, like, ndim):
    """Require an array of a dtype that can be written, or none."""
    is_result = isinstance(out, types.Array) and out.dtype == like.dtype and out.ndim == ndim and out.mutable
    if not (is_none(out) or is_result):
        refuse(name, f"a writable array of {like.dtype} with {ndim} dimensions, or None", out)


@by_type
def check_shape(out, shape):
    """Find what is wrong with the shape of a result."""
    if is_none(out) or out.ndim == 0:
        return lambda out, shape: fine()
    return lambda out, shape: fine() if out.shape == shape else problem(OUT_SHAPE, 0.0, shape[0], shape[-1], 0)


@by_type
def rows_for(out, rows, axis, inputs):
    """Give the rows that a kernel writes to: those of `out`, where it can write there itself, or new ones."""
    if is_none(out) or not is_contiguous(out) or way_of(out, axis) == FIRST:
        return lambda out, rows, axis, inputs: room(rows.shape, rows.dtype)

    def choose(out, rows, axis, inputs):
        own = view_as(out, rows.shape, rows.dtype)
        if out.size != rows.size or clash(own, inputs) or not lies_as_rows(out, axis):
            return room(rows.shape, rows.dtype)
        return own

    return choose


@by_type
def lies_as_rows(array, axis):
    """Whether the classes of each row lie next to each other in a contiguous array."""
    if way_of(array, axis) is None:
        return lambda array, axis: is_last(axis)
    return lambda array, axis: True


@by_type
def deliver(rows, out, like, axis):
    """Give rows of results the shape of an array; in `out`, if there is one."""
    if is_none(out):
        return _shaped_like(like, way_of(like, axis))
    contiguous = is_contiguous(out)

    def settle(rows, out, like, axis):
        if not (contiguous and overlap(rows, (out,))):
            put(rows, out, axis)
        return out

    return settle


def _shaped_like(like, way):
    if way is None:
        return lambda rows, out, like, axis: rows if is_last(axis) else turned(rows)
    if way == FIRST:
        return lambda rows, out, like, axis: turned(rows)
    if way == LAST and like.ndim == 2:
        return lambda rows, out, like, axis: rows
    return lambda rows, out, like, axis: view_as(rows, like.shape, rows.dtype)


@by_type
def put(rows, out, axis):
    """Copy rows of results to where they belong."""
    if out.ndim == 1:
        return lambda rows, out, axis: fill(out, view_as(rows, (rows.size,), rows.dtype))
    if way_of(out, axis) in (FIRST, None):

        def put_turned(rows, out, axis):
            for i in range(out.shape[0]):
                for j in range(out.shape[1]):
                    out[i, j] = rows[i, j] if lies_as_rows(out, axis) else rows[j, i]

        return put_turned

    def put_all(rows, out, axis):
        n, m = out.shape
        flat = view_as(rows, (rows.size,), rows.dtype)
        for i in range(n):
            for j in range(m):
                out[i, j] = flat[i * m + j]

    return put_all


@by_type
def fill(out, line):
    """Copy what rows have one of each to `out`."""
    if out.ndim == 0:

        def fill_one(out, line):
            out[()] = line[0]

        return fill_one

    if out.ndim == 1:

        def fill_line(out, line):
            for i in range(line.size):
                out[i] = line[i]

        return fill_line

    def fill_all(out, line):
        n_columns = out.shape[1]
        for i in range(line.size):
            out[i // n_columns, i % n_columns] = line[i]

    return fill_all
