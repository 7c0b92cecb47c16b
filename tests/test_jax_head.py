"""`fastsoftmax.jax.linear_cross_entropy` is the library's, and what JAX's operations give differentiated twice."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

import fastsoftmax as fs  # noqa: E402
import fastsoftmax.jax as fj  # noqa: E402

ROWS, FEATURES = 12, 7
# Few classes, which are one pass, and many, whose logits are computed a chunk at a time.
CLASSES = [5, 70]
OPTIONS = {
    "none": {},
    "smoothing": {"label_smoothing": 0.1, "ignore_index": 1},
    "weights": {"class_weight": True, "sample_weight": True, "label_smoothing": 0.2},
    "numbers": {"z_loss": 0.01, "softcap": 5.0, "scale": 0.7, "class_weight": True},
}


@pytest.fixture(autouse=True)
def with_float64():
    """JAX knows float64 in these tests, and nowhere else."""
    with jax.enable_x64(True):
        yield


def problem(classes, dtype="float64"):
    """X, W, b and labels, of which one is ignored."""
    rng = np.random.default_rng(classes)
    arrays = [
        rng.standard_normal(shape).astype(jnp.dtype(dtype))
        for shape in ((ROWS, FEATURES), (FEATURES, classes), classes)
    ]
    y = rng.integers(classes, size=ROWS)
    y[3] = -100
    return *arrays, y


def options_of(name, classes):
    rng = np.random.default_rng(1)
    options = {"workspace": 8 * classes * 5, **OPTIONS[name]}
    if "class_weight" in options:
        options["class_weight"] = rng.uniform(0.1, 2, classes)
    if "sample_weight" in options:
        options["sample_weight"] = rng.uniform(0, 2, ROWS)
    return options


def by_jax(x, w, b, y, class_weight=None, sample_weight=None, smoothing=0.0):
    """The mean loss by operations of JAX's alone."""
    log_probs = jax.nn.log_softmax(x @ w + b)
    counts = (y >= 0) * (1 if sample_weight is None else sample_weight)
    weights = jnp.ones(w.shape[1]) if class_weight is None else jnp.asarray(class_weight)
    own = jnp.where(y >= 0, y, 0)
    target = (1 - smoothing) * weights * jax.nn.one_hot(own, w.shape[1]) + smoothing / w.shape[1] * weights
    return -jnp.sum(counts * jnp.sum(target * log_probs, -1)) / jnp.sum(counts * weights[own])


