"""The softmax family over one axis, several, or all; and over no classes: as SciPy, and to the bit what copies give."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

SHAPE = (3, 4, 5, 2)
AXES = [0, 1, -1, (1,), (1, 2), (3, 0), (-1, -3), (0, 1, 2, 3), (), None]
FORWARD = ["softmax", "log_softmax", "logsumexp"]
FAMILY = [*FORWARD, "softmax_backward", "log_softmax_backward"]
SCALE = pytest.mark.parametrize("scale", [None, 0.7, 30.0])
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["all", "where"])


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


def mask(axis, shape=SHAPE):
    """Some classes of each row, of several rows few, of some none."""
    rng = np.random.default_rng(1)
    where = rng.uniform(size=shape) < 0.6
    rows, order, moved = merged(where, axis)
    flat = rows.reshape(-1, rows.shape[-1]).copy()
    flat[1::3] &= rng.uniform(size=flat[1::3].shape) < 0.3
    flat[2::5] = False
    return np.ascontiguousarray(flat.reshape(moved).transpose(order))


# Plain NumPy rounds each step, and an error of q − m is one of its exponential.
@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize(("library", "ulps"), [(fs, 8), (reference, 32)], ids=["fast", "reference"])
@MASKED
@SCALE
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_like_scipy(axis, keepdims, scale, masked, library, ulps, dtype, assert_ulps):
    """SciPy has neither scale nor mask: it takes scale · z, and −inf for what is left out."""
    special = pytest.importorskip("scipy.special")
    (z,) = inputs("softmax", dtype, axis)
    where = mask(axis) if masked else None
    q = z.astype(np.float64) if scale is None else float(dtype(scale)) * z.astype(np.float64)
    # A product with `scale` is rounded, and so is its greatest, m.
    slack = np.finfo(dtype).eps * (ulps + (0 if scale is None else 2 * np.abs(q).max()))
    q = np.where(where, q, -np.inf) if masked else q
    with np.errstate(invalid="ignore"):  # −inf alone
        softmax, log_softmax = special.softmax(q, axis=axis), special.log_softmax(q, axis=axis)
    if masked:  # Where nothing is left SciPy has NaN.
        softmax, log_softmax = np.where(where, softmax, 0), np.where(where, log_softmax, -np.inf)
    options = {"axis": axis, "scale": scale, "where": where}
    got = library.softmax(z, **options)
    assert_ulps(got, softmax, ulps, slack=slack * softmax)
    assert_ulps(library.log_softmax(z, **options), log_softmax, ulps, slack=slack)
    if axis != ():
        got = library.logsumexp(z, **options, keepdims=keepdims)
        assert_ulps(got, special.logsumexp(q, axis=axis, keepdims=keepdims), ulps, slack=slack)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("given_out", [False, True], ids=["new", "out"])
@MASKED
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", FORWARD)
def test_scale_and_where_of_several_axes(name, axis, scale, masked, given_out, dtype, assert_same_bits):
    """To the bit what rows on the last axis give, with a mask of any strides; `out` may be the logits."""
    (z,) = inputs(name, dtype, axis)
    where = mask(axis) if masked else None
    rows, order, shape = merged(z, axis)
    want = getattr(fs, name)(rows, scale=scale, where=merged(where, axis)[0] if masked else None)
    if name != "logsumexp":
        want = want.reshape(shape).transpose(order)
    if masked:
        where = np.asfortranarray(where)
    out = None
    if given_out:
        out = np.full_like(want, np.nan) if name == "logsumexp" else z
    got = getattr(fs, name)(z, axis=axis, scale=scale, where=where, out=out)
    if given_out and np.ndim(want):
        assert got is out
    assert_same_bits(np.asarray(got), np.array(want, order="C"))


@pytest.mark.parametrize("library", [fs, reference], ids=["fast", "reference"])
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_nothing_left(axis, library, dtype):
    """Probability 0, log probability −inf, and logsumexp −inf: those of no classes. SciPy has NaN of −inf alone."""
    (z,) = inputs("softmax", dtype, axis)
    z.reshape(-1)[:3] = np.nan, np.inf, -np.inf
    options = {"axis": axis, "where": np.zeros(z.shape, bool)}
    assert not library.softmax(z, **options).any()
    assert np.all(library.log_softmax(z, **options) == -np.inf)
    assert np.all(library.logsumexp(z, **options) == -np.inf)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)], ids=str)
@pytest.mark.parametrize(
    ("name", "optional"), [*((name, False) for name in FAMILY), *((name, True) for name in FORWARD)]
)
def test_no_classes(name, optional, shape, dtype):
    """Softmax and its kin are empty, logsumexp is −inf."""
    options = {"scale": 0.7, "where": np.empty(shape, bool)} if optional else {}
    for axis in (0, -1, None, tuple(range(len(shape)))):
        given = (np.empty(shape, dtype),) * (1 if name in FORWARD else 2)
        out = np.empty(shape, dtype)
        if name == "logsumexp":
            axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
            rest = [n for i, n in enumerate(shape) if i not in [each % len(shape) for each in axes]]
            np.testing.assert_array_equal(fs.logsumexp(*given, axis=axis, **options), np.full(rest, -np.inf, dtype))
            got = reference.logsumexp(*given, axis=axis, **options)
            np.testing.assert_array_equal(got, np.full(rest, -np.inf, dtype))
        else:
            assert getattr(fs, name)(*given, axis=axis, **options).shape == shape
            assert getattr(fs, name)(*given, axis=axis, **options, out=out) is out
            assert getattr(reference, name)(*given, axis=axis, **options).shape == shape


@pytest.mark.parametrize("name", FORWARD)
def test_a_scalar_is_one_class_of_all(name):
    function = getattr(fs, name)
    np.testing.assert_array_equal(function(5.0, axis=None), {"softmax": 1.0, "log_softmax": 0.0}.get(name, 5.0))
    scaled = function(5.0, axis=None, scale=2.0, where=np.array(True))
    np.testing.assert_array_equal(scaled, {"softmax": 1.0, "log_softmax": 0.0}.get(name, 10.0))
    left_out = function(5.0, axis=None, where=np.array(False))
    np.testing.assert_array_equal(left_out, 0 if name == "softmax" else -np.inf)


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
