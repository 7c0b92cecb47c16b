"""Every public function inside a user's `@njit` code: what it gives from Python, bit for bit, and what it refuses."""

import numpy as np
import pytest
from numba import njit, types
from numba.core.errors import TypingError

import fastsoftmax as fs

rng = np.random.default_rng(19)
N, C, D = 9, 13, 5
LABELS = rng.integers(0, C, N)
LABELS[3] = -100


def logits_of(dtype, shape=(N, C)):
    z = rng.normal(size=shape, scale=5).astype(dtype)
    z[0, 0] = 90
    return z


def assert_same(found, wanted):
    """Require the same bits of results, and tuples of them; single numbers lose their dtype on the way to Python."""
    if isinstance(wanted, tuple):
        assert type(found) is type(wanted)
        assert len(found) == len(wanted)
        for each, own in zip(found, wanted, strict=True):
            assert_same(each, own)
    elif wanted is None:
        assert found is None
    else:
        if np.ndim(wanted):
            assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted, strict=np.ndim(wanted) > 0)


def check(function, *args):
    """Compare a function with itself under `@njit`."""
    assert_same(njit(function)(*args), function(*args))


# Plain calls: those that the quick tests keep -------------------------------------------------------------------------


def test_losses():
    z = logits_of(np.float32)
    check(lambda z, y: (fs.cross_entropy(z, y), fs.cross_entropy_with_grad(z, y, reduction="none")), z, LABELS)


def test_softmax_of_any_axis():
    z = logits_of(np.float32)
    function = njit(lambda z, axis: fs.softmax(z, axis=axis))
    for axis in (0, 1, -1, -2):
        assert_same(function(z, axis), fs.softmax(z, axis=axis))
    with pytest.raises(ValueError, match="axis: expected one of the 2 axes of logits, got 2"):
        function(z, 2)


def test_a_bad_label_is_named():
    function = njit(lambda z, y, out: fs.cross_entropy_with_grad(z, y, out=out))
    z, y = logits_of(np.float32), LABELS.copy()
    y[4], out = C, np.zeros((N, C), np.float32)
    with pytest.raises(ValueError, match="labels: expected classes 0 to 12 or ignore_index -100, got 13 in row 4"):
        function(z, y, out)
    assert np.isnan(out).all()


# All functions --------------------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
@pytest.mark.parametrize("axis", [0, (0, 1), ()])
@pytest.mark.parametrize("name", ["softmax", "logsumexp"])
def test_constant_axes(name, axis):
    function, z = getattr(fs, name), logits_of(np.float64)
    check(lambda z: function(z, axis=axis), z)


@pytest.mark.exhaustive
@pytest.mark.parametrize("layout", ["F", "strided", "line", "read-only"])
def test_layouts(layout):
    z = logits_of(np.float32)
    given = {"F": np.asfortranarray(z), "strided": np.repeat(z, 2, axis=1)[:, ::2], "line": z[2]}.get(layout, z)
    if layout == "read-only":
        given.flags.writeable = False
    y = LABELS if given.ndim == 2 else int(LABELS[2])
    check(lambda z, y: (fs.cross_entropy_with_grad(z, y), fs.log_softmax(z, axis=0)), given, y)


@pytest.mark.exhaustive
@pytest.mark.parametrize("dtype", [np.int16, np.uint64])
def test_labels_of_any_integer_dtype(dtype):
    y = np.abs(LABELS).clip(0, C - 1).astype(dtype)
    check(lambda z, y: fs.cross_entropy(z, y), logits_of(np.float32), y)
    if dtype == np.uint64:
        y[1] = 2**64 - 100  # the default index to ignore, to one that only looks at the bits
        with pytest.raises(ValueError, match="labels: expected classes"):
            njit(lambda z, y: fs.cross_entropy(z, y))(logits_of(np.float32), y)


@pytest.mark.exhaustive
def test_gradients_of_activations():
    a, g = fs.softmax(logits_of(np.float32)), logits_of(np.float32)
    check(lambda a, g: (fs.softmax_backward(a, g), fs.log_softmax_backward(g, a, axis=0)), a, g)
    check(lambda a: (fs.softmax_jacobian(a), fs.softmax_jacobian(a[0])), a)


