"""Rows of results that no cache holds, written past the caches while the next row is computed.

An ordinary store reads the line that it overwrites, a third of all traffic; a streaming one does not, but the core then
waits for memory. So a row is not written when its sum is known: it stays pending, and goes out four vectors at a time
between the exponentials of the next row, which wait for nothing but arithmetic. 1,024 × 32,000 took 7.0 ms where plain
stores took 9.2, and streaming stores in a pass of their own 8.3.

A pending row is a tuple (arguments, values, at, out, start, stop): out[start:stop] is to become finish(values,
arguments), with its values from `at` on.
"""

import numpy as np

from ..compiling.staging import staged
from ..simd.memory import load, load_first, prefetch, store, store_first, stream, unaligned
from ..simd.vector import lanes_of


@staged
def two_rows(like, n_classes):
    """Make room for the exponentials of this row and of the pending one: (values, a row's place, the other's, 0).

    One array: of two that are freed together, glibc hands the pages back each time, and 128 × 262,144 took 34 ms where
    it takes 8.
    """
    nothing = np.intp(0)
    return np.empty(2 * n_classes, like.dtype), nothing, nothing + n_classes, nothing


@staged
def stream_head(finish, pending):
    """Write what comes before the first multiple of 64 bytes; count it."""
    arguments, values, at, out, start, stop = pending
    count = min(unaligned(out, start), stop - start)
    prefetch(out, stop)
    store_first(out, start, count, finish(load_first(values, at, count, 0.0), arguments))
    return count


@staged
def stream_four(finish, pending, done):
    """Write the next four vectors, if so many are left, after the `done` elements that are written; count all."""
    arguments, values, at, out, start, stop = pending
    width = lanes_of(out)
    if start + done + 4 * width > stop:
        return done
    for i in range(done, done + 4 * width, width):
        stream(out, start + i, finish(load(values, at + i), arguments))
    return done + 4 * width


@staged
def _write_rest(write, finish, pending, done):
    """Write all that is left; what fills no vector by an ordinary store."""
    arguments, values, at, out, start, stop = pending
    width = lanes_of(out)
    i = start + done
    while i + width <= stop:
        write(out, i, finish(load(values, at + i - start), arguments))
        i += width
    if i < stop:
        value = load_first(values, at + i - start, stop - i, 0.0)
        store_first(out, i, stop - i, finish(value, arguments))


@staged
def stream_rest(finish, pending, done):
    """Write all that is left, past the caches but for what fills no vector: such a store holds up those behind it."""
    _write_rest(stream, finish, pending, done)


@staged
def stream_row(finish, pending):
    """Write a whole row."""
    stream_rest(finish, pending, stream_head(finish, pending))


@staged
def store_row(finish, pending):
    """Write a whole row by ordinary stores."""
    _write_rest(store, finish, pending, 0)
