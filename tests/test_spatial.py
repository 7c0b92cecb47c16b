"""Classes on any axis give the bits of classes last, without a copy of the array.

Where at least eight rows lie next to each other, whatever else there is between the classes; all other arrays give
them by way of a copy. See `test_memory` for what is held meanwhile, `test_guard_pages` for what is read and written.
"""

import inspect
import math

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import spatial
from fastsoftmax.conversions import stored
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from fastsoftmax.kernels.regimes import RowKernels
from tests.conftest import results, rows_that_hurt
from tests.definition import with_arrays

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


# Arrays ----------------------------------------------------------------------------------------------------------


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


class Seen:
    """The kernels that were chosen, and whether each of those that took arrays as they lie wrote past the caches."""

    def __init__(self):
        self.kernels, self.streams = [], []

    @property
    def copied(self):
        return not any("spatial" in name for name in self.kernels)


@pytest.fixture
def seen(monkeypatch):
    seen, choose, choose_spatial, run = Seen(), RowKernels.choose, RowKernels.choose_spatial, spatial.Call.run

    def choose_and_see(function, kernels, *args):
        kernel = function(kernels, *args)
        if kernel is not None:
            seen.kernels.append(kernel.__name__)
        return kernel

    def run_and_see(call, *rest):
        seen.streams.append(bool(call.planes[-1]))
        run(call, *rest)

    monkeypatch.setattr(RowKernels, "choose", lambda *args: choose_and_see(choose, *args))
    monkeypatch.setattr(RowKernels, "choose_spatial", lambda *args: choose_and_see(choose_spatial, *args))
    monkeypatch.setattr(spatial.Call, "run", run_and_see)
    return seen


# As they lie -----------------------------------------------------------------------------------------------------


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


# out -------------------------------------------------------------------------------------------------------------


def filled(array):
    """What lies around an array, once that is as NaN as all around it was."""
    array[...] = np.nan
    return array.base


@BY_SOME_SIZES
@BY_LAYOUT
@pytest.mark.parametrize("name", WITH_OUT)
def test_in_place(name, layout, size, dtype, twin, seen, assert_same_bits, monkeypatch):
    """Each input, or another view of it; and never past the caches, which hold what was there."""
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    given = call_of(name, size, dtype)
    want = results(getattr(fs, name)(**given))
    for key in given.keys() & set(OF_CLASSES):
        for change in (lambda array: array, lambda array: array.view()):
            moved = on_axis(given, size, layout)
            out = change(moved[key])
            seen.kernels.clear()
            got = getattr(fs, name)(**moved, out=out)
            assert results(got)[-1] is out
            assert not seen.copied
            assert_same_bits(as_rows(got, moved), want, f"out={key}")
            assert np.isnan(filled(out)).all()
    assert not any(seen.streams)


# Rows that fill lines, all of them or those of a dtype, and rows that do not.
STREAMED = [(3, 144, 21), (1, 20_000, 3), (2, 40, 33), (2, 128, 150), (3, 49, 31), (5, 16, 130), (2, 160, 1_000)]


@pytest.mark.parametrize("layout", ["axis 1", "Fortran", "every other image", "some of each line"])
@pytest.mark.parametrize("size", STREAMED, ids=str)
@pytest.mark.parametrize("name", WITH_OUT)
def test_past_the_caches(name, size, layout, dtype, twin, seen, assert_same_bits, monkeypatch):
    """At whatever address, amid what stays as it is."""
    given = call_of(name, size, dtype)
    want, moved = results(getattr(fs, name)(**given)), on_axis(given, size, layout)
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    for shift in (0, 1, 5, 15):
        out, _ = LAYOUTS[layout](*size, dtype, np.nan, shift)
        got = getattr(fs, name)(**moved, out=out)
        assert results(got)[-1] is out
        assert_same_bits(as_rows(got, moved), want, f"{shift} after a line begins")
        assert np.isnan(filled(out)).all()
    assert not seen.copied
    assert all(seen.streams)
    assert len(seen.streams) == 4


def test_small_results_stay_in_the_caches(seen):
    z = np.zeros((2, 21, 2**14), np.float32)
    fs.softmax(z, axis=1)
    assert seen.streams == [False]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", WITH_OUT)
def test_as_large_as_is_written_past_the_caches(name, dtype, seen, assert_same_bits):
    size = (7, 61 * 61, 401)
    assert math.prod(size) * 4 > tuning.STREAM_BYTES
    check(name, call_of(name, size, dtype), size, "axis 1", seen, assert_same_bits)
    assert seen.streams == [True]


