"""What a user passed becomes an array of floats: arrays, lists, what other libraries have; masks are refused."""

import sys
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def floats(name: str, value: object) -> Array:
    """Take float32, float64 and half types as they are, integers as float64."""
    array = value if type(value) is np.ndarray else array_of(name, value)  # a call less (M48)
    if array.dtype in FLOATS or is_half(array.dtype):
        return array
    native = array.dtype.newbyteorder("=")
    if native in FLOATS or is_half(native):
        return array.astype(native)
    if array.dtype.kind in "iu":
        return array.astype(np.float64)
    raise TypeError(f"{name}: expected float32, float64, float16, bfloat16 or integers, got {array.dtype}")


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether a dtype is a half type: float16, or bfloat16, which NumPy knows from ml_dtypes alone."""
    return dtype == np.float16 or dtype.name == "bfloat16"


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Give the dtype that arrays are computed in: float32 for half types."""
    return FLOATS[0] if dtype.itemsize == 2 else dtype


def stored(array: Array) -> Array:
    """Give an array of floats as kernels take it: of half types the integers of their bits, int16 or uint16."""
    if array.itemsize != 2 or array.dtype.kind in "iu":
        return array
    return array.view(np.int16 if array.dtype == np.float16 else np.uint16)


def array_of(name: str, value: object) -> Array:
    """Make an array of what NumPy, or a library that shares its memory, has one for."""
    if type(value) is np.ndarray:
        return value
    if is_masked(value):
        raise TypeError(f"{name}: expected an array without a mask, got a masked array")
    if isinstance(value, np.ndarray):
        return value
    if value is None:
        raise TypeError(f"{name}: expected an array, got None")
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array__"):
        return _of_dlpack(name, value)
    if isinstance(value, (list, tuple)) and _holds_masked(value):
        raise TypeError(f"{name}: expected arrays without a mask, got a {type(value).__name__} with a masked array")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: expected an array, got {type(value).__name__}: {error}") from None
    except Exception as error:  # as PyTorch's of tensors that need a gradient
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}: {error}") from error
    if array.dtype == object and hasattr(value, "to_numpy"):
        what = f"{type(value).__name__} of objects, which .to_numpy(float) makes numbers of"
        raise TypeError(f"{name}: expected float32, float64, float16, bfloat16 or integers, got a {what}")
    return array


def _of_dlpack(name: str, value: object) -> Array:
    try:
        return np.from_dlpack(value)  # type: ignore[arg-type]  # any object that has the two methods
    except Exception as error:  # as of memory that is not the CPU's
        raise TypeError(f"{name}: expected an array, got {type(value).__name__}: {error}") from error


def is_masked(value: object) -> bool:
    """Tell masked arrays without importing their module.

    That takes time, and a lock that a fork may never give back (M53). Where nobody has imported it, nothing is masked.
    """
    return isinstance(value, getattr(sys.modules.get("numpy.ma"), "MaskedArray", ()))


def _holds_masked(values: list[Any] | tuple[Any, ...]) -> bool:
    """Tell whether there is a masked array, whose mask NumPy would forget, in nested lists."""
    return any(is_masked(each) or (isinstance(each, (list, tuple)) and _holds_masked(each)) for each in values)


def one_dtype(given: dict[str, object], found: list[Array]) -> list[Array]:
    """Give arrays of several dtypes one: lists and integers take that of the floating arrays beside them.

    `given` is what came, by its names, and `found` what was made of it.
    """
    (first, like), *others = [
        (name, array) for (name, value), array in zip(given.items(), found, strict=True) if not _takes_any_dtype(value)
    ]
    for name, array in others:
        if array.dtype != like.dtype:
            raise TypeError(f"{name}: expected {like.dtype} like {first}, got {array.dtype}")
    with np.errstate(all="ignore"):
        return [array.astype(like.dtype, copy=False) for array in found]


def _takes_any_dtype(value: object) -> bool:
    return isinstance(value, (list, tuple, int, float)) or np.asarray(value).dtype.kind in "iu"
