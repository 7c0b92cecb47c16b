"""Kernels that find out what the machine does: how fast it moves memory and computes exp, and in which registers."""

import numpy as np
from numba import njit, prange

from .elementary import exp_scaled, scale_of
from .jit import Kernel
from .lanes import lanes_of, splat
from .memory import load, store


def _uncached_twins(function):
    """Compile twins that are not the library's own and that no cache keeps."""
    return Kernel(njit(function), njit(function, parallel=True))


@_uncached_twins
def read(array, repeats, pieces):
    """Read each piece of an array, over and over."""
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


@_uncached_twins
def scale(array, repeats, pieces):
    """Read and write each piece of an array, over and over."""
    size = len(array) // pieces
    for p in prange(pieces):
        piece = array[p * size : (p + 1) * size]
        for _ in range(repeats):
            for i in range(size):
                piece[i] *= np.float32(0.999)


@_uncached_twins
def exp(array, repeats, pieces):
    """Compute the exps of a short array, over and over, once for each piece."""
    for p in prange(pieces):
        piece, out = array.copy(), np.empty_like(array)
        width = lanes_of(array)
        for repeat in range(repeats):
            scaling = scale_of(splat(array, repeat % 2))
            for i in range(0, len(array), 4 * width):
                store(out, i, exp_scaled(load(piece, i), scaling))
                store(out, i + width, exp_scaled(load(piece, i + width), scaling))
                store(out, i + 2 * width, exp_scaled(load(piece, i + 2 * width), scaling))
                store(out, i + 3 * width, exp_scaled(load(piece, i + 3 * width), scaling))
        array[p] = out[p]


def assembly() -> str:
    """Compile a kernel that is nothing but the exp of a vector, and give its assembly: one from the cache has none."""
    kernel = njit(_exp_of_a_vector)
    kernel.compile("void(float32[::1])")
    return next(iter(kernel.inspect_asm().values()))


def _exp_of_a_vector(array):
    store(array, 0, exp_scaled(load(array, 0), scale_of(load(array, 0))))
