"""Loss and gradient are Optax's, softmax and its kin JAX's: with `where`, and over several axes.

JAX computes in float64, from the numbers that the tested dtype holds.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

INF, NAN = np.inf, np.nan
# Units in the last place. Plain NumPy rounds each step, and an error of q − m is one of its exponential.
LIBRARIES = pytest.mark.parametrize(("library", "ulps"), [(fs, 8), (reference, 32)], ids=["fast", "reference"])
EPS = np.finfo(np.float64).eps  # of what JAX gives
MASKED = pytest.mark.parametrize("masked", [False, True], ids=["all", "where"])
FAMILY = pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])


@pytest.fixture(autouse=True)
def with_float64():
    """JAX knows float64 in these tests, and nowhere else."""
    with jax.enable_x64(True):
        yield


def case(shape, axis, dtype):
    """Logits, labels, class probabilities, and a mask that leaves each row its label, and some rows nothing else."""
    rng = np.random.default_rng(len(shape))
    z = 3 * rng.standard_normal(shape)
    y = rng.integers(z.shape[axis], size=np.delete(shape, axis))
    p = np.moveaxis(rng.dirichlet(np.ones(z.shape[axis]), y.shape), -1, axis)
    where = rng.uniform(size=shape) < rng.choice([0, 0.3, 0.8], np.expand_dims(y, axis).shape)
    np.put_along_axis(where, np.expand_dims(y, axis), True, axis)
    return z.astype(dtype), y, p.astype(dtype), where


def loss_and_gradient(loss_of, z, dloss):
    """Of JAX, as NumPy arrays of float64."""
    loss, pull = jax.vjp(loss_of, z.astype(np.float64))
    assert loss.dtype == np.float64
    return np.asarray(loss), np.asarray(pull(np.asarray(dloss, np.float64))[0])


def loss_of(labels, axis, where):
    if labels.dtype.kind == "f":
        return lambda z: optax.softmax_cross_entropy(z, labels.astype(np.float64), axis, where)
    return lambda z: optax.softmax_cross_entropy_with_integer_labels(z, labels, axis, where)


@pytest.mark.usefixtures("serial")
@LIBRARIES
@MASKED
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("labels", ["indices", "probabilities"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((40, 10), 1), ((30, 130), -1), ((5, 3, 7), 1), ((6, 4, 5, 2), 0), ((9,), 0)], ids=str
)
def test_cross_entropy(shape, axis, labels, reduction, masked, library, ulps, dtype, assert_ulps):
    z, y, p, where = case(shape, axis, dtype)
    where = where if masked else None
    given = p if labels == "probabilities" else y
    dloss = np.random.default_rng(1).uniform(0.5, 2, y.shape).astype(dtype) if reduction == "none" else dtype(1.5)
    reduce = {"mean": jax.numpy.mean, "sum": jax.numpy.sum, "none": lambda losses: losses}[reduction]
    want, gradient = loss_and_gradient(lambda z: reduce(loss_of(given, axis, where)(z)), z, dloss)
    options = {"where": where, "reduction": reduction, "axis": axis}
    loss, dlogits = library.cross_entropy_with_grad(z, given, **options, dloss=dloss)
    assert loss.dtype == dlogits.dtype == dtype
    rows = y.size if reduction == "mean" else 1
    slack = 8 * EPS * (np.abs(z).max(axis) + np.log(z.shape[axis]))  # JAX rounds lse and z_y
    assert_ulps(loss, want, ulps, slack=slack if reduction == "none" else slack.sum() / rows)
    slack = np.broadcast_to(ulps * np.finfo(dtype).eps / rows * dloss, y.shape)
    assert_ulps(dlogits, gradient, ulps, slack=np.expand_dims(slack, axis))
    if masked:
        assert not dlogits[~where].any()
        assert not gradient[~where].any()


def put_special(z, where, axis):
    """In every fifth row: infinities and NaN, half of them left out, and rows of nothing but −inf."""
    rows, kept = np.moveaxis(z, axis, -1), np.moveaxis(where, axis, -1)
    for count, at in enumerate(np.ndindex(rows.shape[:-1])):
        if count % 5 == 0:
            rows[at][count % rows.shape[-1]] = np.resize([INF, -INF, NAN], count + 1)[-1]
            kept[at][count % rows.shape[-1]] = count % 2
        elif count % 7 == 1:
            rows[at] = -INF


@pytest.mark.usefixtures("serial")
@LIBRARIES
@pytest.mark.parametrize("labels", ["indices", "probabilities"])
@pytest.mark.parametrize(("shape", "axis"), [((60, 10), 1), ((5, 13, 7), 1)], ids=str)
def test_what_is_left_out_may_be_anything(shape, axis, labels, library, ulps, dtype, assert_ulps):
    """Rows that keep an infinity or NaN are left to `test_against_torch`."""
    z, y, p, where = case(shape, axis, dtype)
    given = p if labels == "probabilities" else y
    put_special(z, where, axis)
    np.put_along_axis(where, np.expand_dims(y, axis), True, axis)
    spoilt = np.any(~np.isfinite(z) & where, axis)
    assert np.isfinite(z[where]).mean() < 1
    assert np.any(~np.isfinite(z) & ~where)
    want, gradient = loss_and_gradient(loss_of(given, axis, where), z, np.ones(y.shape))
    loss, dlogits = library.cross_entropy_with_grad(z, given, where=where, reduction="none", axis=axis)
    assert np.isfinite(want[~spoilt]).all()
    assert_ulps(loss[~spoilt], want[~spoilt], ulps, slack=8 * EPS * (10 + np.log(z.shape[axis])))
    good = np.broadcast_to(~np.expand_dims(spoilt, axis), z.shape)
    assert_ulps(dlogits[good], gradient[good], ulps, slack=ulps * np.finfo(dtype).eps)
    assert not dlogits[~where].any()


@LIBRARIES
@pytest.mark.parametrize("labels", ["indices", "probabilities"])
def test_a_row_without_classes(labels, library, ulps, dtype):
    """Its loss is NaN, as PyTorch's of −inf alone; in Optax such a row has the loss 0. No gradient in either."""
    z, y, where = np.zeros((2, 3), dtype), np.array([1, 2]), np.array([[True] * 3, [False] * 3])
    given = np.eye(3, dtype=dtype)[y] if labels == "probabilities" else y
    assert loss_of(given, -1, where)(z)[1] == 0
    loss, dlogits, stats = library.cross_entropy_with_grad(z, given, where=where, reduction="none", return_stats=True)
    np.testing.assert_allclose(loss, [np.log(3), NAN], rtol=ulps * np.finfo(dtype).eps)
    assert dlogits[0].all()
    assert not dlogits[1].any()
    np.testing.assert_allclose(stats.lse, [np.log(3), -INF], rtol=ulps * np.finfo(dtype).eps)
    assert np.isnan(library.cross_entropy(z, given, where=where))
    assert not library.cross_entropy_with_grad(z, given, where=where)[1][1].any()


