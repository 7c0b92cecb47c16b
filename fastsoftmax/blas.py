"""Matrix products by the BLAS that NumPy uses, and one that adds to what is there, C += Aᵀ·B.

NumPy multiplies into an array but cannot add to one. Its BLAS can, and every CBLAS has the same C interface, so it is
looked up in NumPy's own extension module: no second BLAS, whose idle threads would get in the way of the first's.
Where it is not found, the product waits in a temporary array.
"""

import ctypes
import functools
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fastsoftmax.arrays import Array

_ROW_MAJOR, _NO_TRANSPOSE, _TRANSPOSE = 101, 111, 112
# Wheels of NumPy bring OpenBLAS with 64-bit integers, other builds a CBLAS with C's int.
_SYMBOLS = (
    ("scipy_cblas_{}gemm64_", ctypes.c_int64),
    ("cblas_{}gemm64_", ctypes.c_int64),
    ("cblas_{}gemm", ctypes.c_int),
)


def product(a: Array, b: Array, out: Array) -> Array:
    """Compute A·B into `out`, without a word about infinities and NaN: they are in the result."""
    with np.errstate(all="ignore"):
        return np.matmul(a, b, out=out)


def add_product(a: Array, b: Array, total: Array, *, temporary: Array) -> None:
    """Add Aᵀ·B to `total`: (D, C) += (N, D)ᵀ·(N, C), all C-contiguous and of one dtype.

    `temporary` is a flat array for part of the product, used where no BLAS that adds is found.
    """
    if total.size == 0:  # a row of no length is an illegal value to a BLAS, and some end the process over it
        return
    gemm = _gemm(a.dtype)
    n_features, n_columns = total.shape
    if gemm is not None:
        integer, real, function = gemm
        one = real(1.0)
        sizes = (integer(n_features), integer(n_columns), integer(len(a)))
        operands = (_pointer(a), integer(n_features), _pointer(b), integer(n_columns))
        result = (_pointer(total), integer(n_columns))
        function(_ROW_MAJOR, _TRANSPOSE, _NO_TRANSPOSE, *sizes, one, *operands, one, *result)
        return
    columns = max(1, temporary.size // n_features)
    for start in range(0, n_columns, columns):
        block = total[:, start : start + columns]
        addend = temporary[: block.size].reshape(block.shape)
        block += product(a.T, b[:, start : start + columns], addend)


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


@functools.cache
def _gemm(dtype: np.dtype[Any]) -> tuple[Any, Any, Callable[..., None]] | None:
    """Find the BLAS's gemm for a dtype: (its integer type, its real type, the function)."""
    real, letter = (ctypes.c_float, "s") if dtype == np.float32 else (ctypes.c_double, "d")
    try:
        library = ctypes.CDLL(importlib.import_module("numpy._core._multiarray_umath").__file__)
    except (ImportError, OSError):
        return None
    for symbol, integer in _SYMBOLS:
        function = getattr(library, symbol.format(letter), None)
        if function is not None:
            function.restype = None
            return integer, real, function
    return None
