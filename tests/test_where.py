"""Classes that `where` leaves out, and `scale`: softmax and its kin, and what of it losses share.

The definition in a wider dtype is the truth. Several axes are in `test_axes`, losses in all regimes in `test_options`.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

INF, NAN = np.inf, np.nan
FAMILY = ["softmax", "log_softmax", "logsumexp"]
LEFT_OUT = {"softmax": 0, "log_softmax": -INF}
SHAPES = [(35, 1), (35, 10), (21, 33), (13, 130), (150, 1_000), (1_100, 130), (2, 70_001)]
OPTIONS = [("scale",), ("where",), ("scale", "where")]
BY_OPTIONS = pytest.mark.parametrize("on", OPTIONS, ids=" ".join)


def mask(shape, left=0.5, seed=0):
    """Which classes each row has: about so many of them, and at least one."""
    rng = np.random.default_rng([*shape, seed])
    where = rng.random(shape) < left
    where[np.arange(shape[0]), rng.integers(shape[1], size=shape[0])] = True
    return where


def logits(shape, dtype):
    """Rows of several spreads; of each fourth one class is far ahead, and some are huge, or equal and huge."""
    rng = np.random.default_rng(shape)
    z = rng.standard_normal(shape) * rng.choice([0.1, 3, 20], (shape[0], 1))
    z[1::4, 0] += 50
    z[2::16] *= 1e29
    z[6::16] = np.round(z[6::16]) * 1.2573e30
    return z.astype(dtype)


class Exactly:
    """Softmax and its kin of finite logits, in a wider dtype: no term that swallows others is added to them."""

    def __init__(self, z, wide, scale=1.0, where=True):
        q = np.where(where, wide.type(z.dtype.type(scale)) * z.astype(wide), -INF)
        top = q.argmax(axis=1)
        m = q.max(axis=1, keepdims=True)
        e = np.exp(q - m)
        others = np.where(np.arange(z.shape[1]) == top[:, None], 0, e).sum(axis=1, keepdims=True)
        self.softmax = e / (1 + others)
        self.log_softmax = q - m - np.log1p(others)
        self.logsumexp = (m + np.log1p(others))[:, 0]
        self.largest = np.maximum(np.abs(m), np.log1p(others))[:, 0]


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("in_place", [False, True], ids=["out of place", "in place"])
@pytest.mark.parametrize("scale", [0.7, 3.0])
@BY_OPTIONS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_within_ulps(name, shape, on, scale, in_place, dtype, twin, wider, assert_ulps):
    z = logits(shape, dtype)
    options = {key: {"scale": scale, "where": mask(shape)}[key] for key in on}
    exact = Exactly(z, wider(dtype), **options)
    given = z.copy()
    got = getattr(fs, name)(given, **options, out=given if in_place and name in LEFT_OUT else None)
    slack = 4 * np.spacing(exact.largest.astype(dtype)) if name == "logsumexp" else 0
    assert_ulps(got, getattr(exact, name), slack=slack)
    if name in LEFT_OUT and "where" in on:
        assert (got[~options["where"]] == LEFT_OUT[name]).all()


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("shape", [(35, 1), (35, 10), (40, 130), (21, 1_000)], ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_all_classes_are_none_left_out(name, shape, dtype, twin, assert_same_bits):
    """To the bit, of rows that hold anything."""
    z = logits(shape, dtype)
    z[::5, 0], z[1::5, -1], z[2::5] = NAN, INF, -INF
    for scale in (None, 0.7):
        want = getattr(fs, name)(z, scale=scale)
        assert_same_bits(getattr(fs, name)(z, scale=scale, where=np.ones(shape, bool)), want)


SPECIAL = [[NAN], [INF], [-INF], [INF, INF], [NAN, INF], [INF, -INF], [-INF, -INF]]


@pytest.fixture(params=[(1, 10), (3, 10), (8, 33), (20, 130), (20, 1_000)], ids=str)
def spoilt(request, dtype):
    """Rows in which some of the classes that they have, or all, or the others, are not finite."""
    few, classes = request.param
    rng = np.random.default_rng(classes)
    where = mask((5 * len(SPECIAL), classes), few / classes)
    z = rng.standard_normal(where.shape).astype(dtype)
    for i, row in enumerate(z):
        values, kind = SPECIAL[i % len(SPECIAL)], i // len(SPECIAL)
        if kind < 3:  # in some of its classes: first, or last, or anywhere
            at = np.flatnonzero(where[i])
            at = rng.permutation(at) if kind == 2 else at[:: 1 - 2 * kind]
            row[at[: len(values)]] = values[: len(at)]
        elif kind == 3:
            row[where[i]] = values[0]
        else:  # left out
            row[~where[i]] = rng.choice([NAN, INF, -INF], (~where[i]).sum())
    where[-1] = False
    return z, where


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("scale", [None, 0.7])
@pytest.mark.parametrize("name", FAMILY)
def test_spoilt_rows(name, scale, spoilt, twin):
    """As the reference, which is SciPy's way; what is left out is exactly 0 or −inf in any row."""
    z, where = spoilt
    want = getattr(reference, name)(z.astype(np.float64), scale=scale, where=where)
    for out in (None, z.copy()):
        given = z if out is None else out
        got = getattr(fs, name)(given, scale=scale, where=where, out=None if name == "logsumexp" else out)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-300)
        if name in LEFT_OUT:
            assert (got[~where] == LEFT_OUT[name]).all()
    assert name != "logsumexp" or got[-1] == -INF


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("more", [{}, {"scale": 0.7, "return_stats": True}], ids=" ".join)
def test_losses_of_spoilt_rows(more, spoilt, twin):
    """As the reference; the gradient of what is left out is exactly 0, and a row of no class has a NaN loss."""
    z, where = spoilt
    y = np.random.default_rng(0).integers(z.shape[1], size=len(z))
    y[:-1:2] = where[:-1:2].argmax(axis=1)  # of every other row a class that it has
    options = {"where": where, "reduction": "none", **more}
    loss, dlogits, *_ = reference.cross_entropy_with_grad(z.astype(np.float64), y, **options)
    assert np.isnan(loss[-1])
    for given in (z, z.copy()):
        got, dgot, *_ = fs.cross_entropy_with_grad(given, y, **options, out=None if given is z else given)
        np.testing.assert_allclose(got, loss, rtol=1e-5, atol=1e-300)
        np.testing.assert_allclose(dgot, dlogits, rtol=1e-5, atol=1e-7)
        assert (dgot[~where] == 0).all()
    alone = fs.cross_entropy(z, y, **options)
    np.testing.assert_array_equal(alone[0] if more else alone, got)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"return_stats": True, "scale": 0.7}], ids=" ".join)
