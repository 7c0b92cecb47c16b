"""What the machine allows: memory bandwidth, the vector exp's throughput, and the least time of an operation.

No kernel can be faster than its unavoidable traffic divided by the bandwidth, nor than its exps divided by the rate at
which the exp itself runs on data in the first-level cache. The larger of the two is the roofline.
"""

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numba import njit, prange

from benchmarks import threads
from fastsoftmax.kernels.elementary import exp_scaled, scale_of
from fastsoftmax.kernels.lanes import lanes_of, splat
from fastsoftmax.kernels.memory import load, store

# Arrays of these sizes are in the second-level cache, in the third, and in memory.
_SIZES = tuple(2**exponent for exponent in (20, 22, 24, 26, 28))
# A measurement moves at least this much, and the best of several counts: a limit is what was reached once.
_TRAFFIC = 2**28
_TRIES = 5
_IN_L1 = 2_048


@njit(parallel=True)
def _read(array, repeats, pieces):
    size = len(array) // pieces
    width = lanes_of(array)
    for p in prange(pieces):
        piece = array[p * size : (p + 1) * size]
        a = b = c = d = splat(array, 0.0)
        for _ in range(repeats):
            for i in range(0, size - 4 * width + 1, 4 * width):
                a = a + load(piece, i)
                b = b + load(piece, i + width)
                c = c + load(piece, i + 2 * width)
                d = d + load(piece, i + 3 * width)
        store(piece, 0, (a + b) + (c + d))


@njit(parallel=True)
def _scale(array, repeats, pieces):
    size = len(array) // pieces
    for p in prange(pieces):
        piece = array[p * size : (p + 1) * size]
        for _ in range(repeats):
            for i in range(size):
                piece[i] *= np.float32(0.999)


@njit(parallel=True)
def _exp(array, repeats, pieces):
    for p in prange(pieces):
        piece, out = array.copy(), np.empty_like(array)
        width = lanes_of(array)
        for repeat in range(repeats):
            scale = scale_of(splat(array, repeat % 2))
            for i in range(0, len(array), 4 * width):
                store(out, i, exp_scaled(load(piece, i), scale))
                store(out, i + width, exp_scaled(load(piece, i + width), scale))
                store(out, i + 2 * width, exp_scaled(load(piece, i + 2 * width), scale))
                store(out, i + 3 * width, exp_scaled(load(piece, i + 3 * width), scale))
        array[p] = out[p]


def _copy(array, repeats, pieces):
    """Copy one half to the other by the C library, which goes past the caches where that is faster."""
    source, target = np.split(array, 2)

    def copy_piece(source_and_target):
        for _ in range(repeats):
            np.copyto(*source_and_target[::-1])

    with ThreadPoolExecutor(pieces) as pool:
        list(pool.map(copy_piece, zip(np.split(source, pieces), np.split(target, pieces), strict=True)))


def measure() -> dict[str, Any]:
    """Measure with all threads: bytes per second of each kind by the size of the data, and exps per second.

    In place and copies count what is read and what is written.
    """
    everyone = threads.count()

    def bandwidth(kernel: Callable, size: int, moved: int) -> float:
        array = np.ones(size // 4 // (2 * everyone) * (2 * everyone), np.float32)
        repeats = max(1, _TRAFFIC // size)
        return repeats * array.nbytes * moved / _best(lambda: kernel(array, repeats, everyone))

    limits: dict[str, Any] = {
        name: [[size, bandwidth(kernel, size, moved)] for size in _SIZES]
        for name, kernel, moved in (("read", _read, 1), ("in place", _scale, 2), ("copy", _copy, 1))
    }
    array, repeats = np.linspace(-4, 4, _IN_L1, dtype=np.float32), 10_000
    seconds = _best(lambda: _exp(array, repeats, everyone))
    return limits | {"exps": everyone * repeats * _IN_L1 / seconds}


def _best(run: Callable[[], object]) -> float:
    run()
    durations = []
    for _ in range(_TRIES):
        start = time.perf_counter()
        run()
        durations.append(time.perf_counter() - start)
    return min(durations)


# (arrays read, arrays written, exps per logit) of the operations on rows; the arrays are of the logits' size.
_ROWS = {
    "softmax": (1, 1, 1),
    "log_softmax": (1, 1, 1),
    "logsumexp": (1, 0, 1),
    "softmax_backward": (2, 1, 0),
    "log_softmax_backward": (2, 1, 1),
    "cross_entropy": (1, 0, 1),
    "cross_entropy_with_grad": (1, 1, 1),
    "bias_grad": (1, 0, 0),
}


def work(operation: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Count an operation's unavoidable float32 bytes read and written, and its exps."""
    rows, classes = shape[0], shape[-1]
    if operation in _ROWS:
        return tuple(n * rows * classes * unit for n, unit in zip(_ROWS[operation], (4, 4, 1), strict=True))
    features = shape[1]
    x, w, z = rows * features, features * classes, rows * classes
    read, written, exps = {
        "weight_grad": (x + z, w, 0),
        "input_grad": (z + w, x, 0),
        "linear_cross_entropy": (x + w, 0, z),
        "linear_cross_entropy_with_grad": (x + w, x + w, z),
    }[operation]
    return 4 * read, 4 * written, exps


def least_seconds(limits: Mapping[str, Any], operation: str, shape: tuple[int, ...], in_place: bool = False) -> float:
    """Give the roofline: the least time that the machine allows. The arithmetic of matrix products is not counted."""
    read, written, exps = work(operation, shape)
    kind = "in place" if in_place else "copy" if written else "read"
    data = read if in_place else read + written
    rate = min(limits[kind], key=lambda point: abs(math.log(point[0] / data)))[1]
    return max((read + written) / rate, exps / limits["exps"])


if __name__ == "__main__":
    threads.limit(threads.available())
    limits = measure()
    for kind in ("read", "in place", "copy"):
        print(f"{kind:>9}:", *(f"{size / 1e6:.0f} MB {rate / 1e9:.0f} GB/s " for size, rate in limits[kind]))
    print(f"      exp: {limits['exps'] / 1e9:.1f} per ns")