def others_of(like):
    """Arrays of one shape that lie in other ways than that one, the first of which kernels can write to."""
    n, c, d = like.shape
    yield "every other image", framed((2 * n, c, d), like.dtype, np.nan)[::2]
    yield "classes outermost", framed((c, n, d), like.dtype, np.nan).transpose(1, 0, 2)
    yield "Fortran", framed((d, c, n), like.dtype, np.nan).T
    yield "every other row", framed((n, c, 2 * d), like.dtype, np.nan)[..., ::2]
    yield "backwards", framed((n, c, d), like.dtype, np.nan)[:, ::-1, ::-1]
    memory = framed((like.nbytes + 64,), np.uint8, 0xFF)
    yield "unaligned", memory[1 : like.nbytes + 1].view(like.dtype).reshape(like.shape)


@BY_SOME_SIZES
@pytest.mark.parametrize("name", WITH_OUT)
def test_out_of_another_layout(name, size, dtype, seen, assert_same_bits):
    """From logits that lie as they may, and from those that are copied."""
    given = call_of(name, size, dtype)
    moved = on_axis(given, size, "axis 1")
    want = getattr(fs, name)(**moved)
    backwards = {key: value[::-1].copy()[::-1] if key in OF_CLASSES else value for key, value in moved.items()}
    for arguments in (moved, backwards):
        seen.kernels.clear()
        for how, out in others_of(results(want)[-1]):
            got = getattr(fs, name)(**arguments, out=out)
            assert results(got)[-1] is out
            assert_same_bits(got, want, how)
            memory = filled(out)
            assert np.isnan(memory.view(dtype) if how != "unaligned" else out).all()
        assert seen.copied == (arguments is backwards)


def overlaps(classes, dtype):
    """Logits and an `out` that share memory, freshly made each."""

    def memory(*shape):
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)

    images = memory(5, classes, 24)
    yield "an image up", images[1:], images[:-1]
    images = memory(5, classes, 24)
    yield "an image down", images[:-1], images[1:]
    wide = memory(4, classes + 1, 24)
    yield "a class up", wide[:, 1:], wide[:, :-1]
    wide = memory(4, classes + 1, 24)
    yield "a class down", wide[:, :-1], wide[:, 1:]
    for rows in (1, 3, 16):
        flat = memory(4 * classes * 24 + rows)
        yield f"{rows} rows up", flat[rows:].reshape(4, classes, 24), flat[:-rows].reshape(4, classes, 24)
        flat = memory(4 * classes * 24 + rows)
        yield f"{rows} rows down", flat[:-rows].reshape(4, classes, 24), flat[rows:].reshape(4, classes, 24)
    square = memory(4, classes, classes)
    yield "transposed", square, square.transpose(0, 2, 1)
    square = memory(classes, classes, 24)
    yield "images for classes", square, square.transpose(1, 0, 2)
    both = memory(8, classes, 24)
    yield "interleaved", both[::2], both[1::2]
    flat = memory(4 * classes * 24)
    yield "backwards", flat.reshape(4, classes, 24), flat[::-1].reshape(4, classes, 24)


@pytest.mark.parametrize("classes", [21, 130])
@pytest.mark.parametrize("case", [name for name, *_ in overlaps(21, np.float32)])
@pytest.mark.parametrize("name", ["softmax", "first", "second", "both", "cross_entropy_with_grad"])
def test_partial_overlap(name, case, classes, dtype, assert_same_bits):
    """As if the inputs had been copied first."""
    z, out = next((z, out) for label, z, out in overlaps(classes, dtype) if label == case)
    g = np.random.default_rng(1).standard_normal(z.shape).astype(dtype)
    y = np.random.default_rng(2).integers(classes, size=(z.shape[0], z.shape[2]))
    call = {
        "softmax": lambda z, **out: fs.softmax(z, axis=1, **out),
        "first": lambda z, **out: fs.softmax_backward(z, g, axis=1, **out),
        "second": lambda z, **out: fs.log_softmax_backward(g, z, axis=1, **out),
        "both": lambda z, **out: fs.softmax_backward(z, z, axis=1, **out),
        "cross_entropy_with_grad": lambda z, **out: fs.cross_entropy_with_grad(z, y, axis=1, **out)[1],
    }[name]
    want = call(z.copy())
    assert call(z, out=out) is out
    assert_same_bits(out, want)


def test_in_place_of_images_that_are_one_image(assert_same_bits):
    """It is overwritten when all of them have been read."""
    memory = np.random.default_rng(0).standard_normal((1, 130, 64)).astype(np.float32)
    images = np.lib.stride_tricks.as_strided(memory, (9, 130, 64), (0, *memory.strides[1:]))
    want = fs.softmax(images.copy(), axis=1)
    assert fs.softmax(images, axis=1, out=images) is images
    assert_same_bits(images, want)


