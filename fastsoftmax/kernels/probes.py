"""Kernels that find out what the machine does: how fast it moves memory and computes exp, and in which registers."""

import numpy as np
from numba import prange

from .compiling.jit import Line, probe
from .simd.memory import finish_streams, load, store, stream, unaligned
from .simd.vector import lanes_of, splat
from .vecmath.exp import exp_scaled, scale_of


@probe
def read(array, repeats, pieces):
    """Read each piece of an array, over and over."""
    size = array.size // pieces
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


@probe
def scale(array, repeats, pieces):
    """Read and write each piece of an array, over and over."""
    size = array.size // pieces
    width = lanes_of(array)
    for p in prange(pieces):
        piece, factor = array[p * size : (p + 1) * size], splat(array, 0.999)
        for _ in range(repeats):
            for i in range(0, size - 4 * width + 1, 4 * width):
                for k in range(0, 4 * width, width):
                    store(piece, i + k, load(piece, i + k) * factor)


@probe
def copy(array, repeats, pieces):
    """Copy pieces of the first half of an array to the second, over and over, past the caches."""
    width = lanes_of(array)
    size = array.size // 2 // pieces // (4 * width) * (4 * width)
    for p in prange(pieces):
        source = p * size
        target = array.size // 2 + source
        target += unaligned(array, target)
        for _ in range(repeats):
            for i in range(0, size - 4 * width, 4 * width):
                for k in range(0, 4 * width, width):
                    stream(array, target + i + k, load(array, source + i + k))
        finish_streams()


@probe
def exp(array, repeats, pieces):
    """Compute the exps of a short array, over and over, once for each piece."""
    for p in prange(pieces):
        out = np.empty(array.size, array.dtype)
        width = lanes_of(array)
        for repeat in range(repeats):
            scaling = scale_of(splat(array, repeat % 2))
            for i in range(0, array.size, 4 * width):
                for k in range(0, 4 * width, width):
                    store(out, i + k, exp_scaled(load(array, i + k), scaling))
        array[p] = out[p]


@probe
def exp_of_a_vector(array: Line):
    """Compute the exp of one vector."""
    store(array, 0, exp_scaled(load(array, 0), scale_of(load(array, 0))))


def assembly() -> str:
    """Compile a kernel that is nothing but the exp of a vector, and give its assembly: one from the cache has none."""
    exp_of_a_vector.dispatcher.compile(exp_of_a_vector.signature(np.float32))
    return next(iter(exp_of_a_vector.dispatcher.inspect_asm().values()))
