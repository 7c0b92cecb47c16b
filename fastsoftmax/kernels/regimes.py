"""Which kernel does an operation: shapes and place alone decide, never the number of threads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .jit import Kernel

# Below this a bundle of rows is faster than its rows one by one: see `few`. In float32 127 classes take 0.6 to 0.95 of
# the time (1.07 from memory and out of place); in float64, with half as many lanes, 30 take 0.75 to 1.1, 40 up to 1.4.
FEW_CLASSES = {np.dtype(np.float32): 128, np.dtype(np.float64): 32}
FEW_COLUMNS = 64  # below this the linear head is one pass over its inputs: see `linear_cross_entropy`
# From here on a row is written past the caches: see `streams`. Shorter rows are done too soon to hide it (500 classes
# took 0.9 to 1.15 times as long, 1,000 take 0.8 to 0.95, 8,000 0.8 to 0.9), and smaller results are better left where
# their reader finds them: 33 MB that are added up at once took 1.05 times as long, kernel and sum together, 66 MB 0.95.
STREAM_CLASSES = 1_000
STREAM_BYTES = 32_000_000
# From so many bytes on all threads share a row: see `blocked`. Some rows of that size, and no cache holds them all.
BLOCKED_BYTES = 2**23


class RowKernels(NamedTuple):
    """An operation on rows of classes: its kernels by regime, None where another one does as well.

    `cached` and `streamed` give the same bits. Few or many is a matter of the classes alone, so that the rows beside a
    row never change its bits.
    """

    few: Kernel
    cached: Kernel
    streamed: Kernel | None = None
    blocked: Kernel | None = None

    def choose(self, inputs: Sequence[npt.NDArray[np.floating]], result: npt.NDArray[np.floating]) -> Kernel:
        """Choose the kernel that reads `inputs` and writes `result`."""
        n_classes = inputs[0].shape[1]
        if n_classes < FEW_CLASSES[inputs[0].dtype]:
            return self.few
        if self.blocked is not None and n_classes * inputs[0].itemsize >= BLOCKED_BYTES:
            return self.blocked
        if self.streamed is None or n_classes < STREAM_CLASSES or result.nbytes < STREAM_BYTES:
            return self.cached
        return self.cached if any(np.may_share_memory(rows, result) for rows in inputs) else self.streamed


class ProductKernels(NamedTuple):
    """A product of matrices: what does it for few columns, and what for any number of them.

    The wide one takes the number of threads as its last argument.
    """

    narrow: Kernel
    wide: Kernel