MASK = rng.random((N, C)) < 0.8
MASK[np.arange(N), LABELS.clip(0)] = True
VALUES = {
    "class_weight": rng.random(C).astype(np.float32),
    "sample_weight": rng.random(N),
    "label_smoothing": 0.1,
    "z_loss": 0.01,
    "softcap": 20.0,
    "scale": 0.7,
    "where": MASK,
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "names", [("class_weight", "softcap"), ("sample_weight", "scale"), ("label_smoothing", "where"), ("z_loss",)]
)
def test_some_options(names):
    """An option keeps its place where those before it are left out."""
    given = "".join(f", {name}={name}" for name in names)
    code = f"lambda z, y, {', '.join(names)}: fs.cross_entropy_with_grad(z, y{given})"
    check(eval(code, {"fs": fs}), logits_of(np.float32), LABELS, *(VALUES[name] for name in names))


@pytest.mark.exhaustive
def test_class_probabilities():
    y = rng.dirichlet(np.ones(C), N)
    check(lambda z, y: fs.cross_entropy_with_grad(z, y, reduction="none"), logits_of(np.float32), y)


def all_options(z, y, w, s, smoothing, zeta, softcap, scale, where, dloss, out):
    return fs.cross_entropy_with_grad(
        z,
        y,
        class_weight=w,
        sample_weight=s,
        label_smoothing=smoothing,
        z_loss=zeta,
        softcap=softcap,
        scale=scale,
        where=where,
        reduction="sum",
        return_stats=True,
        dloss=dloss,
        out=out,
    )


@pytest.mark.exhaustive
def test_all_options_at_once():
    z, out, of_rows = logits_of(np.float32), np.empty((N, C), np.float32), list(VALUES.values())
    found = njit(all_options)(z, LABELS, *of_rows, 2.0, out)
    assert_same(found, all_options(z, LABELS, *of_rows, 2.0, None))
    np.testing.assert_array_equal(out, found[1])


@pytest.mark.exhaustive
def test_bad_options_are_named():
    function, z, out = njit(all_options), logits_of(np.float32), np.empty((N, C), np.float32)
    bad = {"class_weight": np.full(C, -1, np.float32), "sample_weight": np.ones(N + 1), "label_smoothing": 1.5}
    bad |= {"z_loss": -1.0, "softcap": 0.0, "scale": np.inf, "where": np.ones((N, C + 1), np.bool_)}
    for name, value in bad.items():
        with pytest.raises(ValueError, match=f"^{name}: expected .*, got "):
            function(z, LABELS, *(VALUES | {name: value}).values(), 2.0, out)
    with pytest.raises(ValueError, match=r"out: expected shape \(9, 13\)"):
        function(z, LABELS, *VALUES.values(), 2.0, out[:2])


@pytest.mark.exhaustive
@pytest.mark.parametrize("has_probs", [False, True])
def test_hvp(has_probs):
    z, v = logits_of(np.float64), logits_of(np.float64)
    y = rng.dirichlet(np.ones(C), N) if has_probs else LABELS
    w, s, where = (VALUES[name] for name in ("class_weight", "sample_weight", "where"))

    def product(z, y, v, w, s, where):
        return fs.cross_entropy_hvp(
            z, y, v, class_weight=w, sample_weight=s, label_smoothing=0.1, z_loss=0.01, softcap=9.0, where=where
        )

    args = z, y, v, w.astype(np.float64), s, where
    np.testing.assert_allclose(njit(product)(*args), product(*args), rtol=1e-13, atol=1e-16)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("n_classes", "transposed"), [(C, True), (130, False)])
def test_layer_and_head(n_classes, transposed):
    x, b = logits_of(np.float32, (60, D)), rng.normal(size=n_classes).astype(np.float32)
    w = rng.normal(size=(D, n_classes)).astype(np.float32)
    w = np.asfortranarray(w) if transposed else w
    y, dz = rng.integers(0, n_classes, 60), logits_of(np.float32, (60, n_classes))
    check(lambda x, w, b, dz: (fs.linear(x, w, b), fs.linear(x, w), fs.linear_backward(x, w, dz)), x, w, b, dz)
    check(lambda x, w, dz: (fs.weight_grad(x, dz), fs.bias_grad(dz), fs.input_grad(dz, w)), x, w, dz)
    check(lambda x, w, b, y: fs.linear_cross_entropy(x, w, b, y, reduction="none", workspace=5000), x, w, b, y)

    def step(x, w, b, y):
        return fs.linear_cross_entropy_with_grad(x, w, b, y, label_smoothing=0.1, return_stats=True, workspace=9000)

    check(step, x, w, b, y)
    _, grads, _ = njit(step)(x, w, b, y)
    assert grads.dweight.strides == w.strides


