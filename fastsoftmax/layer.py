"""The linear layer before the loss: its outputs and its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastsoftmax import arrays, conversions, kernels, threads
from fastsoftmax.conversions import Array, compute_dtype, stored
from fastsoftmax.reference import LinearGrads

if TYPE_CHECKING:
    from fastsoftmax.kernels.compiling.jit import Kernel


def linear(inputs: object, weight: object, bias: object = None, *, out: Array | None = None) -> Array:
    """Compute the outputs of a linear layer, z = X·W + b.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (N, D)
        X. Integers are taken as float64, or as the dtype of a floating argument beside them, and so are lists.
    weight : array_like, shape (D, C)
        W, the dtype of `inputs`. The transpose `w.T` of a contiguous (C, D) array is taken as it lies.
    bias : array_like, shape (C,), optional
        b, the dtype of `inputs`.
    out : ndarray, shape (N, C), optional
        Receives the result: the dtype of `inputs`.

    Returns
    -------
    ndarray, shape (N, C)
        z; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.linear([[1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]], [10.0, 20.0])
    array([[11., 22.]])
    """
    x, w, b = checked_layer(inputs, weight, bias)
    result = arrays.buffer(out, (len(x), w.shape[1]), x.dtype, x, w, *(() if b is None else (b,)))
    b = np.zeros(w.shape[1], x.dtype) if b is None else b
    x, w, b = arrays.contiguous(x), arrays.as_it_lies(w), arrays.contiguous(b)
    if w.shape[1] <= kernels.tuning.NARROW_OUTPUTS:
        threads.run(kernels.operations.LINEAR.narrow, x.size, x, w, b, stored(result))
    else:
        multiply(kernels.operations.LINEAR.wide, x.size * w.shape[1], result, x, w, b)
    return arrays.settle(result, out)


def weight_grad(inputs: object, doutputs: object, *, out: Array | None = None) -> Array:
    """Compute the gradient of the weight, ∂L/∂W = Xᵀ·∂L/∂z.

    With up to 32 columns a kernel adds up fixed blocks of rows, in float64 between them: the same bits on any number of
    threads, and in float32 less rounding than pairwise summation of the products. With more its error is up to four
    times that.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (N, D)
        X. Integers are taken as float64, or as the dtype of a floating argument beside them, and so are lists.
    doutputs : array_like, shape (N, C)
        ∂L/∂z, the dtype of `inputs`.
    out : ndarray, shape (D, C), optional
        Receives the result: the dtype of `inputs`. The transpose of a contiguous (C, D) array is written as it lies.

    Returns
    -------
    ndarray, shape (D, C)
        ∂L/∂W; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.weight_grad([[1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]])
    array([[1., 2.]])
    """
    x, dz = _sides(inputs, doutputs)
    result = arrays.buffer(out, (x.shape[1], dz.shape[1]), x.dtype, x, dz, orders=("C", "F"))
    x = arrays.contiguous(x)
    if dz.shape[1] <= kernels.tuning.NARROW_DOUTPUTS:
        threads.run(kernels.operations.WEIGHT_GRAD.narrow, x.size, x, arrays.contiguous(dz), stored(result))
    else:
        multiply(kernels.operations.WEIGHT_GRAD.wide, x.size * dz.shape[1], result, x, _computed(dz), after=(False,))
    return arrays.settle(result, out)


def bias_grad(doutputs: object, *, out: Array | None = None) -> Array:
    """Compute the gradient of the bias, ∂L/∂b = Σ_i ∂L/∂z_i.

    Fixed blocks of rows are added up in float64: the same bits on any number of threads.

    Parameters
    ----------
    doutputs : array_like of float32, float64, float16 or bfloat16, shape (N, C)
        ∂L/∂z. Integers are taken as float64.
    out : ndarray, shape (C,), optional
        Receives the result: the dtype of `doutputs`.

    Returns
    -------
    ndarray, shape (C,)
        ∂L/∂b; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.bias_grad([[1.0, 0.0], [2.0, 5.0]])
    array([3., 5.])
    """
    dz = arrays.matrix("doutputs", doutputs)
    result = arrays.buffer(out, dz.shape[1:], dz.dtype, dz)
    threads.run(kernels.operations.HELPERS.bias_grad, dz.size, arrays.contiguous(dz), stored(result))
    return arrays.settle(result, out)


def input_grad(doutputs: object, weight: object, *, out: Array | None = None) -> Array:
    """Compute the gradient of the inputs, ∂L/∂X = ∂L/∂z·Wᵀ.

    Parameters
    ----------
    doutputs : array_like of float32, float64, float16 or bfloat16, shape (N, C)
        ∂L/∂z. Integers are taken as float64.
    weight : array_like, shape (D, C)
        W, the dtype of `doutputs`. The transpose `w.T` of a contiguous (C, D) array is taken as it lies.
    out : ndarray, shape (N, D), optional
        Receives the result: the dtype of `doutputs`.

    Returns
    -------
    ndarray, shape (N, D)
        ∂L/∂X; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.input_grad([[1.0, 1.0]], [[1.0, 2.0], [3.0, 4.0]])
    array([[3., 7.]])
    """
    dz = arrays.matrix("doutputs", doutputs)
    w = arrays.matrix("weight", weight, columns=dz.shape[1])
    if dz.dtype != w.dtype:
        dz, w = conversions.one_dtype({"doutputs": doutputs, "weight": weight}, [dz, w])
    result = arrays.buffer(out, (len(dz), len(w)), dz.dtype, dz, w, aligned=True)
    w = arrays.as_it_lies(w)
    if dz.shape[1] <= kernels.tuning.NARROW_DOUTPUTS and result.nbytes >= kernels.tuning.STREAM_BYTES:
        threads.run(kernels.operations.INPUT_GRAD.narrow, result.size, arrays.contiguous(dz), w, stored(result))
    else:
        multiply(kernels.operations.INPUT_GRAD.wide, dz.size * len(w), result, _computed(dz), w)
    return arrays.settle(result, out)


def linear_backward(inputs: object, weight: object, doutputs: object) -> LinearGrads:
    """Compute all gradients of a linear layer: `input_grad`, `weight_grad` and `bias_grad`.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (N, D)
        X. Integers are taken as float64, or as the dtype of a floating argument beside them, and so are lists.
    weight : array_like, shape (D, C)
        W, the dtype of `inputs`. The transpose `w.T` of a contiguous (C, D) array is taken as it lies.
    doutputs : array_like, shape (N, C)
        ∂L/∂z, the dtype of `inputs`.

    Returns
    -------
    LinearGrads
        The named tuple (dinputs, dweight, dbias); dweight lies as `weight` does, transposed or not.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> grads = fs.linear_backward([[1.0, 2.0]], [[3.0], [4.0]], [[0.5]])
    >>> grads.dinputs, grads.dbias
    (array([[1.5, 2. ]]), array([0.5]))
    """
    x = arrays.matrix("inputs", inputs)
    dz = arrays.matrix("doutputs", doutputs, len(x))
    w = arrays.matrix("weight", weight, x.shape[1], dz.shape[1])
    if not x.dtype == w.dtype == dz.dtype:
        x, w, dz = conversions.one_dtype({"inputs": inputs, "weight": weight, "doutputs": doutputs}, [x, w, dz])
    dweight = np.empty(w.shape, w.dtype, arrays.order_of(w))
    return LinearGrads(input_grad(dz, w), weight_grad(x, dz, out=dweight), bias_grad(dz))


def multiply(kernel: Kernel, products: int, result: Array, *factors: Array, after: tuple[object, ...] = ()) -> None:
    """Run a kernel of wide products; a result of a half type is computed in float32, and rounded once."""
    if result.itemsize != 2:
        threads.multiply(kernel, products, *factors, result, *after)
    else:
        sums = np.empty_like(result, np.float32)
        threads.multiply(kernel, products, *factors, sums, *after)
        round_into(result, sums)


def round_into(result: Array, sums: Array) -> None:
    """Round float32 to a half type: both are contiguous in one order."""
    threads.run(kernels.operations.HELPERS.round_to_half, sums.size, sums.ravel("K"), stored(result).ravel("K"))


def _computed(array: Array) -> Array:
    """Give an array for a kernel that takes it in its compute dtype."""
    return arrays.contiguous(array if array.itemsize != 2 else array.astype(compute_dtype(array.dtype)))


def checked_layer(inputs: object, weight: object, bias: object) -> tuple[Array, Array, Array | None]:
    """Check the arguments of a linear layer."""
    x = arrays.matrix("inputs", inputs)
    w = arrays.matrix("weight", weight, x.shape[1])
    if bias is None:
        if x.dtype != w.dtype:
            x, w = conversions.one_dtype({"inputs": inputs, "weight": weight}, [x, w])
        return x, w, None
    b = conversions.floats("bias", bias)
    if b.shape != w.shape[1:]:
        raise ValueError(f"bias: expected shape {w.shape[1:]}, got {b.shape}")
    if not x.dtype == w.dtype == b.dtype:
        x, w, b = conversions.one_dtype({"inputs": inputs, "weight": weight, "bias": bias}, [x, w, b])
    return x, w, b


def _sides(inputs: object, doutputs: object) -> tuple[Array, Array]:
    """Check the arguments of a weight's gradient."""
    x = arrays.matrix("inputs", inputs)
    dz = arrays.matrix("doutputs", doutputs, len(x))
    if x.dtype != dz.dtype:
        x, dz = conversions.one_dtype({"inputs": inputs, "doutputs": doutputs}, [x, dz])
    return x, dz