def assert_close(got, want, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("classes", CLASSES)
def test_loss_and_gradients_of_the_library(classes, options, reduction):
    x, w, b, y = problem(classes)
    options = {"reduction": reduction, **options_of(options, classes)}
    upstream = np.linspace(-1, 2, ROWS) if reduction == "none" else 1.5

    @jax.jit
    def results(x, w, b, y):
        loss, pull = jax.vjp(lambda x, w, b: fj.linear_cross_entropy(x, w, b, y, **options), x, w, b)
        return loss, pull(jnp.asarray(upstream))

    y = np.where(y < 0, options.get("ignore_index", -100), y)
    want = fs.linear_cross_entropy_with_grad(x, w, b, y, dloss=upstream, **options)
    assert_close(results(x, w, b, y), want)
    assert_close(fj.linear_cross_entropy(x, w, b, y, **options), want[0])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("classes", CLASSES)
def test_dtypes(classes, dtype):
    """A mean of half types is a float32, and gradients are rounded once."""
    x, w, b, y = problem(classes, dtype)
    loss, grads = jax.value_and_grad(fj.linear_cross_entropy, (0, 1, 2))(x, w, b, y)
    want, exact = fs.linear_cross_entropy_with_grad(x, w, b, y)
    assert loss.dtype == want.dtype == np.float32
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(loss, want, rtol=1e-6)
    for got, wanted in zip(grads, exact, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got.astype("float32"), wanted.astype("float32"), rtol=4 * eps, atol=eps)
    assert fj.linear_cross_entropy(x, w, b, y, reduction="none").dtype == dtype


@pytest.mark.parametrize("classes", CLASSES)
def test_derivatives_of_weights_and_twice(classes):
    """By all floats, forwards, and once more: the gradients of a gradient are by JAX's operations."""
    x, w, b, y = problem(classes)
    options = options_of("weights", classes)
    weights = options["class_weight"], options["sample_weight"]

    def ours(x, w, b, class_weight, sample_weight):
        given = {"class_weight": class_weight, "sample_weight": sample_weight, "label_smoothing": 0.2}
        return fj.linear_cross_entropy(x, w, b, y, **given, workspace=options["workspace"])

    def theirs(x, w, b, class_weight, sample_weight):
        return by_jax(x, w, b, y, class_weight, sample_weight, 0.2)

    def results(loss):
        point = x, w, b, *weights
        steps = tuple(np.cos(each) for each in point)
        gradient = jax.grad(lambda x, b: loss(x, w, b, *weights), (0, 1))
        return (
            jax.value_and_grad(loss, range(5))(*point),
            jax.jvp(loss, point, steps),
            jax.jacfwd(gradient, (0, 1))(x, b),
            jax.grad(lambda x: jnp.sum(jnp.sin(gradient(x, b)[1])))(x),
        )

    got, want = jax.jit(lambda: (results(ours), results(theirs)))()
    assert_close(got, want)


@pytest.mark.parametrize("classes", CLASSES)
def test_under_other_transforms(classes):
    """Where only rows are batched there are more of them; else each has its own gradients."""
    x, w, b, y = problem(classes)
    many, weights = np.stack([x, x + 1, x - 1]), np.stack([w, -w, w / 2])

    def results(loss):
        def scanned(w):
            return jax.lax.scan(lambda sum_, x: (sum_ + jax.checkpoint(loss)(x, w, b, y), None), 0.0, many)[0]

        return (
            jax.vmap(lambda x: loss(x, w, b, y))(many),
            jax.vmap(jax.grad(lambda x, w: loss(x, w, b, y), (0, 1)), (0, None))(many, w),
            jax.vmap(jax.grad(lambda x, w: loss(x, w, b, y), (0, 1)))(many, weights),
            jax.grad(lambda w: jnp.sum(jax.vmap(lambda x: loss(x, w, b, y))(many) ** 2))(w),
            jax.value_and_grad(scanned)(w),
        )

    got, want = jax.jit(lambda: (results(fj.linear_cross_entropy), results(by_jax)))()
    assert_close(got, want)


def test_more_axes_of_rows():
    x, w, b, y = problem(70)
    want = fj.linear_cross_entropy(x, w, b, y, reduction="none")
    got = fj.linear_cross_entropy(x.reshape(3, 4, FEATURES), w, b, y.reshape(3, 4), reduction="none")
    np.testing.assert_array_equal(got, want.reshape(3, 4))


@pytest.mark.parametrize("classes", CLASSES)
def test_without_bias_or_gradients_of_all(classes):
    x, w, _, y = problem(classes)
    want, exact = fs.linear_cross_entropy_with_grad(x, w, None, y)
    for argument in (0, 1):
        loss, gradient = jax.value_and_grad(lambda x, w: fj.linear_cross_entropy(x, w, None, y), argument)(x, w)
        assert_close((loss, gradient), (want, exact[argument]))


@pytest.mark.parametrize("classes", CLASSES)
def test_mean_of_nothing(classes):
    """NaN, without a gradient."""
    x, w, b, y = problem(classes)
    loss, grads = jax.value_and_grad(fj.linear_cross_entropy, (0, 1, 2))(x, w, b, np.full_like(y, -100))
    assert np.isnan(loss)
    assert not any(np.any(grad) for grad in grads)
    assert np.isnan(fj.linear_cross_entropy(x[:0], w, b, y[:0]))


def test_logits_are_never_stored():
    """A quarter of the memory at most; where gradients follow, and for losses of rows, too."""
    n, d, c = 1024, 32, 8000
    x, w, y = jnp.ones((n, d), jnp.float32), jnp.ones((d, c), jnp.float32), jnp.zeros(n, jnp.int32)

    def ours(reduction):
        return lambda w: fj.linear_cross_entropy(x, w, None, y, reduction=reduction, workspace=2**21).sum()

    def theirs(w):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()

    def memory(loss):
        return jax.jit(jax.value_and_grad(loss)).lower(w).compile().memory_analysis().temp_size_in_bytes

    assert 4 * memory(ours("mean")) < memory(theirs)
    assert 4 * memory(ours("none")) < memory(theirs)


@pytest.mark.parametrize("classes", CLASSES)
def test_label_that_is_no_class(classes):
    x, w, b, y = problem(classes)
    y[5] = classes
    for function in (fj.linear_cross_entropy, jax.jit(jax.grad(fj.linear_cross_entropy))):
        with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=f"got {classes} in row 5"):
            jax.block_until_ready(function(x, w, b, y))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"inputs": np.ones((3, 4), int)}, TypeError, "inputs: expected floats, got int64"),
        ({"inputs": np.float64(1)}, ValueError, "inputs: expected at least one axis"),
        ({"weight": np.ones((4, 5), np.float32)}, TypeError, "weight: expected float64 like inputs, got float32"),
        ({"weight": np.ones((3, 5))}, ValueError, r"weight: expected shape \(4, at least 1\), got shape \(3, 5\)"),
        ({"weight": np.ones((4, 0))}, ValueError, r"weight: expected shape \(4, at least 1\), got shape \(4, 0\)"),
        ({"bias": np.ones(4)}, ValueError, r"bias: expected shape \(5,\), got \(4,\)"),
        ({"labels": np.ones(3)}, TypeError, "labels: expected integers, got float64"),
        ({"labels": np.ones(4, int)}, ValueError, r"labels: expected shape \(3,\), got \(4,\)"),
        ({"class_weight": np.ones(4)}, ValueError, r"class_weight: expected shape \(5,\), got \(4,\)"),
        ({"sample_weight": np.ones(4)}, ValueError, r"sample_weight: expected shape \(3,\), got \(4,\)"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index: expected an integer, got float"),
        ({"label_smoothing": 2.0}, ValueError, "label_smoothing: expected a number from 0 to 1, got 2.0"),
        ({"z_loss": "x"}, TypeError, "z_loss: expected a number from 0 up, got str"),
        ({"softcap": 0.0}, ValueError, "softcap: expected a number above 0"),
        ({"scale": -1.0}, ValueError, "scale: expected a number above 0"),
        ({"reduction": "max"}, ValueError, "reduction: expected one of mean, sum, none, got 'max'"),
        ({"workspace": 0}, ValueError, "workspace: expected a positive number of bytes, got 0"),
    ],
)
def test_what_does_not_fit(changes, error, message):
    given = {"inputs": np.ones((3, 4)), "weight": np.ones((4, 5)), "bias": None, "labels": np.zeros(3, int)}
    with pytest.raises(error, match=message):
        fj.linear_cross_entropy(**given | changes)
