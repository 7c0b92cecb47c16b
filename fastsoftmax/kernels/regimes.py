"""Which kernel does an operation: shapes and place alone decide, never the number of threads."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

# Not `from . import`, which would ask the package for it, and that import everything.
import fastsoftmax.kernels.tuning as tuning

from .compiling.jit import Kernel


class RowKernels(NamedTuple):
    """An operation on rows of classes: its kernels by regime, None where another one does as well.

    `cached` and `streamed` give the same bits. Few or many is a matter of the classes alone, so that the rows beside a
    row never change its bits.
    """

    few: Kernel
    cached: Kernel
    streamed: Kernel | None = None
    blocked: Kernel | None = None
    spatial: Kernel | None = None  # see `spatial`
    spatial_few: Kernel | None = None

    def choose(self, inputs: Sequence[npt.NDArray[np.floating]], result: npt.NDArray[np.floating]) -> Kernel:
        """Choose the kernel that reads `inputs` and writes `result`."""
        n_classes = inputs[0].shape[1]
        if n_classes < tuning.FEW_CLASSES[inputs[0].dtype]:
            return self.few
        if self.blocked is not None and n_classes * max(inputs[0].itemsize, 4) >= tuning.BLOCKED_BYTES:
            return self.blocked
        if self.streamed is None or n_classes < tuning.STREAM_CLASSES or result.nbytes < tuning.STREAM_BYTES:
            return self.cached
        return self.cached if any(np.may_share_memory(rows, result) for rows in inputs) else self.streamed

    def choose_spatial(self, stored: np.dtype[Any], n_classes: int) -> Kernel | None:
        """Choose the kernel for classes that do not lie next to each other; None where their rows must be copied."""
        if self.spatial_few is not None and n_classes < tuning.FEW_CLASSES[stored]:
            return self.spatial_few
        if self.blocked is not None and n_classes * max(stored.itemsize, 4) >= tuning.BLOCKED_BYTES:
            return None
        return self.spatial


class ProductKernels(NamedTuple):
    """A product of matrices: what does it for few columns, and what for any number of them.

    The wide one takes the number of threads as its last argument.
    """

    narrow: Kernel
    wide: Kernel
