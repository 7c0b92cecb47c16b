"""Arrays whose classes do not lie next to each other, amid memory that must not be read or written."""

import inspect
import math

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.conversions import stored
from fastsoftmax.kernels import tuning
from tests.conftest import results, rows_that_hurt

OF_LOGITS = ["softmax", "log_softmax", "logsumexp"]
OF_PAIRS = ["softmax_backward", "log_softmax_backward"]
OF_LABELS = ["cross_entropy", "cross_entropy_with_grad"]
NAMES = OF_LOGITS + OF_PAIRS + OF_LABELS
WITH_OUT = [name for name in NAMES if name not in ("logsumexp", "cross_entropy")]
OF_CLASSES = ("logits", "probs", "dprobs", "log_probs", "dlog_probs")  # of the logits' shape; other arrays are of rows
# Images, rows of each that lie next to each other, classes: where vectors, bundles, strips and tasks are whole or not.
SIZES = [
    (5, 16, 1),
    (3, 8, 2),
    (1, 17_000, 2),  # several strips in a task
    (300, 64, 3),
    (7, 49, 21),
    (2, 15, 31),
    (2, 127, 32),
    (1, 128, 63),
    (3, 129, 64),
    (2, 300, 65),
    (3, 49, 127),
    (2, 49, 128),
    (3, 17, 129),
    (4, 33, 150),
    (2, 16, 300),
    (2, 49, 1_000),  # strips of fewer bundles
    (1, 24, 5_000),  # and of one
]
SOME_SIZES = [(7, 49, 21), (2, 72, 150)]


def framed(shape, dtype, fill, shift=0):
    """Room for an array amid more of what it is filled with, so many elements after the beginning of a line."""
    size, margin, itemsize = math.prod(shape), 64, np.dtype(dtype).itemsize
    memory = np.full(size + 3 * margin, fill, dtype)
    start = margin + -memory.ctypes.data % 64 // itemsize + shift
    return memory[start : start + size].reshape(shape)


def nearly_square(size):
    side = next(side for side in range(math.isqrt(size), 0, -1) if size % side == 0)
    return side, size // side


# From images, rows of each, and classes to (room for all of them, the axis of the classes).
LAYOUTS = {
    "axis 1": lambda n, d, c, *how: (framed((n, c, d), *how), 1),
    "images": lambda n, d, c, *how: (framed((n, c, *nearly_square(d)), *how), -3),
    "axis 0": lambda n, d, c, *how: (framed((c, n, d), *how), 0),
    "Fortran": lambda n, d, c, *how: (framed((c, n * d), *how).T, -1),
    "every other image": lambda n, d, c, *how: (framed((2 * n, c, d), *how)[::2], 1),
    "every other class": lambda n, d, c, *how: (framed((n, 2 * c, d), *how)[:, 1::2], 1),
    "classes outermost": lambda n, d, c, *how: (framed((c, n, d), *how).transpose(1, 0, 2), 1),
    "some of each line": lambda n, d, c, *how: (framed((c, n, d + 24), *how)[..., 3 : d + 3], 0),
}
BY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)
BY_NAME = pytest.mark.parametrize("name", NAMES)
BY_SIZE = pytest.mark.parametrize("size", SIZES, ids=str)
BY_SOME_SIZES = pytest.mark.parametrize("size", SOME_SIZES, ids=str)


def laid_out(rows, size, layout, shift=0):
    """Rows of classes last as they lie elsewhere, amid NaN, and the axis of their classes there."""
    array, axis = LAYOUTS[layout](*size, rows.dtype, np.nan, shift)
    np.moveaxis(array, axis, -1)[...] = rows.reshape(np.moveaxis(array, axis, -1).shape)
    return array, axis


def on_axis(given, size, layout):
    """A call's arguments, with the classes on another axis."""
    moved = {"axis": LAYOUTS[layout](*size, np.float32, 0)[1]}
    arrays = {key: laid_out(value, size, layout)[0] for key, value in given.items() if key in OF_CLASSES}
    shape = np.delete(next(iter(arrays.values())).shape, moved["axis"])
    for key, value in given.items():
        is_of_rows = isinstance(value, np.ndarray) and key not in ("class_weight", *OF_CLASSES)
        moved[key] = arrays[key] if key in arrays else value.reshape(shape) if is_of_rows else value
    return moved


def as_rows(found, moved):
    """All that a call gave as it would be with the classes last."""
    like, parts = next(moved[key] for key in OF_CLASSES if key in moved), []
    for part in results(found):
        if part.ndim == like.ndim:
            parts.append(np.moveaxis(part, moved["axis"], -1).reshape(-1, like.shape[moved["axis"]]))
        else:
            parts.append(part if part.ndim == 0 else part.reshape(-1))
    return parts


def numbers(rows, classes, dtype):
    """Rows that hurt in every lane, some of NaN or infinities, and labels, some of them ignored."""
    z, y = rows_that_hurt(97, classes, dtype)
    z, y = np.resize(z, (rows, classes)), np.resize(y, rows)
    z[5::31, classes // 2] = np.nan
    z[9::37, classes // 3] = np.inf
    z[14::41] = -np.inf
    y[::7] = -100
    return z, y


def call_of(name, size, dtype):
    """A call's arguments, with the classes last."""
    n_images, n_inner, classes = size
    z, y = numbers(n_images * n_inner, classes, dtype)
    g = np.random.default_rng(1).standard_normal(z.shape).astype(dtype)
    if name in OF_PAIRS:
        first, second = list(inspect.signature(getattr(fs, name)).parameters)[:2]
        return {first: getattr(fs, name.removesuffix("_backward"))(z), second: g}
    given = {"logits": z}
    if name in OF_LABELS:
        given |= {"labels": y, "reduction": "none"}
    if name == "cross_entropy_with_grad":
        given["dloss"] = g[:, 0].copy()
    return given


def few_classes(dtype):
    """From how many on there are many."""
    return tuning.FEW_CLASSES[stored(np.empty(0, dtype)).dtype]


def check(name, given, size, layout, seen, assert_same_bits):
    """Compare a call with that of classes last; give its arguments, and what it gave."""
    want = results(getattr(fs, name)(**given))
    moved = on_axis(given, size, layout)
    seen.kernels.clear()
    got = getattr(fs, name)(**moved)
    few = "" if name in OF_PAIRS or size[2] >= few_classes(next(iter(given.values())).dtype) else "_few"
    assert seen.kernels == [f"{name}_spatial{few}"]
    assert_same_bits(as_rows(got, moved), want, layout)
    return moved, got
