"""Classes on any axis give the bits of classes last, without a copy of the array.

Where at least eight rows lie next to each other, whatever else there is between the classes; all other arrays give
them by way of a copy. See `test_memory` for what is held meanwhile, `test_guard_pages` for what is read and written.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from tests.conftest import results
from tests.definition import with_arrays
from tests.planes import (
    BY_LAYOUT,
    BY_NAME,
    BY_SIZE,
    BY_SOME_SIZES,
    OF_CLASSES,
    OF_LABELS,
    OF_LOGITS,
    SOME_SIZES,
    call_of,
    check,
    numbers,
    on_axis,
)


@BY_SIZE
@BY_NAME
def test_sizes(name, size, dtype, twin, seen, assert_same_bits):
    check(name, call_of(name, size, dtype), size, "axis 1", seen, assert_same_bits)


@BY_SOME_SIZES
@BY_LAYOUT
@BY_NAME
def test_layouts(name, layout, size, dtype, seen, assert_same_bits):
    """The result lies as the logits do."""
    moved, got = check(name, call_of(name, size, dtype), size, layout, seen, assert_same_bits)
    like, result = next(moved[key] for key in OF_CLASSES if key in moved), results(got)[-1]
    if result.ndim == like.ndim:
        order = np.argsort(like.strides, kind="stable")
        assert (np.diff(np.take(result.strides, order)) >= 0).all()
        assert result.flags.forc or layout == "classes outermost"
        assert result.flags.c_contiguous or not like.flags.c_contiguous


@pytest.mark.parametrize("size", [(7, 49, 21), (1, 17_000, 2), (2, 72, 150), (2, 17, 1_000)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "cross_entropy_with_grad"])
def test_half_types(name, size, half, seen, assert_same_bits, monkeypatch):
    check_half_types(name, size, half, seen, assert_same_bits, monkeypatch)


@pytest.mark.exhaustive
@BY_SIZE
@BY_NAME
def test_half_types_of_every_function(name, size, half, force, seen, assert_same_bits, monkeypatch):
    force("parallel")
    check_half_types(name, size, half, seen, assert_same_bits, monkeypatch)


def check_half_types(name, size, half, seen, assert_same_bits, monkeypatch):
    """Whose results are not written past the caches, where lines would be written in two parts."""
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    with np.errstate(over="ignore"):
        given = call_of(name, size, np.float32)
        given = {key: value.astype(half) if key in OF_CLASSES else value for key, value in given.items()}
    for layout in ("axis 1", "axis 0"):
        check(name, given, size, layout, seen, assert_same_bits)
    assert not any(seen.streams)


OPTIONS = [
    {"return_stats": True, "class_weight": True, "sample_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
    {"softcap": 5.0, "scale": 0.7, "sample_weight": True, "z_loss": 0.5},
]
MORE_OPTIONS = [
    {"class_weight": True},
    {"sample_weight": True},
    {"label_smoothing": 1.0},
    {"z_loss": 0.5},
    {"softcap": 5.0},
    {"scale": 3.0},
    {"return_stats": True},
    {"return_stats": True, "softcap": 30.0, "scale": 0.7, "class_weight": True, "label_smoothing": 0.1},
]
OPTION_SIZES = pytest.mark.parametrize("size", [(7, 49, 21), (3, 17, 64), (2, 49, 150)], ids=str)


@OPTION_SIZES
@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
def test_options(options, size, dtype, twin, seen, assert_same_bits):
    check_options(options, size, dtype, seen, assert_same_bits)


@pytest.mark.exhaustive
@OPTION_SIZES
@pytest.mark.parametrize("options", MORE_OPTIONS, ids=" ".join)
def test_more_options(options, size, dtype, twin, seen, assert_same_bits):
    check_options(options, size, dtype, seen, assert_same_bits)


@pytest.mark.exhaustive
@OPTION_SIZES
@pytest.mark.parametrize("options", OPTIONS + MORE_OPTIONS, ids=" ".join)
def test_options_of_half_types(options, size, half, seen, assert_same_bits):
    check_options(options, size, half, seen, assert_same_bits)


def check_options(options, size, dtype, seen, assert_same_bits):
    """With each reduction, and what belongs to rows in the shape of the rows."""
    z, y = numbers(size[0] * size[1], size[2], np.float32 if np.dtype(dtype).itemsize == 2 else dtype)
    with np.errstate(over="ignore"):
        z = z.astype(dtype)
    given = {"logits": z, **with_arrays(options, np.maximum(y, 0), size[2], np.float32), "labels": y}
    for name, reduction in (("cross_entropy", "none"), ("cross_entropy_with_grad", "none"), (OF_LABELS[1], "mean")):
        given["reduction"] = reduction
        if name == "cross_entropy_with_grad":
            given["dloss"] = np.linspace(-1, 1, len(y)) if reduction == "none" else 0.3
        moved, got = check(name, given, size, "axis 1", seen, assert_same_bits)
        if reduction == "none":
            assert all(part.shape in (moved["logits"].shape, moved["labels"].shape) for part in results(got))
    if "scale" in options:
        for name in OF_LOGITS:
            scaled = {"logits": z, "scale": options["scale"]}
            check(name, scaled, size, "axis 1", seen, assert_same_bits)


def test_scalars_of_options(seen, assert_same_bits):
    """Another label that is ignored, and a sum."""
    size = (2, 49, 21)
    given = call_of("cross_entropy_with_grad", size, np.float32)
    given["labels"] = np.where(given["labels"] < 0, 3, given["labels"])
    given |= {"ignore_index": 3, "reduction": "sum", "dloss": -2.0}
    check("cross_entropy_with_grad", given, size, "axis 1", seen, assert_same_bits)


def test_integers_and_lists(assert_same_bits):
    z, y = np.random.default_rng(0).integers(100, size=(2, 21, 16)), np.zeros((2, 16), int)
    want = fs.cross_entropy_with_grad(z.astype(np.float64), y, axis=1)
    assert_same_bits(fs.cross_entropy_with_grad(z, y, axis=1), want)
    assert_same_bits(fs.cross_entropy_with_grad(z.tolist(), y.tolist(), axis=1), want)


@BY_LAYOUT
@BY_NAME
def test_read_only(name, layout, dtype, assert_same_bits):
    """And a subclass; nothing is compiled for them."""
    size = SOME_SIZES[0]
    moved = on_axis(call_of(name, size, dtype), size, layout)
    want, before = getattr(fs, name)(**moved), [dispatcher.signatures for dispatcher in DISPATCHERS]
    for key in OF_CLASSES:
        if key in moved:
            moved[key] = moved[key].view(type("Subclass", (np.ndarray,), {}))
            moved[key].flags.writeable = False
    got = getattr(fs, name)(**moved)
    assert all(type(part) in (np.ndarray, dtype) for part in (got if isinstance(got, tuple) else [got]))
    assert_same_bits(got, want)
    assert [dispatcher.signatures for dispatcher in DISPATCHERS] == before


def test_images_that_are_one_image(seen, assert_same_bits):
    """Or share some of their memory, read but not written."""
    z = np.random.default_rng(0).standard_normal(30_000).astype(np.float32)
    for strides in ((0, 64 * 4, 4), (40 * 4, 64 * 4, 4), (4, 64 * 4, 4)):
        view = np.lib.stride_tricks.as_strided(z, (5, 130, 49), strides, writeable=False)
        assert_same_bits(fs.softmax(view, axis=1), fs.softmax(view.copy(), axis=1))
        assert_same_bits(fs.logsumexp(view, axis=1), fs.logsumexp(view.copy(), axis=1))
    assert not seen.copied


@pytest.mark.exhaustive
@pytest.mark.parametrize("features", ["generic", ""], ids=["generic", "its own"])
def test_without_avx512(features, run_python):
    """Vectors are other ones there, and what is masked here is done one by one."""
    code = """
