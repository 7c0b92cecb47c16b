"""What the machine allows: memory bandwidth, the vector exp's throughput, and the least time of an operation.

No kernel can be faster than its unavoidable traffic divided by the bandwidth, nor than its exps divided by the rate at
which the exp itself runs on data in the first-level cache. The larger of the two is the roofline.
"""

import math
from collections.abc import Mapping
from typing import Any

from benchmarks import threads
from fastsoftmax.cli import machine

# Arrays of these sizes are in the second-level cache, in the third, partly there, and in memory.
_SIZES = tuple(2**exponent for exponent in (20, 22, 24, 25, 26, 27, 28))


def measure() -> dict[str, Any]:
    """Measure with all threads: bytes per second of each kind by the size of the data, and exps per second."""
    everyone = threads.count()
    limits: dict[str, Any] = {
        kind: [[size, machine.bandwidth(kind, size, everyone)] for size in _SIZES] for kind in machine.KINDS
    }
    return limits | {"exps": machine.exps(everyone)}


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


_ITEMSIZES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def work(operation: str, shape: tuple[int, ...], dtype: str = "float32") -> tuple[int, int, int]:
    """Count an operation's unavoidable bytes read and written, and its exps."""
    size = _ITEMSIZES[dtype]
    if operation in _ROWS:
        return tuple(n * math.prod(shape) * unit for n, unit in zip(_ROWS[operation], (size, size, 1), strict=True))
    rows, features, classes = shape
    x, w, z = rows * features, features * classes, rows * classes
    read, written, exps = {
        "weight_grad": (x + z, w, 0),
        "input_grad": (z + w, x, 0),
        "linear_cross_entropy": (x + w, 0, z),
        "linear_cross_entropy_with_grad": (x + w, x + w, z),
    }[operation]
    return size * read, size * written, exps


def least_seconds(
    limits: Mapping[str, Any],
    operation: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    in_place: bool = False,
) -> float:
    """Give the roofline: the least time that the machine allows. The arithmetic of matrix products is not counted."""
    read, written, exps = work(operation, shape, dtype)
    kind = "in place" if in_place else "copy" if written else "read"
    data = read if in_place else read + written
    rate = min(limits[kind], key=lambda point: abs(math.log(point[0] / data)))[1]
    return max((read + written) / rate, exps / limits["exps"])


if __name__ == "__main__":
    threads.limit(threads.available())
    limits = measure()
    for kind in machine.KINDS:
        print(f"{kind:>9}:", *(f"{size / 1e6:.0f} MB {rate / 1e9:.0f} GB/s " for size, rate in limits[kind]))
    print(f"      exp: {limits['exps'] / 1e9:.1f} per ns")