@pytest.mark.parametrize("classes", [10, 130])
def test_what_is_left_out_does_not_matter(classes, options, dtype, twin, results, assert_same_bits):
    """Its logit, NaN and infinities among them, changes no bit of anything."""
    where, z = mask((35, classes)), logits((35, classes), dtype)
    y = where.argmax(axis=1)
    if "label_smoothing" in options:
        options = options | {"class_weight": np.linspace(0.5, 2, classes)}
    other = np.where(where, z, np.random.default_rng(0).choice([NAN, INF, -INF, 1e30, 0], z.shape)).astype(dtype)
    for name in FAMILY:
        assert_same_bits(getattr(fs, name)(other, where=where), getattr(fs, name)(z, where=where))
    for name in ("cross_entropy", "cross_entropy_with_grad"):
        want, got = (results(getattr(fs, name)(array, y, where=where, **options)) for array in (z, other))
        assert_same_bits(got, want)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("classes", [3, 40, 130])
def test_a_label_that_is_left_out(classes, reduction, dtype, twin):
    """It has an infinite loss, counts in the mean, and has no gradient; the other classes have theirs."""
    z, y, where = np.zeros((4, classes), dtype), np.array([0, 1, -100, 2]), np.ones((4, classes), bool)
    where[[1, 2], [1, 1]] = False
    loss, dlogits = fs.cross_entropy_with_grad(z, y, where=where, reduction=reduction)
    left, count = classes - 1, 3 if reduction == "mean" else 1
    whole = np.array([np.log(classes), INF, 0, np.log(classes)])
    reduced = {"mean": INF, "sum": INF, "none": whole}
    np.testing.assert_allclose(loss, reduced[reduction], rtol=1e-6)
    want = np.where([[True], [False], [False], [True]], 1 / classes, 0) * np.ones_like(z)
    want[1], want[1, 1] = 1 / left, 0
    want[[0, 3], [0, 2]] -= 1
    np.testing.assert_allclose(dlogits, want / count, rtol=1e-5)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_nothing_at_all(name, shape):
    z, where = np.empty(shape), np.empty(shape, bool)
    want = getattr(fs, name)(z)
    np.testing.assert_array_equal(getattr(fs, name)(z, where=where, scale=2), want)


@pytest.mark.parametrize("name", FAMILY)
def test_off(name, dtype, twin, assert_same_bits):
    z = logits((35, 10), dtype)
    want = getattr(fs, name)(z)
    assert_same_bits(getattr(fs, name)(z, scale=None, where=None), want)
    assert_same_bits(getattr(fs, name)(z, scale=1), want)


@pytest.mark.usefixtures("regime")
@BY_OPTIONS
@pytest.mark.parametrize("classes", [10, 33, 130])
@pytest.mark.parametrize("name", FAMILY)
def test_same_bits_alone_and_in_a_batch(name, classes, on, dtype, twin, assert_same_bits):
    z, where = logits((35, classes), dtype), mask((35, classes))
    moved = np.random.default_rng(2).permutation(35)

    def call(rows):
        options = {key: {"scale": 0.7, "where": where[rows]}[key] for key in on}
        return getattr(fs, name)(z[rows], **options)

    whole = call(slice(None))
    for rows in (moved, moved[:1], slice(3, None)):
        assert_same_bits(call(rows), whole[rows])
