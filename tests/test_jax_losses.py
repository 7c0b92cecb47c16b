"""Losses of `fastsoftmax.jax` are optax's, to the bits that the library's own functions give."""

import functools

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

import fastsoftmax as fs  # noqa: E402
import fastsoftmax.jax as fj  # noqa: E402

INF, NAN = np.inf, np.nan
EPS = np.finfo(np.float64).eps  # of what optax gives
FLOATS = ["float32", "float64", "float16", "bfloat16"]
# Rows that half types can hold.
MODEST = ("spread 0.1", "spread 3", "label ahead by 1", "label ahead by 20", "outlier", "ties", "constant", "masked")


@pytest.fixture(autouse=True)
def with_float64():
    """JAX knows float64 in these tests, and nowhere else."""
    with jax.enable_x64(True):
        yield


def with_gradient(loss_of, logits, dloss):
    """Losses of rows, and the gradient of the logits behind them."""

    def both(logits):
        losses, pull = jax.vjp(loss_of, logits)
        return losses, *pull(jnp.asarray(dloss, losses.dtype))

    return jax.jit(both)(logits)


def labels_of(library, labels):
    return lambda logits: library.softmax_cross_entropy_with_integer_labels(logits, labels)


@pytest.mark.parametrize("classes", [10, 130, 5000])
@pytest.mark.parametrize("dtype", FLOATS)
def test_bits_of_the_library(dtype, classes, rows_that_hurt, assert_same_bits):
    """Rows by labels: few classes, many, and enough of them that XLA's threads share the work."""
    z, y = rows_that_hurt(50, classes, jnp.dtype(dtype), MODEST)
    losses, dlogits = with_gradient(labels_of(fj, y), z, np.ones(50))
    want, gradient = fs.cross_entropy_with_grad(z, y, reduction="none")
    tiny = np.finfo("float64" if dtype == "float64" else "float32").tiny
    want[np.abs(want) < tiny] = 0  # XLA's threads take subnormal numbers for zeros
    assert_same_bits([losses, dlogits], [want, gradient])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("classes", [10, 130])
def test_labels_against_optax(dtype, classes, rows_that_hurt, assert_ulps):
    z, y = rows_that_hurt(60, classes, np.dtype(dtype))
    dloss = np.random.default_rng(0).uniform(0.5, 2, 60).astype(dtype)
    losses, dlogits = with_gradient(labels_of(fj, y), z, dloss)
    want, gradient = with_gradient(labels_of(optax, y), z.astype(np.float64), dloss)
    assert losses.dtype == dlogits.dtype == dtype
    largest = np.abs(np.where(np.isinf(z), 0, z)).max(1).astype(np.float64)
    assert_ulps(losses, np.asarray(want), 8, slack=8 * EPS * (largest + np.log(classes)))
    assert_ulps(dlogits, np.asarray(gradient), 8, slack=8 * np.finfo(dtype).eps * dloss[:, None])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("classes", [10, 130])
def test_probabilities_against_optax(dtype, classes):
    """Those of a row, of any sum, a label, nothing, and numbers that are no probabilities; and their gradients."""
    rng = np.random.default_rng(classes)
    z = np.asarray(3 * rng.standard_normal((5, classes)), jnp.dtype(dtype))
    p = rng.dirichlet(np.ones(classes), 5)
    p[1] *= 3
    p[2] = np.arange(classes) == 7
    p[3] = 0
    p[4] = rng.standard_normal(classes)
    p = p.astype(z.dtype)

    @functools.partial(jax.jit, static_argnums=0)
    def grads(library, z, p):
        losses, pull = jax.vjp(library.softmax_cross_entropy, z, p)
        return losses, *pull(jnp.asarray([1, 2, 3, 4, 5], losses.dtype))

    eps = float(jnp.finfo(dtype).eps)
    exact = grads(optax, z.astype(np.float64), p.astype(np.float64))
    for got, want in zip(grads(fj, z, p), exact, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(np.asarray(got, np.float64), want, rtol=8 * eps, atol=20 * eps)


@pytest.mark.parametrize("masked", ["no", "rows", "rows with an axis", "classes"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((40, 10), -1), ((5, 3, 7), 1), ((6, 4, 5, 2), 0), ((4, 3, 5), (2, 0)), ((9,), 0)], ids=str
)
def test_axes_and_masks(shape, axis, masked):
    rng = np.random.default_rng(len(shape))
    z = jnp.asarray(3 * rng.standard_normal(shape))
    axes = np.atleast_1d(axis) % len(shape)
    rows = tuple(length for i, length in enumerate(shape) if i not in axes)
    y = jnp.asarray(rng.integers(np.prod([shape[i] for i in axes]), size=rows))
    keep = rng.random(rows) < 0.6
    where = {
        "no": None,
        "rows": keep,
        "rows with an axis": np.expand_dims(keep, tuple(axes)),
        "classes": (rng.random(shape) < 0.7) & np.expand_dims(keep, tuple(axes)),
    }[masked]

    p = rng.dirichlet(np.ones(z.size), 1).reshape(shape)

    def results(library, z):
        loss = library.softmax_cross_entropy_with_integer_labels
        total = jax.value_and_grad(lambda z: jnp.sum(jnp.sin(loss(z, y, axis, where))))(z)
        return *total, library.softmax_cross_entropy(z, p, axis, where)

    ours, theirs = jax.jit(lambda z: (results(fj, z), results(optax, z)))(z)
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_labels_of_any_integers(dtype):
    z, y = jnp.arange(20.0).reshape(4, 5), jnp.asarray([0, 4, 2, 1])
    got, want = (fj.softmax_cross_entropy_with_integer_labels(z, labels) for labels in (y.astype(dtype), y))
    np.testing.assert_array_equal(got, want)


def test_class_probabilities_of_another_shape_and_dtype():
    """As optax has it: what is broadcast, integers, and labels that widen the result."""
    z = jnp.arange(20, dtype=jnp.float32).reshape(4, 5)
    for p in (jnp.full(5, 0.2, jnp.float32), jnp.eye(5, dtype=int)[:4], jnp.full((4, 5), 0.2, jnp.float64), 2.0):
        got, want = (library.softmax_cross_entropy(z, p) for library in (fj, optax))
        assert got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-6)
    got, want = (library.softmax_cross_entropy(z, jnp.full((2, 4, 5), 0.2), axis=None) for library in (fj, optax))
    np.testing.assert_allclose(got, want, rtol=1e-6)