@LIBRARIES
def test_a_label_that_is_left_out(library, ulps, dtype):
    """Its loss is infinite; Optax takes the logit that was left out, a loss that can be negative."""
    z, y, where = np.array([[0, 3, 1]], dtype), np.array([1]), np.array([[True, False, True]])
    assert loss_of(y, -1, where)(z)[0] < 0
    loss, dlogits = library.cross_entropy_with_grad(z, y, where=where)
    assert loss == INF
    # The gradient of lse is all that is left.
    want = jax.grad(lambda z: jax.nn.logsumexp(z, where=where))(z)
    np.testing.assert_allclose(dlogits, want, rtol=ulps * np.finfo(dtype).eps)


@LIBRARIES
def test_positive_infinity(library, ulps, dtype):
    """A row that holds it has a NaN loss, as in PyTorch; Optax has an infinite one for labels of finite logits."""
    z = np.array([[0, INF, 1]], dtype)
    assert loss_of(np.array([0]), -1, None)(z)[0] == INF
    assert np.isnan(loss_of(np.array([1]), -1, None)(z)[0])
    for label in range(3):
        assert np.isnan(library.cross_entropy(z, np.array([label])))


def slack_of(name, want, ulps, dtype):
    """Of softmax in ulp of each row's largest, of logarithms in ulp of m and log Σ, which may cancel in them."""
    largest = np.max(want, initial=0, where=np.isfinite(want))
    return ulps * np.finfo(dtype).eps * (largest if name == "softmax" else 10)


AXES = [((40, 10), 1), ((3, 4, 5), (0, 2)), ((3, 4, 5), (1, -1)), ((6, 7), None), ((2, 3, 130), -1)]


@pytest.mark.usefixtures("serial")
@LIBRARIES
@FAMILY
@MASKED
@pytest.mark.parametrize("special", [False, True], ids=["finite", "special"])
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
def test_softmax_family(shape, axis, special, masked, name, library, ulps, dtype, assert_ulps):
    """Rows that keep nothing as well: probability 0, logarithm −inf."""
    rng = np.random.default_rng(len(shape))
    z = 3 * rng.standard_normal(shape).astype(dtype)
    where = rng.uniform(size=shape) < rng.choice([0.02, 0.3, 0.8], shape[:1] + (1,) * (len(shape) - 1))
    if special:
        put_special(z, where, -1)
    if not masked:
        where = None
    want = np.asarray(getattr(jax.nn, name)(z.astype(np.float64), axis=axis, where=where))
    got = getattr(library, name)(z, axis=axis, where=where)
    if special and name == "log_softmax":
        # Beside +inf the others are −inf, as in SciPy; in JAX they are NaN.
        kept = z if where is None else np.where(where, z, -INF)
        beside = (kept.max(axis, keepdims=True) == INF) & (kept != INF)
        assert np.all(np.asarray(got)[beside] == -INF)
        want = np.where(beside, -INF, want)
    assert_ulps(got, want, ulps, slack=slack_of(name, want, ulps, dtype))
    if masked and name == "softmax":
        assert not got[~where].any()
    if masked and name == "log_softmax":
        assert np.all(got[~where] == -INF)


@pytest.mark.usefixtures("serial")
@LIBRARIES
@FAMILY
@pytest.mark.parametrize(("shape", "axis"), AXES, ids=str)
def test_scale(shape, axis, name, library, ulps, dtype, assert_ulps):
    """Of scale · z, with a scale that the dtype has to round."""
    z = 3 * np.random.default_rng(5).standard_normal(shape).astype(dtype)
    want = np.asarray(getattr(jax.nn, name)(z.astype(np.float64) * float(dtype(0.7)), axis=axis))
    got = getattr(library, name)(z, axis=axis, scale=0.7)
    # The product is rounded, and so is its greatest, m.
    slack = slack_of(name, want, ulps + 2 * np.abs(z).max(), dtype)
    assert_ulps(got, want, ulps, slack=slack)
