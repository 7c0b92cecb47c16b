"""Results of classes on any axis, in whatever array: in place, past the caches, overlapping, in another layout."""

import math

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import tuning
from tests.conftest import results
from tests.planes import (
    BY_LAYOUT,
    BY_SOME_SIZES,
    LAYOUTS,
    OF_CLASSES,
    SOME_SIZES,
    WITH_OUT,
    as_rows,
    call_of,
    check,
    framed,
    on_axis,
)


def filled(array):
    """What lies around an array, once that is as NaN as all around it was."""
    array[...] = np.nan
    return array.base


@pytest.mark.parametrize("size", [*SOME_SIZES, (1, 40, 4_200)], ids=str)  # the last a bundle at a time
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
    check_streamed(name, size, layout, dtype, (0, 1, 5, 15), seen, assert_same_bits, monkeypatch)


@pytest.mark.parametrize("layout", ["axis 1", "some of each line"])
@pytest.mark.parametrize("size", [(37, 447, 21), (37, 447, 130), (5, 413, 2_100)], ids=str)
@pytest.mark.parametrize("name", WITH_OUT)
def test_lines_that_strips_share(name, size, layout, dtype, seen, assert_same_bits, monkeypatch):
    """Rows so many that a task has several strips: what is left of a line waits for the next one, if that has it.

    Images end at any place of a strip, also where fewer rows than a line are left of it.
    """
    check_streamed(name, size, layout, dtype, (5,), seen, assert_same_bits, monkeypatch)


def check_streamed(name, size, layout, dtype, shifts, seen, assert_same_bits, monkeypatch):
    given = call_of(name, size, dtype)
    want, moved = results(getattr(fs, name)(**given)), on_axis(given, size, layout)
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    for shift in shifts:
        out, _ = LAYOUTS[layout](*size, dtype, np.nan, shift)
        got = getattr(fs, name)(**moved, out=out)
        assert results(got)[-1] is out
        assert_same_bits(as_rows(got, moved), want, f"{shift} after a line begins")
        assert np.isnan(filled(out)).all()
    assert not seen.copied
    assert all(seen.streams)
    assert len(seen.streams) == len(shifts)


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
