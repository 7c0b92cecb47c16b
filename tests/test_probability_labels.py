"""Class probabilities in place of labels. How exact losses are with them `test_options` says."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from tests.definition import probabilities_of

INF, NAN = np.inf, np.nan


def problem(shape, dtype):
    rng = np.random.default_rng(shape)
    z, y = (3 * rng.standard_normal(shape)).astype(dtype), rng.integers(shape[1], size=shape[0])
    return z, y, probabilities_of(y, shape[1], dtype)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("shape", [(35, 1), (35, 10), (21, 33), (13, 130), (20, 1_000)], ids=str)
def test_certainty_is_a_label(shape, dtype, twin):
    z, y, _ = problem(shape, dtype)
    onehot = (np.arange(shape[1]) == y[:, None]).astype(dtype)
    want, dwant = fs.cross_entropy_with_grad(z, y, reduction="none")
    got, dgot = fs.cross_entropy_with_grad(z, onehot, reduction="none")
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(got, want, rtol=8 * eps)
    np.testing.assert_allclose(dgot, dwant, rtol=8 * eps, atol=4 * eps)


@pytest.mark.parametrize("classes", [3, 40, 130])
def test_the_mean_over_labels_by_their_probability(classes, dtype, twin):
    z, _, p = problem((20, classes), dtype)
    losses = np.stack([fs.cross_entropy(z, np.full(20, j), reduction="none") for j in range(classes)], axis=1)
    got = fs.cross_entropy(z, p, reduction="none")
    np.testing.assert_allclose(got, (p * losses.astype(np.float64)).sum(axis=1), rtol=20 * np.finfo(dtype).eps)
    assert (got[4::10] == 0).all()  # all of whose probabilities are 0


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("weights", [(), ("class_weight",), ("sample_weight",), ("class_weight", "sample_weight")])
@pytest.mark.parametrize("classes", [10, 130])
def test_the_mean_divides_by_rows_or_their_weights(classes, weights, dtype):
    """Class weights do not count, as in PyTorch; nor is any row ignored."""
    z, _, p = problem((20, classes), dtype)
    given = {"class_weight": np.linspace(0, 2, classes), "sample_weight": np.linspace(0, 3, 20)}
    options = {name: given[name] for name in weights}
    divisor = given["sample_weight"].sum() if "sample_weight" in weights else 20
    total, dtotal = fs.cross_entropy_with_grad(z, p, **options, reduction="sum")
    mean, dmean = fs.cross_entropy_with_grad(z, p, **options)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(mean, total / divisor, rtol=4 * eps)
    np.testing.assert_allclose(dmean, dtotal / divisor, rtol=4 * eps, atol=eps)
    rows, drows = fs.cross_entropy_with_grad(z, p, **options, reduction="none", dloss=np.full(20, 2.5))
    np.testing.assert_allclose(rows.sum(dtype=np.float64), total, rtol=8 * eps)
    np.testing.assert_allclose(drows, 2.5 * dtotal, rtol=4 * eps, atol=eps)


@pytest.mark.usefixtures("serial")
def test_of_any_kind(dtype, assert_same_bits):
    """They are taken in the dtype of the logits; nothing is compiled for lists, strides, and read-only arrays."""
    z, _, p = problem((20, 10), dtype)
    p = p.astype(np.float32)  # both dtypes hold it
    want = fs.cross_entropy_with_grad(z, p.astype(dtype))
    fs.cross_entropy(z, p.astype(dtype))
    before = [dispatcher.signatures for dispatcher in DISPATCHERS]
    read_only = p.copy()
    read_only.flags.writeable = False
    wide = np.zeros((40, 20))
    wide[::2, ::2] = p
    kinds = [p, p.astype(np.float64), p.astype(">f4"), p.tolist(), list(p), read_only, np.asfortranarray(p)]
    for given in [*kinds, wide[::2, ::2], p[::-1].copy()[::-1]]:
        assert_same_bits(fs.cross_entropy_with_grad(z, given), want)
        assert_same_bits(fs.cross_entropy(z, given), want[0])
    row, drow = fs.cross_entropy_with_grad(z[1:2], p[1:2])
    assert_same_bits(fs.cross_entropy_with_grad(z[1], p[1]), (row, drow[0]))
    assert [dispatcher.signatures for dispatcher in DISPATCHERS] == before


@pytest.mark.usefixtures("serial")
def test_of_more_digits_are_rounded(assert_same_bits):
    z, _, p = problem((20, 10), np.float32)
    p = p + np.random.default_rng(0).uniform(0, 1e-9, p.shape)
    assert_same_bits(fs.cross_entropy_with_grad(z, p), fs.cross_entropy_with_grad(z, p.astype(np.float32)))


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_along_any_axis(axis, assert_same_bits):
    """They lie as the logits do, not as labels."""
    rng = np.random.default_rng(0)
    z, p = rng.standard_normal((4, 5, 6)), rng.random((4, 5, 6))
    rows, of_rows = (np.ascontiguousarray(np.moveaxis(array, axis, -1)) for array in (z, p))
    for reduction in ("mean", "none"):
        want, dwant = fs.cross_entropy_with_grad(rows, of_rows, reduction=reduction)
        got, dgot = fs.cross_entropy_with_grad(z, p, axis=axis, reduction=reduction)
        assert_same_bits((got, dgot), (want, np.moveaxis(dwant, -1, axis)))
    with pytest.raises(ValueError, match=r"^labels: "):
        fs.cross_entropy(z, of_rows if of_rows.shape != z.shape else p[0], axis=axis)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("classes", [3, 33, 130])
def test_spoilt_rows(classes, dtype, twin):
    """As the reference, and PyTorch: a logit of −inf has the loss +inf, and of probability 0 the product NaN."""
    z, y, p = problem((40, classes), dtype)
    for i in range(40):
        z[i, y[i] if i % 3 else (y[i] + 1) % classes] = [NAN, INF, -INF, 0][i % 4]
    z[7], z[15] = -INF, INF
    want, dwant = reference.cross_entropy_with_grad(z.astype(np.float64), p.astype(np.float64), reduction="none")
    assert np.isposinf(want).any()
    assert np.isnan(want[2::4]).any()
    got, dgot = fs.cross_entropy_with_grad(z, p, reduction="none")
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(dgot, dwant, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fs.cross_entropy(z, p, reduction="none"), got)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("classes", [10, 130])
def test_of_classes_that_are_left_out_do_not_matter(classes, dtype, twin, assert_same_bits):
    """They are no part of the target, whatever they are."""
    z, _, p = problem((35, classes), dtype)
    where = np.random.default_rng(0).random(p.shape) < 0.6
    where[:, 0] = True
    other = np.where(where, p, np.random.default_rng(1).random(p.shape)).astype(dtype)
    none = np.where(where, p, 0).astype(dtype)
    got, want = (fs.cross_entropy_with_grad(z, each, where=where) for each in (other, none))
    assert_same_bits(got, want)
    loss, dlogits = fs.cross_entropy_with_grad(np.where(where, z, NAN), p, where=where)
    assert np.isfinite(loss)
    assert (dlogits[~where] == 0).all()


@pytest.mark.parametrize(("reduction", "expected"), [("mean", NAN), ("sum", 0), ("none", np.empty(0))])
def test_no_rows(reduction, expected, dtype):
    z = np.empty((0, 3), dtype)
    loss, dlogits = fs.cross_entropy_with_grad(z, z, reduction=reduction)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(fs.cross_entropy(z, z, reduction=reduction), expected)
    assert dlogits.shape == (0, 3)
    x, w = np.empty((0, 2), dtype), np.ones((2, 3), dtype)
    loss, grads = fs.linear_cross_entropy_with_grad(x, w, None, z, reduction=reduction)
    np.testing.assert_array_equal(loss, expected)
    assert not grads.dweight.any()


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("value", [-0.0, 1e30, 2.0])
def test_any_finite_number_from_zero_up(value, dtype, assert_ulps):
    """Nothing says that they sum to 1."""
    z, p = np.zeros((2, 3), dtype), np.full((2, 3), value, dtype)
    loss, dlogits = fs.cross_entropy_with_grad(z, p, reduction="none")
    assert_ulps(loss, np.full(2, 3 * dtype(value).astype(np.longdouble) * np.log(np.longdouble(3))))
    np.testing.assert_allclose(dlogits, 0, atol=float(8 * np.finfo(dtype).eps * abs(value)))
