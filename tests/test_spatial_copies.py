"""Classes on an axis where not even rows lie next to each other, or with a mask, give the same by way of a copy."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import tuning
from tests.conftest import results
from tests.definition import with_arrays
from tests.planes import NAMES, OF_PAIRS, SOME_SIZES, as_rows, call_of, few_classes, on_axis


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