@pytest.mark.parametrize("name", ["labels", "dloss", "sample_weight", "class_weight"])
@pytest.mark.parametrize("of_logits", [False, True], ids=["out", "the logits, in place"])
def test_arrays_inside_out(name, of_logits, dtype, assert_same_bits):
    """All that is read is read before it is overwritten."""
    rows = (4, 24)
    z = np.random.default_rng(0).standard_normal((4, 130, 24)).astype(dtype)
    given = {
        "labels": np.arange(96).reshape(rows) % 130,
        "dloss": np.linspace(1, 2, 96, dtype=dtype).reshape(rows),
        "sample_weight": np.linspace(1, 2, 96).reshape(rows),
        "class_weight": np.linspace(1, 2, 130, dtype=dtype),
    }
    out = z.copy()
    inside = out.reshape(-1).view(given[name].dtype)[: given[name].size].reshape(given[name].shape)
    inside[...] = given[name]
    logits = out if of_logits else z
    given |= {"axis": 1, "reduction": "none"}
    want = fs.cross_entropy_with_grad(logits.copy(), **given)
    given[name] = inside
    assert_same_bits(fs.cross_entropy_with_grad(logits, **given, out=out), want)


def test_out_of_logsumexp(dtype, assert_same_bits):
    """Rows of any strides, inside the logits too."""
    z = np.random.default_rng(0).standard_normal((3, 130, 49)).astype(dtype)
    want = fs.logsumexp(np.moveaxis(z, 1, -1).copy())
    wide = np.full((3, 98), np.nan, dtype)
    assert fs.logsumexp(z, axis=1, out=wide[:, ::2]).base is wide
    assert_same_bits(wide[:, ::2].copy(), want)
    assert_same_bits(fs.logsumexp(z, axis=1, keepdims=True), want[:, None])
    out = z[:, 5]
    assert fs.logsumexp(z, axis=1, out=out) is out
    assert_same_bits(out.copy(), want)


def test_nothing_is_written_on_an_error():
    z, y, out = np.zeros((2, 21, 16), np.float32), np.zeros((2, 16), int), np.full((2, 21, 16), 7, np.float32)
    y[1, 3] = 21
    with pytest.raises(ValueError, match="labels"):
        fs.cross_entropy_with_grad(z, y, axis=1, out=out)
    with pytest.raises(ValueError, match="labels"):
        fs.cross_entropy(z, y, axis=1)
    with pytest.raises(ValueError, match="dloss"):
        fs.cross_entropy_with_grad(z, y % 21, axis=1, out=out, reduction="none", dloss=np.zeros(16))
    with pytest.raises(ValueError, match="scale"):
        fs.softmax(z, axis=1, out=out, scale=-1.0)
    with pytest.raises(ValueError, match="dprobs"):
        fs.softmax_backward(z, z[:1], axis=1, out=out)
    assert (out == 7).all()


@pytest.mark.parametrize("shape", [(0, 3, 16), (2, 3, 0)])
def test_no_rows(shape):
    z, y = np.empty(shape, np.float32), np.empty((shape[0], shape[2]), int)
    assert fs.softmax(z, axis=1).shape == fs.softmax_backward(z, z, axis=1).shape == shape
    assert fs.logsumexp(z, axis=1).shape == y.shape
    loss, dlogits = fs.cross_entropy_with_grad(z, y, axis=1, out=z)
    assert np.isnan(loss)
    assert dlogits is z


# What is copied --------------------------------------------------------------------------------------------------


def no_neighbours(classes, dtype):
    """Arrays of which not even eight rows lie next to each other, or that lie in no such way, and the classes' axis."""

    def memory(*shape):
        return (3 * np.random.default_rng(0).standard_normal(shape)).astype(dtype)

    yield "seven", memory(4, classes, 7), 1
    yield "every other row", memory(2, classes, 40)[..., ::2], 1
    yield "images backwards", memory(3, classes, 20)[::-1], 1
    yield "classes backwards", memory(3, classes, 20)[:, ::-1], 1
    yield "rows backwards", memory(3, classes, 20)[..., ::-1], 1
    yield "three axes of rows", memory(2, 5, classes, 20)[:, :3], 2
    yield "part of each line of images", memory(2, classes, 5, 20)[..., :16], 1
    yield "rows in another order", memory(2, classes, 9, 10).transpose(0, 1, 3, 2), 1
    yield "one class for all", np.broadcast_to(memory(3, 1, 20), (3, classes, 20)), 1
    yield "one row for all", np.broadcast_to(memory(3, classes, 1), (3, classes, 20)), 1
    yield "unaligned", memory(3, classes, 20).tobytes(), 1
    yield "last, of a wider array", memory(20, classes + 3)[:, 1:-2], 1
    yield "one row", memory(2 * classes)[::2], 0