# Labels that are no classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "came"),
    [
        (np.array([1, 0, 5], np.int32), "got 5 in row 2"),
        (np.array([-1, 0, 9], np.int64), "got -1 in row 0"),
        (np.array([0, -100, 0], np.int8), "got -100 in row 1"),
        (np.array([0, 2**32 - 1, 0], np.uint32), "got 2147483647 in row 1"),
        (np.array([0, 2**40, 0], np.int64), "got 1099511627776 in row 1"),
        (np.array([0, -(2**63), 0], np.int64), "got -9223372036854775808 in row 1"),
        (np.array([0, -(2**31), 0], np.int32), "got -2147483648 in row 1"),
    ],
)
@pytest.mark.parametrize("classes", [5, 200])
def test_label_that_is_no_class(labels, came, classes):
    labels = np.where(labels == 5, classes, labels) if labels.dtype == np.int32 else labels
    came = came.replace("got 5 ", f"got {classes} ")
    z = jnp.zeros((3, classes))
    for function in (fj.softmax_cross_entropy_with_integer_labels, jax.jit(jax.grad(total))):
        with pytest.raises(
            (ValueError, jax.errors.JaxRuntimeError), match=f"labels: expected classes 0 to {classes - 1}, {came}"
        ):
            jax.block_until_ready(function(z, labels))


def total(logits, labels):
    return fj.softmax_cross_entropy_with_integer_labels(logits, labels).sum()


def test_wrong_label_of_a_row_that_does_not_count():
    z, y, where = jnp.zeros((3, 4)), jnp.asarray([0, 77, 1]), np.array([True, False, True])
    losses = fj.softmax_cross_entropy_with_integer_labels(z, y, where=where)
    np.testing.assert_allclose(losses, [np.log(4), 0, np.log(4)])


# What is not finite ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [3, 300])
@pytest.mark.parametrize(
    "row", [[1, NAN, 3], [-INF, 2, 3], [-INF, -INF, -INF], [1e38, -1e38, 0], [NAN, -INF, 0]], ids=str
)
def test_what_is_not_finite_is_as_optax_has_it(row, classes):
    z = np.full((3, classes), row[-1], np.float32)
    z[:, :3] = row

    def results(library, z):
        for name, targets in (
            ("softmax_cross_entropy_with_integer_labels", np.arange(3)),
            ("softmax_cross_entropy", np.eye(3, classes, dtype=np.float32)),
        ):
            losses, pull = jax.vjp(lambda z, name=name, targets=targets: getattr(library, name)(z, targets), z)
            yield losses, pull(jnp.ones_like(losses))

    ours, theirs = jax.jit(lambda z: (list(results(fj, z)), list(results(optax, z))))(z)
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_an_infinite_logit_spoils_its_row_as_it_does_in_the_library():
    """Where optax gives +∞ for any other label, and NaN for that one."""
    z, y = np.array([[1, INF, 0], [1, 2, 3]], np.float32), np.array([0, 1])
    np.testing.assert_array_equal(
        fj.softmax_cross_entropy_with_integer_labels(z, y), fs.cross_entropy(z, y, reduction="none")
    )
    assert np.isnan(fs.cross_entropy(z, y, reduction="none")).tolist() == [True, False]


# What does not fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda z, y: fj.softmax_cross_entropy_with_integer_labels(y, y),
            TypeError,
            "logits: expected floats, got int",
        ),
        (lambda z, y: fj.softmax_cross_entropy(y, z), TypeError, "logits: expected floats, got int"),
        (lambda z, y: fj.softmax_cross_entropy_with_integer_labels(z, z), TypeError, "labels: expected integers, got"),
        (
            lambda z, y: fj.softmax_cross_entropy_with_integer_labels(z, y, axis=None),
            TypeError,
            "axis: expected an int",
        ),
        (lambda z, y: fj.softmax_cross_entropy_with_integer_labels(z, y, axis="x"), TypeError, "axis: expected an int"),
        (lambda z, y: fj.softmax_cross_entropy_with_integer_labels(z, y, axis=2), ValueError, "axis: expected one of"),
        (lambda z, y: fj.softmax_cross_entropy(z, z, axis=(0, -2)), ValueError, "axis: expected each axis once"),
        (lambda z, y: fj.softmax_cross_entropy_with_integer_labels(z, y[:2]), ValueError, "labels: expected shape"),
        (lambda z, y: fj.softmax_cross_entropy(z, z[:, :2]), ValueError, "labels: expected a shape"),
    ],
)
def test_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(")):
        call(jnp.zeros((4, 3)), jnp.zeros(4, int))
