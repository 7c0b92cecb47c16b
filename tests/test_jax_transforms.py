"""What JAX makes of functions of `fastsoftmax.jax`: jit, grad, vmap, scan, checkpoint, jvp, and each of the others.

In float64 each is the same as of optax's function; the computation that XLA gets is looked at where that is promised.
"""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

import fastsoftmax.jax as fj  # noqa: E402

CLASSES = 6
Y = np.array([0, 5, 2, 2, 1, 3, 4, 0])
P = np.random.default_rng(1).dirichlet(np.ones(CLASSES), 8)
W = np.random.default_rng(2).uniform(0.5, 2, 8)
WHERE = np.array([1, 1, 0, 1, 0, 1, 1, 1], bool)


# Losses of rows of logits, for a library: those of optax, and activations that become one.
LOSSES = {
    "labels": lambda library, z: library.softmax_cross_entropy_with_integer_labels(z, Y),
    "labels of some": lambda library, z: library.softmax_cross_entropy_with_integer_labels(z, Y, where=WHERE),
    "probabilities": lambda library, z: library.softmax_cross_entropy(z, P),
    "softmax": lambda library, z: jnp.sum(P * family(library).softmax(z) ** 2, -1),
    "log_softmax": lambda library, z: jnp.sum(jnp.sin(P * family(library).log_softmax(z)), -1),
    "logsumexp": lambda library, z: family(library).logsumexp(z, axis=-1),
}


def family(library):
    return jax.nn if library is optax else library


@pytest.fixture(params=LOSSES)
def losses(request):
    """For a library: a function of the logits."""
    return lambda library: lambda z: LOSSES[request.param](library, z)


