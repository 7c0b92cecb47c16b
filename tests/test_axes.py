"""The softmax family over one axis, several, or all; and over no classes: as SciPy, and to the bit what copies give."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

SHAPE = (3, 4, 5, 2)
AXES = [0, 1, -1, (1,), (1, 2), (3, 0), (-1, -3), (0, 1, 2, 3), (), None]
FORWARD = ["softmax", "log_softmax", "logsumexp"]
FAMILY = [*FORWARD, "softmax_backward", "log_softmax_backward"]


def inputs(name, dtype, axis, shape=SHAPE):
    z = 3 * np.random.default_rng(0).standard_normal(shape).astype(dtype)
    if name in FORWARD:
        return (z,)
    return (reference.softmax(z, axis=axis) if name == "softmax_backward" else reference.log_softmax(z, axis=axis)), z


def merged(array, axis):
    """The same array with all its classes on one axis, the last."""
    axes = range(array.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = sorted(each % array.ndim for each in axes)
    rest = [each for each in range(array.ndim) if each not in axes]
    rows = array.transpose(*rest, *axes)
    return rows.reshape(*rows.shape[: len(rest)], -1), np.argsort([*rest, *axes]), rows.shape


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("given_out", [False, True], ids=["new", "out"])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_classes_of_several_axes_are_one_list(name, axis, given_out, dtype, assert_same_bits):
    given = inputs(name, dtype, axis)
    want = getattr(fs, name)(*(merged(array, axis)[0] for array in given))
    if name != "logsumexp":
        _, order, shape = merged(given[0], axis)
        want = want.reshape(shape).transpose(order)
    out = np.full_like(want, np.nan) if given_out else None
    got = getattr(fs, name)(*given, axis=axis, out=out)
    if given_out and np.ndim(want):
        assert got is out
    assert_same_bits(np.asarray(got), np.array(want, order="C"))
    np.testing.assert_allclose(got, getattr(reference, name)(*given, axis=axis), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_like_scipy(axis, keepdims, dtype):
    special = pytest.importorskip("scipy.special")
    (z,) = inputs("softmax", dtype, axis)
    close = {"rtol": 8 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}
    np.testing.assert_allclose(fs.softmax(z, axis=axis), special.softmax(z, axis=axis), **close)
    np.testing.assert_allclose(fs.log_softmax(z, axis=axis), special.log_softmax(z, axis=axis), **close)
    if axis != ():
        got = fs.logsumexp(z, axis=axis, keepdims=keepdims)
        want = special.logsumexp(z, axis=axis, keepdims=keepdims)
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, **close)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_no_classes(name, shape, dtype):
    """Softmax and its kin are empty, logsumexp is −inf."""
    for axis in (0, -1, None, tuple(range(len(shape)))):
        given = (np.empty(shape, dtype),) * (1 if name in FORWARD else 2)
        out = np.empty(shape, dtype)
        if name == "logsumexp":
            axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
            rest = [n for i, n in enumerate(shape) if i not in [each % len(shape) for each in axes]]
            np.testing.assert_array_equal(fs.logsumexp(*given, axis=axis), np.full(rest, -np.inf, dtype))
            np.testing.assert_array_equal(reference.logsumexp(*given, axis=axis), np.full(rest, -np.inf, dtype))
        else:
            assert getattr(fs, name)(*given, axis=axis).shape == shape
            assert getattr(fs, name)(*given, axis=axis, out=out) is out
            assert getattr(reference, name)(*given, axis=axis).shape == shape


@pytest.mark.parametrize("name", FORWARD)
def test_a_scalar_is_one_class_of_all(name):
    np.testing.assert_array_equal(
        getattr(fs, name)(5.0, axis=None), {"softmax": 1.0, "log_softmax": 0.0}.get(name, 5.0)
    )


WRONG = [
    (4, ValueError, "axis: expected one of the 4 axes of {}, got 4"),
    ((0, -5), ValueError, "axis: expected one of the 4 axes of {}, got -5"),
    ((1, 1), ValueError, r"axis: expected each axis once, got \(1, 1\)"),
    ((1, -3), ValueError, r"axis: expected each axis once, got \(1, -3\)"),
    ((1, "a"), TypeError, "axis: expected an integer, got str"),
    (1.0, TypeError, "axis: expected an integer, got float"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: str(wrong[0]))
@pytest.mark.parametrize("name", FAMILY)
def test_wrong_axes(name, wrong):
    axis, error, message = wrong
    given = inputs(name, np.float32, 0)
    first = {"softmax_backward": "probs", "log_softmax_backward": "log_probs"}.get(name, "logits")
    with pytest.raises(error, match=f"^{message.format(first)}$"):
        getattr(fs, name)(*given, axis=axis)
