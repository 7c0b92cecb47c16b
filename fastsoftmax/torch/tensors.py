"""Tensors as NumPy arrays of the same memory, and back."""

import ml_dtypes
import numpy as np
import torch
from torch import Tensor

from fastsoftmax.conversions import Array

# What NumPy takes of a tensor: of bfloat16 the bits alone.
_STORED = {
    torch.float32: "=f4",
    torch.float64: "=f8",
    torch.float16: "=f2",
    torch.bfloat16: "=i2",
    torch.int64: "=i8",
}
_TYPES = {dtype: np.dtype(stored).str for dtype, stored in _STORED.items()}


class _Memory:
    """The memory of a tensor, by the interface of arrays."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor
        size = tensor.itemsize
        self.__array_interface__ = {
            "version": 3,
            "data": (tensor.data_ptr(), False),
            "typestr": _TYPES[tensor.dtype],
            "shape": tuple(tensor.shape),
            "strides": None if tensor.is_contiguous() else tuple(step * size for step in tensor.stride()),
        }


def array_of(tensor: Tensor) -> Array:
    """View a tensor's memory as an array.

    `Tensor.numpy` would forbid its memory to be given back while there is the tensor, as FSDP does with parameters, and
    `numpy.from_dlpack` takes three times as long.
    """
    array = np.asarray(_Memory(tensor.resolve_neg()))
    return array.view(ml_dtypes.bfloat16) if tensor.dtype == torch.bfloat16 else array


def tensor_of(array: Array) -> Tensor:
    """View an array's memory, or a NumPy scalar's, as a tensor."""
    array = np.asarray(array)
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def empty_like(tensor: Tensor) -> Array:
    """Make room for what lies as `torch.empty_like` of a tensor would, in memory of NumPy's.

    That comes in huge pages; to fill fresh memory of PyTorch's takes three times as long.
    """
    if tensor.is_contiguous():
        return np.empty(tensor.shape, _DTYPES[tensor.dtype])
    room, size = np.empty(tensor.numel(), _DTYPES[tensor.dtype]), tensor.itemsize
    strides = [step * size for step in torch.empty_like(tensor, device="meta").stride()]
    return np.lib.stride_tricks.as_strided(room, tensor.shape, strides)


_DTYPES = {dtype: np.dtype(stored) for dtype, stored in _STORED.items()} | {
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16)
}


def classes_last(array: Array) -> Array:
    """View logits, or what has their shape, with the classes on the last axis: kernels take them as they lie."""
    return array if array.ndim <= 2 else np.moveaxis(array, 1, -1)
