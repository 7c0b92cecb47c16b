"""`softmax`, `log_softmax` and `logsumexp` of `fastsoftmax.jax` are `jax.nn`'s, to the library's own bits."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

import fastsoftmax as fs  # noqa: E402
import fastsoftmax.jax as fj  # noqa: E402

NAMES = ["softmax", "log_softmax", "logsumexp"]
INF, NAN = np.inf, np.nan


@pytest.fixture(autouse=True)
def with_float64():
    """JAX knows float64 in these tests, and nowhere else."""
    with jax.enable_x64(True):
        yield


def logits(shape, dtype="float64"):
    z = 3 * np.random.default_rng(shape).standard_normal(shape)
    z.reshape(-1)[::7] += 20
    return z.astype(jnp.dtype(dtype))


@pytest.mark.parametrize("classes", [10, 130, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_bits_of_the_library(name, dtype, classes, assert_same_bits):
    z = logits((20, classes), dtype)
    assert_same_bits(getattr(fj, name)(z, axis=-1), getattr(fs, name)(z, axis=-1))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", NAMES[:2])
def test_bits_of_what_is_behind(name, dtype, classes, assert_same_bits):
    z, g = logits((20, classes), dtype), logits((classes, 20), dtype).T.copy()
    result, pull = jax.vjp(getattr(fj, name), jnp.asarray(z))
    assert_same_bits(pull(jnp.asarray(g))[0], getattr(fs, f"{name}_backward")(np.asarray(result), g))


@pytest.mark.parametrize("axis", [-1, 0, 1, (0, 2), (2, 0), None, [1]], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_axes(name, axis):
    z = jnp.asarray(logits((4, 3, 5)))
    axis_of_jax = tuple(axis) if isinstance(axis, list) else axis

    def results(library, axis, **keywords):
        result, pull = jax.vjp(lambda z: getattr(library, name)(z, axis=axis, **keywords), z)
        step = jnp.cos(z)
        return result, *pull(jnp.sin(result)), *jax.jvp(lambda z: getattr(library, name)(z, axis=axis), (z,), (step,))

    keywords = {"keepdims": True} if name == "logsumexp" else {}
    ours, theirs = jax.jit(lambda: (results(fj, axis, **keywords), results(jax.nn, axis_of_jax, **keywords)))()
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_what_jax_itself_computes(name):
    """Masks and scalars; of logsumexp integers, factors and signs, and no classes."""
    z = jnp.asarray(logits((4, 6)))
    where = np.random.default_rng(0).random(z.shape) < 0.6
    calls = [(z, {"where": where, "axis": -1}), (jnp.float32(2), {"axis": None})]
    if name == "logsumexp":
        calls += [(z, {"b": jnp.sign(z), "axis": 0, "return_sign": True}), (jnp.zeros((3, 0)), {"axis": -1})]
        calls += [(jnp.arange(6), {"axis": 0})]
    for array, keywords in calls:
        got, want = (jax.tree.leaves(getattr(library, name)(array, **keywords)) for library in (fj, jax.nn))
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("classes", [3, 300])
@pytest.mark.parametrize("row", [[1, NAN, 3], [-INF, 2, 3], [-INF, -INF, -INF], [1e38, -1e38, 0]], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_as_jax_has_it(name, row, classes):
    z = np.full((1, classes), row[-1], np.float32)
    z[0, :3] = row

    def results(library):
        result, pull = jax.vjp(lambda z: getattr(library, name)(z, axis=-1), jnp.asarray(z))
        return result, *pull(jnp.ones_like(result))

    for got, want in zip(results(fj), results(jax.nn), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


def test_an_infinite_logit_has_the_log_probabilities_of_the_library(assert_same_bits):
    """Where JAX gives NaN for all of them; the others agree."""
    z = np.array([[1, INF, 0]], np.float32)
    assert_same_bits(fj.log_softmax(z), fs.log_softmax(z))
    np.testing.assert_array_equal(fj.softmax(z), jax.nn.softmax(z))
    np.testing.assert_array_equal(fj.logsumexp(z), jax.nn.logsumexp(z))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("axis", "error", "message"),
    [(1.5, TypeError, "axis: expected an integer"), (3, ValueError, "axis: expected one of the 2 axes, got 3")],
)
def test_axis_that_does_not_fit(name, axis, error, message):
    with pytest.raises(error, match=message):
        getattr(fj, name)(jnp.zeros((2, 3)), axis=axis)