CASES = [case for case, *_ in no_neighbours(2, np.float32)]


@pytest.mark.parametrize("classes", [21, 130])
@pytest.mark.parametrize("case", CASES)
def test_others_are_copied(case, classes, dtype, seen, assert_same_bits):
    array, axis = next(found[1:] for found in no_neighbours(classes, dtype) if found[0] == case)
    if isinstance(array, bytes):
        array = np.frombuffer(b"\0" + array, np.uint8)[1:].view(dtype).reshape(3, classes, 20)
    last = np.ascontiguousarray(np.moveaxis(array, axis, -1))
    y = np.random.default_rng(1).integers(classes, size=last.shape[:-1])

    def back(part):
        return np.moveaxis(part, -1, axis) if np.ndim(part) == array.ndim else part

    for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
        assert_same_bits(function(array, axis=axis), back(function(last)))
    for function in (fs.softmax_backward, fs.log_softmax_backward):
        assert_same_bits(function(array, array, axis=axis), back(function(last, last)))
    assert_same_bits(fs.cross_entropy(array, y, axis=axis), fs.cross_entropy(last, y))
    loss, dlogits = fs.cross_entropy_with_grad(last, y)
    assert_same_bits(fs.cross_entropy_with_grad(array, y, axis=axis), (loss, back(dlogits)))
    if array.flags.writeable:
        assert fs.softmax(array, axis=axis, out=array) is array
        assert_same_bits(array, back(fs.softmax(last)))
    assert seen.copied


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [21, 130])
@pytest.mark.parametrize("options", [{"where": "kept"}, {"probabilities": True}], ids=" ".join)
def test_masks_and_probabilities_are_copied(options, classes, seen, assert_same_bits):
    z = np.random.default_rng(0).standard_normal((48, classes)).astype(np.float32)
    options = with_arrays(options, np.arange(48) % classes, classes, np.float32)

    def moved(array):
        array = array.reshape(2, 24, *array.shape[1:])
        return np.moveaxis(array, -1, 1).copy() if array.ndim == 3 else array

    given = {name: moved(value) for name, value in options.items()}
    want = fs.cross_entropy_with_grad(z, **options, reduction="none")
    images = moved(z)
    assert_same_bits(
        fs.cross_entropy_with_grad(images, **given, axis=1, reduction="none"), [moved(part) for part in want]
    )
    assert_same_bits(fs.cross_entropy(images, **given, axis=1, reduction="none"), moved(want[0]))
    if "where" in options:
        for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
            want = moved(function(z, where=options["where"]))
            assert_same_bits(function(images, where=given["where"], axis=1), want)
    assert seen.copied


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("name", NAMES)
def test_what_goes_in_blocks_is_copied(name, dtype, seen, assert_same_bits, monkeypatch):
    """Rows of so many classes that threads share each; not those of few, and not gradients, which have no blocks."""
    monkeypatch.setattr(tuning, "BLOCKED_BYTES", 0)
    for size in SOME_SIZES:
        given = call_of(name, size, dtype)
        want, moved = results(getattr(fs, name)(**given)), on_axis(given, size, "axis 1")
        seen.kernels.clear()
        assert_same_bits(as_rows(getattr(fs, name)(**moved), moved), want)
        assert seen.copied == (size[2] > few_classes(dtype) and name not in OF_PAIRS)


def test_several_axes_are_copied(dtype, seen, assert_same_bits):
    z = np.random.default_rng(0).standard_normal((3, 5, 4, 16)).astype(dtype)
    for axis in ((0, 1), (1, 2), (0, 2)):
        last = np.moveaxis(z, axis, (-2, -1))
        rows = np.ascontiguousarray(last).reshape(*last.shape[:2], -1)
        got = np.moveaxis(fs.softmax(z, axis=axis), axis, (-2, -1)).reshape(rows.shape)
        assert_same_bits(got, fs.softmax(rows))
        assert_same_bits(fs.logsumexp(z, axis=axis), fs.logsumexp(rows))
    assert seen.copied
    assert_same_bits(fs.softmax(z, axis=(1,)), fs.softmax(z, axis=1))
    assert not seen.copied


@pytest.mark.parametrize("classes", [21, 130])
def test_two_layouts_are_copied(classes, dtype, seen, assert_same_bits):
    z, g = np.random.default_rng(0).standard_normal((2, 3, classes, 20)).astype(dtype)
    for function in (fs.softmax_backward, fs.log_softmax_backward):
        want = function(z, g, axis=1)
        for other in (g.transpose(1, 0, 2).copy().transpose(1, 0, 2), g[::-1].copy()[::-1]):
            seen.kernels.clear()
            assert_same_bits(function(z, other, axis=1), want)
            assert seen.copied
