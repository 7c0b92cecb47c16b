"""What is no float array yet: what it becomes, and what is said of what cannot become one."""

import os

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels.compiling import cache

TWO_OR_MORE = [
    "softmax_backward",
    "log_softmax_backward",
    "linear",
    "weight_grad",
    "input_grad",
    "linear_backward",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
]


@pytest.mark.parametrize(
    "convert", [np.ndarray.tolist, lambda array: array.round().astype(np.uint8)], ids=["list", "bytes"]
)
@pytest.mark.parametrize("name", TWO_OR_MORE)
def test_lists_and_integers_take_the_dtype_beside_them(name, convert, dtype, arguments, results, assert_same_bits):
    """As images of bytes do before a float32 layer; whichever of the arguments they are."""
    given = {key: np.abs(value) for key, value in arguments(6, 4, dtype)[name].items()}
    floats = [key for key, value in given.items() if value.dtype == dtype]
    for key in floats:
        found = getattr(fs, name)(**{**given, key: convert(given[key])})
        want = getattr(fs, name)(**{**given, key: np.array(convert(given[key])).astype(dtype)})
        assert_same_bits(found, want, key)


def test_lists_alone_are_float64():
    assert fs.linear([[1.0]], [[2.0]], [3.0]).dtype == np.float64
    assert fs.linear(np.ones((1, 1), np.uint8), [[2.0]]).dtype == np.float64


@pytest.mark.parametrize("name", TWO_OR_MORE)
def test_floating_arrays_must_agree(name, arguments):
    given = arguments(6, 4, np.float32)[name]
    first, second = list(given)[:2]
    given[second] = given[second].astype(np.float64)
    with pytest.raises(TypeError, match=f"^{second}: expected float32 like {first}, got float64"):
        getattr(fs, name)(**given)


class Tensor:
    """An array of a library that knows DLPack and not NumPy."""

    def __init__(self, array):
        self._array = array

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


class Elsewhere(Tensor):
    def __dlpack__(self, **_):
        raise BufferError("is in the memory of another device")


class NeedsGradient:
    def __array__(self, *_, **__):
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")


class Frame:
    def __array__(self, *_, **__):
        return np.array([[1, None]], object)

    def to_numpy(self, _):
        return np.array([[1, np.nan]])


def test_dlpack(assert_same_bits):
    logits = np.float32([[1, 2], [3, 5]])
    assert_same_bits(fs.softmax(Tensor(logits)), fs.softmax(logits))
    assert fs.cross_entropy(Tensor(logits), Tensor(np.array([0, 1]))) == fs.cross_entropy(logits, [0, 1])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "expected an array, got None"),
        (Elsewhere(np.ones((2, 2))), "expected an array, got Elsewhere: "),
        (NeedsGradient(), "expected an array, got NeedsGradient: Can't call numpy.. on Tensor that requires grad"),
        (
            Frame(),
            r"expected float32, float64, .*, got a Frame of objects, which .to_numpy.float. makes numbers",
        ),
    ],
    ids=["None", "elsewhere", "gradient", "frame"],
)
def test_what_is_no_array(value, message):
    with pytest.raises(TypeError, match=f"^logits: {message}"):
        fs.softmax(value)
    with pytest.raises(TypeError, match=f"^weight: {message}"):
        fs.linear([[1.0]], value)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "softmax_jacobian"])
def test_a_scalar_has_no_classes(name):
    with pytest.raises(
        ValueError, match=r"^(logits|probs): expected at least one axis, that of the classes, got a scalar"
    ):
        getattr(fs, name)(1.0)


def test_no_labels_for_no_rows():
    assert np.isnan(fs.cross_entropy(np.empty((0, 3), np.float32), []))
    assert fs.cross_entropy(np.empty((0, 3), np.float32), [], reduction="sum") == 0
    with pytest.raises(TypeError, match=r"^labels: expected integers, one per row, or .*, got float64"):
        fs.cross_entropy(np.empty((0, 3), np.float32), np.empty(0))


def test_what_a_killed_process_left_is_removed(tmp_path):
    """After an hour: another process may be about to finish its own."""
    files = cache._Files([tmp_path], "kernel", lambda: "of sources")
    old, new = tmp_path / "kernel-old.tmp", tmp_path / "kernel-new.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    files.save("key", "data")
    assert (old.exists(), new.exists()) == (False, True)
    assert files.load("key") == "data"