import numpy as np
import fastsoftmax as fs
rng = np.random.default_rng(0)
for dtype in (np.float32, np.float64, np.float16):
    for n, d, c in ((3, 17, 21), (2, 49, 150), (1, 300, 64)):
        z, g = (4 * rng.standard_normal((2, n, c, d))).astype(dtype)
        y = rng.integers(c, size=(n, d))
        last = [np.moveaxis(array, 1, -1).copy() for array in (z, g)]
        options = dict(label_smoothing=0.1, softcap=5.0, return_stats=True)
        for function, *args in (
            *((function, 1) for function in (fs.softmax, fs.log_softmax, fs.logsumexp)),
            *((function, 2) for function in (fs.softmax_backward, fs.log_softmax_backward)),
        ):
            got, want = function(*(z, g)[: args[0]], axis=1), function(*last[: args[0]])
            got = got if got.ndim == 2 else np.moveaxis(got, 1, -1)
            assert np.array_equal(got, want), (function, dtype, d, c)
        for given in ({}, options):
            got = fs.cross_entropy_with_grad(z, y, axis=1, **given)
            want = fs.cross_entropy_with_grad(last[0], y, **given)
            assert got[0] == want[0] and np.array_equal(np.moveaxis(got[1], 1, -1), want[1]), (dtype, d, c, given)
print("same")
"""
    environment = {"NUMBA_CPU_NAME": features} if features else {}
    assert run_python("-c", code, **environment) == "same"
