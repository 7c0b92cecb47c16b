"""Rows of results that no cache holds, written past the caches while the next row is computed.

An ordinary store reads the line that it overwrites, a third of all traffic; a non-temporal one does not, but the core
then waits for memory. So a row is not written when its sum is known: it stays pending, and goes out four vectors at a
time between the exponentials of the next row, which wait for nothing but arithmetic. That takes a quarter less than
plain stores, of which non-temporal stores in a pass of their own gain less than half (M3).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.memory import load, load_first, prefetch, store, store_first, stream, unaligned
from ..simd.vector import lanes_of


class Pending(NamedTuple):
    """A row that is to be written: out[start + j] is to become finish(values[at + j], j, left, arguments).

    `left` is how many lanes of the vector count.
    """

    finish: Callable
    arguments: Any
    values: Array
    at: Number
    out: Array
    start: Number
    stop: Number


@staged
def stream_head(pending):
    """Write what comes before the first multiple of 64 bytes; count it."""
    finish, arguments, values, at, out, start, stop = pending
    count = min(unaligned(out, start), stop - start)
    prefetch(out, stop)
    store_first(out, start, count, finish(load_first(values, at, count, 0.0), 0, count, arguments))
    return count


@staged
def stream_four(pending, done):
    """Write the next four vectors, if so many are left, after the `done` elements that are written; count all."""
    finish, arguments, values, at, out, start, stop = pending
    width = lanes_of(out)
    if start + done + 4 * width > stop:
        return done
    for i in range(done, done + 4 * width, width):
        stream(out, start + i, finish(load(values, at + i), i, width, arguments))
    return done + 4 * width


@staged
def _write_rest(write, pending, done):
    """Write all that is left; what fills no vector by an ordinary store."""
    finish, arguments, values, at, out, start, stop = pending
    width = lanes_of(out)
    i = start + done
    while i + width <= stop:
        write(out, i, finish(load(values, at + i - start), i - start, width, arguments))
        i += width
    if i < stop:
        value = load_first(values, at + i - start, stop - i, 0.0)
        store_first(out, i, stop - i, finish(value, i - start, stop - i, arguments))


@staged
def stream_rest(pending, done):
    """Write all that is left, past the caches but for what fills no vector: such a store holds up those behind it."""
    _write_rest(stream, pending, done)


@staged
def stream_row(pending):
    """Write a whole row."""
    stream_rest(pending, stream_head(pending))


@staged
def store_row(pending):
    """Write a whole row by ordinary stores."""
    _write_rest(store, pending, 0)
