"""Options are values: off, or in whatever form they come; no other kernel is compiled for another value."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from tests.definition import weights_of, with_arrays

HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
LOSSES = ["cross_entropy", "cross_entropy_with_grad", *HEAD]


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", LOSSES)
def test_off_is_off(name, classes, dtype, arguments, assert_same_bits):
    """None, 0 and False are what the plain call does, to the bit; ones are the same numbers."""
    args = arguments(35, classes, dtype)[name] | {"reduction": "mean"}
    plain = getattr(fs, name)(**args)
    off = {"class_weight": None, "sample_weight": None, "softcap": None, "scale": None, "return_stats": False}
    off |= {"where": None} if name not in HEAD else {}
    for zero in (0, 0.0, np.float32(0), np.int64(0)):
        assert_same_bits(getattr(fs, name)(**args, **off, label_smoothing=zero, z_loss=zero), plain)
    assert_same_bits(getattr(fs, name)(**args, class_weight=np.ones(classes, dtype)), plain)
    assert_same_bits(getattr(fs, name)(**args, scale=1), plain)


def compiled():
    """How many kernels have been compiled, or read from the cache."""
    return sum(len(dispatcher.overloads) for dispatcher in DISPATCHERS)


@pytest.mark.parametrize("name", ["cross_entropy", "linear_cross_entropy"])
def test_nothing_new_is_compiled_for_another_value(name, arguments):
    """An option is a value: what is compiled depends on which are on, not on what they are."""
    args = arguments(5, 10, np.float32)[name]
    counts = []
    for value in (0.5, 0.25, np.float32(0.7)):
        options = {"class_weight": value * weights_of(10, np.float32), "label_smoothing": value, "z_loss": value}
        getattr(fs, name)(**args, **options, softcap=10 * value, scale=value, return_stats=True)
        counts.append(compiled())
    assert len(set(counts)) == 1


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("name", ["softcap", "scale"])
def test_numbers_are_taken_in_the_dtype_of_the_logits(name, dtype, assert_same_bits):
    """Whatever number it is."""
    z, y = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype), [0, 1, 2, 2]
    for value in (0.7, 2, np.int8(2), np.float32(0.1), 1 / 3):
        want = fs.cross_entropy_with_grad(z, y, **{name: float(dtype(value))})
        assert_same_bits(fs.cross_entropy_with_grad(z, y, **{name: value}), want)
        assert_same_bits(fs.cross_entropy_with_grad(z, y, **{name: dtype(value)}), want)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "u8", ">i4", "list", "tuple", "range"])
def test_labels_of_any_kind(kind, results, assert_same_bits):
    """Integers of any dtype, lists and ranges."""
    z, y = np.random.default_rng(0).standard_normal((10, 10)), np.arange(10)
    options = with_arrays({"where": "kept", "label_smoothing": 0.1, "class_weight": True}, y, 10, np.float64)
    want = fs.cross_entropy_with_grad(z, **options)
    makers = {"list": np.ndarray.tolist, "tuple": tuple, "range": lambda y: range(len(y))}
    options["labels"] = makers.get(kind, lambda y: y.astype(kind))(y)
    assert_same_bits(fs.cross_entropy_with_grad(z, **options), want)


@pytest.mark.parametrize("classes", [10, 130])
def test_out_over_weights(classes, dtype, twin, assert_same_bits):
    """The answer is as if `out` did not overlap them."""
    z = np.random.default_rng(0).standard_normal((classes, classes)).astype(dtype)
    y = np.arange(classes)
    for name, weights_dtype in (("class_weight", dtype), ("sample_weight", np.float64)):
        weights = weights_of(classes, weights_dtype)
        want = fs.cross_entropy_with_grad(z, y, **{name: weights}, reduction="none")
        room = np.zeros(2 * z.size, dtype)
        room[: weights.nbytes // room.itemsize] = weights.view(dtype)
        out, same = room[: z.size].reshape(z.shape), room[: weights.nbytes // room.itemsize].view(weights_dtype)
        assert_same_bits(fs.cross_entropy_with_grad(z, y, **{name: same}, reduction="none", out=out), want)


@pytest.mark.usefixtures("serial")
def test_weights_of_any_kind(dtype, assert_same_bits):
    """Lists, integers, other floats, read-only and strided ones: nothing is compiled for them."""
    z, y = np.random.default_rng(0).standard_normal((4, 3)).astype(dtype), [0, 1, 2, 2]
    want = fs.cross_entropy(z, y, class_weight=np.array([1, 2, 0], dtype), sample_weight=np.array([1.0, 0, 3, 2]))
    before = compiled()
    read_only = np.array([1, 2, 0], dtype)
    read_only.flags.writeable = False
    for w in ([1, 2, 0], (1.0, 2.0, 0.0), np.float64([1, 2, 0]), read_only, np.array([1, 9, 2, 9, 0, 9], dtype)[::2]):
        for s in ([1, 0, 3, 2], np.float32([1, 0, 3, 2]), np.uint8([1, 0, 3, 2])):
            assert_same_bits(fs.cross_entropy(z, y, class_weight=w, sample_weight=s), want)
    assert compiled() == before
