"""Sums over the classes of rows in lanes that have the order, and the bits, of sums over rows one by one.

Those run over vectors of classes: class j goes to lane j modulo their width, and at the end the lanes become one. So
for rows in lanes there are as many running sums as a vector has lanes, each of all rows. They are kept in memory, which
the first-level cache holds.
"""

from ..compiling.scopes import unknown_leaves, with_leaves
from ..simd.accumulate import fold_sums
from ..simd.memory import load, store
from ..simd.vector import lanes_of
from .bundles import empty_lanes


def begin_sums(like, sums):
    """Make room for running sums, a tuple with None for what nobody asked for, of each lane of a vector such as `like`.

    `sums` are those to begin with.
    """
    room = empty_lanes(unknown_leaves(sums)[0])
    for lane in range(lanes_of(like)):
        keep_sums(room, lane, sums)
    return room


def keep_sums(room, lane, sums):
    """Store those of a lane."""
    parts = unknown_leaves(sums)
    for k, part in enumerate(parts):
        store(room, (lane * len(parts) + k) * lanes_of(part), part)


def kept_sums(room, lane, like):
    """Load those of a lane."""
    parts = unknown_leaves(like)
    width = lanes_of(parts[0])
    return with_leaves(like, [load(room, (lane * len(parts) + k) * width, width).ir for k in range(len(parts))])


def fold_lanes(room, like):
    """Combine lane i with lane i + count/2 until one is left, as `accumulate.sum_of` does."""
    parts = [kept_sums(room, lane, like) for lane in range(lanes_of(unknown_leaves(like)[0]))]
    while len(parts) > 1:
        half = len(parts) // 2
        parts = [tuple(map(_fold, a, b)) for a, b in zip(parts[:half], parts[half:], strict=True)]
    return parts[0]


def _fold(a, b):
    return None if a is None else fold_sums(a, b)
