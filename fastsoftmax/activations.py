"""Softmax, log-softmax and logsumexp; their gradients are in `activation_grads`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from fastsoftmax import arrays, conversions, kernels, options, spatial, threads
from fastsoftmax.conversions import Array
from fastsoftmax.options import Options

if TYPE_CHECKING:
    from fastsoftmax.kernels.regimes import RowKernels

Axis: TypeAlias = int | tuple[int, ...] | None


def softmax(
    logits: object, *, axis: Axis = -1, scale: float | None = None, where: object = None, out: Array | None = None
) -> Array:
    r"""Compute the probabilities of the classes.

    .. math:: a_j = e^{z_j} / \sum_s e^{z_s}

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16
        z, of any shape. Integers are taken as float64.
    axis : int, tuple of int, or None
        The axis of the classes, or several that are one list of classes together; None for all.
    scale : float, optional
        A factor of the logits above 0, taken in the dtype that they are computed in, float32 for half types: z stands
        for scale · z above. A temperature is 1 / scale.
    where : array_like of bool, optional
        Which classes there are, of the shape of `logits`: the others have probability 0.
    out : ndarray, optional
        Receives the result: shape and dtype of `logits`. ``out=logits`` works in place.

    Returns
    -------
    ndarray
        a, shape and dtype of `logits`; `out` if given. −inf gives exactly 0; a row that holds NaN or +inf, or nothing
        but −inf, is NaN, as in SciPy; of no classes it is empty.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.softmax([[0.0, 0.0], [-np.inf, 5.0]])
    array([[0.5, 0.5],
           [0. , 1. ]])
    """
    return row_by_row(kernels.operations.SOFTMAX, axis, out, (scale, where), logits=logits)


def log_softmax(
    logits: object, *, axis: Axis = -1, scale: float | None = None, where: object = None, out: Array | None = None
) -> Array:
    r"""Compute the logarithms of the classes' probabilities.

    .. math:: \log a_j = (z_j - m) - \log \sum_s e^{z_s - m}, \quad m = \max_s z_s

    Where a class is all but sure its log-probability keeps its digits: the sum leaves the maximum's own term out, and
    log1p puts it back.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16
        z, of any shape. Integers are taken as float64.
    axis : int, tuple of int, or None
        The axis of the classes, or several that are one list of classes together; None for all.
    scale : float, optional
        A factor of the logits above 0, taken in the dtype that they are computed in, float32 for half types: z stands
        for scale · z above. A temperature is 1 / scale.
    where : array_like of bool, optional
        Which classes there are, of the shape of `logits`: the others are −inf.
    out : ndarray, optional
        Receives the result: shape and dtype of `logits`. ``out=logits`` works in place.

    Returns
    -------
    ndarray
        log a, shape and dtype of `logits`; `out` if given. Infinities and NaN as in SciPy.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> print(fs.log_softmax([0.0, 40.0])[1].round(24))
    -4.248354e-18
    """
    return row_by_row(kernels.operations.LOG_SOFTMAX, axis, out, (scale, where), logits=logits)


def logsumexp(
    logits: object,
    *,
    axis: Axis = -1,
    scale: float | None = None,
    where: object = None,
    keepdims: bool = False,
    out: Array | None = None,
) -> Any:
    r"""Compute the logarithm of the sum of exponentials.

    .. math:: lse = m + \log \sum_j e^{z_j - m}, \quad m = \max_j z_j

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16
        z, of any shape. Integers are taken as float64.
    axis : int, tuple of int, or None
        The axis of the classes, or several that are one list of classes together; None for all.
    scale : float, optional
        A factor of the logits above 0, taken in the dtype that they are computed in, float32 for half types: z stands
        for scale · z above. A temperature is 1 / scale.
    where : array_like of bool, optional
        Which classes there are, of the shape of `logits`: the others are not added.
    keepdims : bool
        Keep those axes, with length one.
    out : ndarray, optional
        Receives the result: the shape of the result, dtype of `logits`.

    Returns
    -------
    ndarray or scalar
        The shape of `logits` without the axes of the classes; a scalar for a single row. Infinities and NaN as in
        SciPy; −inf of no classes.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> float(fs.logsumexp(np.array([1000.0, 1000.0])))
    1000.6931471805599
    """
    array = conversions.floats("logits", logits)
    axes = arrays.class_axes("logits", array, axis)
    shape = arrays.shape_without(array, axes, keepdims)
    if out is not None:
        arrays.check_out(out, shape, array.dtype)
    given = _options(array, axes, (scale, where)) if scale is not None or where is not None else None
    rows = call = None
    if len(axes) == 1 and array.size:
        rows = arrays.rows_in_place(array, axes[0])
        call = None if rows is not None else spatial.prepare(kernels.operations.LOGSUMEXP, [array], axes[0], given)
    if call:
        lse = np.empty(call.n_rows, array.dtype)
        call.run(conversions.stored(lse))
    else:
        rows = arrays.rows_of_axes(array, axes) if rows is None else rows
        lse = np.empty(len(rows), array.dtype)
        if rows.shape[1]:
            kernel = kernels.operations.LOGSUMEXP.choose([rows], lse)
            threads.run(given.bound(kernel) if given else kernel, rows.size, rows, conversions.stored(lse))
        else:
            lse[...] = -np.inf
    if out is None:
        return lse.reshape(shape)[()]
    out[...] = lse.reshape(shape)
    return out


def row_by_row(
    routes: RowKernels,
    axis: Axis,
    out: Array | None,
    asked: tuple[object, object] = (None, None),
    **inputs: object,
) -> Array:
    """Run a kernel whose inputs and result all have one shape and dtype; `asked` are the scale and where."""
    found = [conversions.floats(name, value) for name, value in inputs.items()]
    if len(found) > 1:
        found = _alike(inputs, found)
    name, first = next(iter(inputs)), found[0]
    axes = arrays.class_axes(name, first, axis)
    if out is not None:
        arrays.check_out(out, first.shape, first.dtype)
    given = None if asked[0] is asked[1] is None else _options(first, axes, asked)
    if first.size == 0:
        return np.empty_like(first) if out is None else out
    if len(axes) != 1:
        return _over_axes(routes, axes, out, found, given)
    (index,) = axes
    return _over_axis(routes, index, out, found, given)


def _options(logits: Array, axes: tuple[int, ...], asked: tuple[object, object]) -> Options:
    """Check the options of a function of logits, and give those that are on as kernels take them."""
    scale, where = asked
    values = options.transform(conversions.compute_dtype(logits.dtype), None, scale)
    return Options(values if where is None else values | {"where": arrays.mask(where, logits.shape, axes)}, 0.0)


def _over_axis(routes: RowKernels, axis: int, out: Array | None, found: list[Array], given: Options | None) -> Array:
    first = found[0]
    rows = arrays.rows_in_place(first, axis)
    if rows is None:
        result = spatial.result_for(out, found, axis)
        call = spatial.prepare(routes, found, axis, given, result)
        if call:
            call.run()
            return arrays.settle(result, out)
        rows = arrays.rows_of(first, axis)
    rows_in = [rows] if len(found) == 1 else [rows, arrays.rows_of(found[1], axis)]
    rows = arrays.rows_for(out, first, axis, [*rows_in, *given.arrays] if given else rows_in)
    kernel = routes.choose(rows_in, rows)
    threads.run(given.bound(kernel) if given else kernel, rows.size, *rows_in, rows)
    return arrays.deliver(rows, out, first, axis)


def _over_axes(
    routes: RowKernels,
    axes: tuple[int, ...],
    out: Array | None,
    found: list[Array],
    given: Options | None,
) -> Array:
    """Take several axes for one, and put its classes back where they were."""
    first = found[0]
    rows = _over_axis(routes, 1, None, [arrays.rows_of_axes(array, axes) for array in found], given)
    if first.itemsize == 2:
        rows = rows.view(first.dtype)
    ends = range(first.ndim - len(axes), first.ndim)
    result = np.moveaxis(rows.reshape(np.moveaxis(first, axes, ends).shape), ends, axes)
    return arrays.settle(result, out)


def _alike(inputs: dict[str, object], found: list[Array]) -> list[Array]:
    """Give two arrays one dtype, and require one shape of them."""
    (name, other_name), (first, other) = inputs, found
    arrays.same_shape(other_name, other, name, first)
    return found if first.dtype == other.dtype else conversions.one_dtype(inputs, found)