@pytest.mark.exhaustive
def test_head_writes_to_out():
    x, w, b = logits_of(np.float32, (20, D)), logits_of(np.float32, (D, C)), np.zeros(C, np.float32)
    y, out = rng.integers(0, C, 20), fs.LinearGrads(np.empty_like(x), np.empty_like(w), np.empty_like(b))
    njit(lambda x, w, b, y, out: fs.linear_cross_entropy_with_grad(x, w, b, y, out=out))(x, w, b, y, out)
    _, wanted = fs.linear_cross_entropy_with_grad(x, w, b, y)
    assert_same(out, wanted)


@pytest.mark.exhaustive
def test_every_regime():
    """The regime is chosen at run time, by the rule of `kernels.regimes`."""
    function = njit(lambda z, y, out: fs.cross_entropy_with_grad(z, y, out=out))
    for n_rows, n_classes in ((5000, 10), (300, 200), (8200, 1000), (2, 2**21 + 5)):
        z, y = logits_of(np.float32, (n_rows, n_classes)), rng.integers(0, n_classes, n_rows)
        wanted = fs.cross_entropy_with_grad(z, y)
        assert_same(function(z, y, np.empty_like(z)), wanted)
        assert_same(function(z.copy(), y, None), wanted)


# What follows from types ----------------------------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_in_place_and_over_an_input():
    function = njit(lambda z, y, out: fs.cross_entropy_with_grad(z, y, out=out)[1])
    z = logits_of(np.float32)
    wanted = fs.cross_entropy_with_grad(z, LABELS)[1]
    room = np.zeros(2 * z.size, np.float32)
    shifted, given = room[C : C + z.size].reshape(z.shape), room[: z.size].reshape(z.shape)
    given[...] = z
    assert_same(function(given, LABELS, shifted), wanted)  # as if they did not overlap
    assert_same(function(z, LABELS, z), wanted)
    columns = np.zeros((C, N), np.float32).T
    assert_same(function(logits_of(np.float32) * 0, LABELS, columns), fs.cross_entropy_with_grad(z * 0, LABELS)[1])


@pytest.mark.parametrize(
    ("types_of", "message"),
    [
        ((types.Array(types.float16, 2, "C"), types.int64[:]), "logits: expected float32 or float64"),
        ((types.Array(types.float32, 3, "C"), types.int64[:]), "logits: expected 1 or 2 dimensions"),
        ((types.Array(types.float32, 2, "C"), types.int64), "labels: expected an array of integers"),
    ],
)
def test_types_are_refused(types_of, message):
    with pytest.raises(TypingError, match=message):
        njit(lambda z, y: fs.cross_entropy(z, y)).compile(types_of)


@pytest.mark.parametrize(("name", "value"), [("reduction", "total"), ("where", 3), ("class_weight", "w"), ("out", 1.0)])
def test_types_of_options_are_refused(name, value):
    code = f"lambda z, y: fs.cross_entropy_with_grad(z, y, {name}={value!r})"
    with pytest.raises(TypingError, match=f"{name}: expected"):
        njit(eval(code, {"fs": fs})).compile((types.float32[:, ::1], types.int64[::1]))


@pytest.mark.exhaustive
def test_scipy_functions(run_python):
    code = """
import numpy as np, scipy.special, fastsoftmax.njit
from numba import njit
fastsoftmax.njit.overload_scipy()
z = np.random.default_rng(0).normal(size=(4, 6))
function = njit(lambda z: (scipy.special.softmax(z, axis=1), scipy.special.log_softmax(z), scipy.special.softmax(z)))
for found, wanted in zip(function(z), function.py_func(z), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-14)
function = njit(lambda z: (scipy.special.logsumexp(z, axis=1, keepdims=True), scipy.special.logsumexp(z)))
for found, wanted in zip(function(z), function.py_func(z), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-14)
"""
    pytest.importorskip("scipy")
    run_python("-c", code)