@pytest.fixture(autouse=True)
def with_float64():
    """JAX knows float64 in these tests, and nowhere else."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def z():
    return jnp.asarray(3 * np.random.default_rng(0).standard_normal((8, CLASSES)))


def total(losses):
    """A number that is no linear function of losses."""
    return lambda z: jnp.sum(W * losses(z) ** 2)


def scanned(losses):
    """The same, a part of the rows at a time: the logits that count are one of three, each seen once."""

    def total_by_scan(z):
        def step(carry, part):
            return carry + jnp.sum(W * losses(part * z) ** 2), None

        return jax.lax.scan(step, 0.0, jnp.array([1.0, 0.5, -1.0]))[0]

    return total_by_scan


TRANSFORMS = {
    "value_and_grad": lambda f, z: jax.value_and_grad(total(f))(z),
    "jvp": lambda f, z: jax.jvp(f, (z,), (jnp.cos(z),)),
    "hessian": lambda f, z: jax.hessian(total(f))(z),
    "jvp of grad of grad": lambda f, z: jax.jvp(
        jax.grad(lambda z: jnp.sum(jnp.sin(jax.grad(total(f))(z)))), (z,), (jnp.cos(z),)
    ),
    "scan": lambda f, z: jax.value_and_grad(scanned(f))(z),
    "grad of grad of a checkpointed scan": lambda f, z: jax.grad(
        lambda z: jnp.sum(jnp.sin(jax.grad(jax.checkpoint(scanned(f)))(z)))
    )(z),
    "vmap": lambda f, z: jax.vmap(jax.value_and_grad(total(f)))(jnp.stack([z, -z, z / 2])),
    "grad of vmap": lambda f, z: jax.grad(lambda z: jnp.sum(jax.vmap(f)(jnp.stack([z, -z])) ** 2))(z),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transform(transform, losses, z):
    """Under jit, as JAX compiles faster so."""
    make = TRANSFORMS[transform]
    ours, theirs = jax.jit(lambda z: (make(losses(fj), z), make(losses(optax), z)))(z)
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


def test_without_jit(losses, z):
    (loss, gradient), (want, exact) = (jax.value_and_grad(total(losses(library)))(z) for library in (fj, optax))
    np.testing.assert_allclose(loss, want, rtol=1e-12)
    np.testing.assert_allclose(gradient, exact, rtol=1e-10, atol=1e-12)


def test_gradient_of_class_probabilities(z):
    """And of both arguments twice."""

    def results(library):
        def loss(p, z):
            return jnp.sum(W * library.softmax_cross_entropy(z, p) ** 2)

        return jax.grad(loss)(P, z), jax.hessian(loss, (0, 1))(P, z), jax.jvp(loss, (P, z), (jnp.sin(P), z))

    ours, theirs = jax.jit(lambda: (results(fj), results(optax)))()
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 1), (0, 0)], ids=str)
def test_vmap_makes_more_rows(axes, z):
    """Of one call for all of them: there is no loop, whatever is batched."""
    loss = fj.softmax_cross_entropy_with_integer_labels
    logits = jnp.stack([z, -z, z / 2], axes[0]) if axes[0] is not None else z
    labels = jnp.stack([Y, Y[::-1], Y], axes[1]) if axes[1] is not None else jnp.asarray(Y)
    many = jax.vmap(jax.value_and_grad(lambda z, y: loss(z, y).sum()), axes)
    got = many(logits, labels)
    for i in range(3):
        one = [
            each if axis is None else jnp.take(each, i, axis) for each, axis in zip((logits, labels), axes, strict=True)
        ]
        want = jax.value_and_grad(lambda z, y: loss(z, y).sum())(*one)
        np.testing.assert_array_equal(got[0][i], want[0])
        np.testing.assert_array_equal(got[1][i], want[1])
    program = jax.jit(many).lower(logits, labels).as_text()
    assert program.count("custom_call @fastsoftmax") == 2  # with gradient; its factors
    assert "while" not in program


# What XLA makes of it ----------------------------------------------------------------------------------------------


def mean_loss(z, y):
    return fj.softmax_cross_entropy_with_integer_labels(z, y).mean()


@pytest.mark.parametrize(("rows", "classes"), [(4, 10), (300, 30_000)], ids=str)
def test_a_donated_array_becomes_the_gradient(rows, classes):
    """Where it is, with no memory for another one if it is large."""
    z = jnp.asarray(np.random.default_rng(0).standard_normal((rows, classes)), jnp.float32)
    y = jnp.zeros(rows, jnp.int32)
    want = np.asarray(jax.grad(mean_loss)(z, y))
    step = jax.jit(jax.value_and_grad(mean_loss), donate_argnums=0).lower(z, y).compile()
    where = z.unsafe_buffer_pointer()
    _, gradient = step(z, y)
    assert gradient.unsafe_buffer_pointer() == where
    np.testing.assert_array_equal(gradient, want)
    if want.nbytes > 2**25:
        assert step.memory_analysis().temp_size_in_bytes < want.nbytes / 10


def test_logits_of_a_layer_become_their_gradient():
    """There is memory for one array of them."""
    x, w, y = jnp.ones((300, 4), jnp.float32), jnp.ones((4, 30_000), jnp.float32), jnp.zeros(300, jnp.int32)
    step = jax.jit(jax.grad(lambda w: mean_loss(x @ w, y))).lower(w).compile()
    assert step.memory_analysis().temp_size_in_bytes < 1.1 * 4 * 300 * 30_000


def test_logits_that_are_needed_afterwards_are_copied():
    z = jnp.asarray(np.random.default_rng(0).standard_normal((300, 30_000)), jnp.float32)
    y, before = jnp.zeros(300, jnp.int32), np.array(z)
    gradient, twice = jax.jit(lambda z: (jax.grad(mean_loss)(z, y), 2 * z))(z)
    np.testing.assert_array_equal(z, before)
    np.testing.assert_array_equal(twice, 2 * before)
    np.testing.assert_array_equal(gradient, jax.grad(mean_loss)(z, y))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize(("rows", "classes"), [(5, 10), (7, 130), (40, 10_000)], ids=str)
def test_rows_are_multiplied_by_what_follows(rows, classes, dtype):
    """By one factor, as behind a mean, or by one for each; by 1 not at all."""
    z = jnp.asarray(np.random.default_rng(0).standard_normal((rows, classes)), dtype)
    y = jnp.zeros(rows, jnp.int32)
    _, pull = jax.vjp(lambda z: fj.softmax_cross_entropy_with_integer_labels(z, y), z)
    plain = pull(jnp.ones(rows, dtype))[0]
    for factors in (np.full(rows, 0.25), np.linspace(-1, 2, rows), np.where(np.arange(rows) % 2, 1, 3)):
        factors = jnp.asarray(factors, dtype)
        computed = jnp.float64 if dtype == "float64" else jnp.float32
        want = (plain.astype(computed) * factors.astype(computed)[:, None]).astype(dtype)
        got = jax.jit(pull)(factors)[0]
        assert got.dtype == dtype
        np.testing.assert_array_equal(np.asarray(got, np.float64), np.asarray(want, np.float64))


def test_on_other_devices_jax_computes_itself(z):
    """A program for a GPU has no call of ours, and none of the formulas for one of the CPU."""
    step = jax.jit(jax.value_and_grad(total(lambda z: fj.softmax_cross_entropy_with_integer_labels(z, Y))))
    lowered = {platform: step.trace(z).lower(lowering_platforms=(platform,)).as_text() for platform in ("cpu", "cuda")}
    assert "custom_call @fastsoftmax" in lowered["cpu"]
    assert "exponential" not in lowered["cpu"]
    assert "fastsoftmax" not in lowered["cuda"]
    assert "exponential" in lowered["cuda"]
