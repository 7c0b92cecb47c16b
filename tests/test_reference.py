"""The reference against the truth: 400 digits, finite differences, closed forms, SciPy's conventions."""

import mpmath
import numpy as np
import pytest

from fastsoftmax import reference as ref

DTYPES = [np.float32, np.float64]
REDUCTIONS = ["mean", "sum", "none"]
INF, NAN = np.inf, np.nan


def make(shape=(6, 5), *, spread=3.0, seed=0, dtype=np.float64):
    return (spread * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def make_labels(shape, classes, seed=1):
    return np.random.default_rng(seed).integers(classes, size=shape)


def differences(f, x, h=1e-5):
    """The gradient of the scalar f at x by central differences, one element at a time."""
    grad = np.empty_like(x)
    for i in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[i] += h
        down[i] -= h
        grad[i] = (f(up) - f(down)) / (2 * h)
    return grad


# ---- 400 digits --------------------------------------------------------------------------------------------


def exact(z, labels):
    """probs, log_probs, lse, losses and per-row gradients of z (N, C), straight from their definitions."""
    # The definitions cancel: 1 − a_y is as small as exp(−800) here, so 50 digits would call it 0.
    with mpmath.workdps(400):
        rows = [[mpmath.mpf(float(v)) for v in row] for row in z]
        totals = [mpmath.fsum(mpmath.exp(v) for v in row) for row in rows]
        probs = [[mpmath.exp(v) / t for v in row] for row, t in zip(rows, totals, strict=True)]
        lse = [mpmath.log(t) for t in totals]
        log_probs = [[v - s for v in row] for row, s in zip(rows, lse, strict=True)]
        losses = [-row[y] for row, y in zip(log_probs, labels, strict=True)]
        grads = [[p - (k == y) for k, p in enumerate(row)] for row, y in zip(probs, labels, strict=True)]
        return tuple(np.array(part, dtype=np.float64) for part in (probs, log_probs, lse, losses, grads))


def cases():
    """Logits of every spread; labels anywhere, then ahead of all others by so much that 1 − a_y cancels."""
    for dtype in DTYPES:
        for spread in (0.1, 3, 20, 80):
            z = make((7, 6), spread=spread, seed=int(spread), dtype=dtype)
            z[0, 2] += 5 * dtype(spread)  # an outlier
            labels = make_labels(7, 6)
            yield pytest.param(z, labels, id=f"{dtype.__name__}-spread{spread}")
            if spread > 3:
                continue
            for lead in (20, 60):
                ahead = z.copy()
                ahead[np.arange(7), labels] = z.max(axis=1) + lead
                yield pytest.param(ahead, labels, id=f"{dtype.__name__}-spread{spread}-lead{lead}")


def tolerance(z):
    """Rounding z − m costs exp up to |z − m| / 2 ulp; below the smallest normal number all may be zero."""
    info = np.finfo(z.dtype)
    return {"rtol": float(info.eps) * (6 + np.ptp(z, axis=1).max() / 2), "atol": float(info.tiny)}


@pytest.mark.parametrize(("z", "labels"), list(cases()))
def test_cross_entropy_to_the_last_digits(z, labels):
    *_, losses, grads = exact(z, labels)
    loss, dlogits = ref.cross_entropy_with_grad(z, labels, reduction="none")
    np.testing.assert_allclose(loss, losses, **tolerance(z))
    np.testing.assert_allclose(dlogits, grads, **tolerance(z))
    np.testing.assert_allclose(ref.cross_entropy(z, labels), losses.mean(), **tolerance(z))
    mean, dmean = ref.cross_entropy_with_grad(z, labels)
    np.testing.assert_allclose(mean, losses.mean(), **tolerance(z))
    np.testing.assert_allclose(dmean, grads / len(z), **tolerance(z))


@pytest.mark.parametrize(("z", "labels"), list(cases()))
def test_softmax_family_to_the_last_digits(z, labels):
    probs, log_probs, lse, *_ = exact(z, labels)
    np.testing.assert_allclose(ref.softmax(z), probs, **tolerance(z))
    # log Σ is added to a number of the order of the logits: the error is a few eps of the largest of them.
    atol = 4 * np.finfo(z.dtype).eps * max(1, np.abs(z).max())
    np.testing.assert_allclose(ref.log_softmax(z), log_probs, rtol=0, atol=atol)
    np.testing.assert_allclose(ref.logsumexp(z), lse, rtol=0, atol=atol)


def test_equal_maxima_share():
    loss, dlogits = ref.cross_entropy_with_grad(np.array([2.0, 2.0, 2.0, 2.0]), 1)
    assert loss == pytest.approx(np.log(4), rel=1e-15)
    np.testing.assert_array_equal(dlogits, [0.25, -0.75, 0.25, 0.25])


# ---- finite differences ------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("ignored", [[], [1, 4]])
@pytest.mark.parametrize("with_dloss", [False, True])
def test_cross_entropy_gradient(reduction, ignored, with_dloss):
    z, labels = make(), make_labels(6, 5)
    labels[ignored] = -100
    dloss = (make(6, seed=3) if reduction == "none" else 0.7) if with_dloss else None
    weight = 1.0 if dloss is None else dloss

    loss, dlogits = ref.cross_entropy_with_grad(z, labels, reduction=reduction, dloss=dloss)
    np.testing.assert_array_equal(loss, ref.cross_entropy(z, labels, reduction=reduction))
    expected = differences(lambda v: np.sum(weight * ref.cross_entropy(v, labels, reduction=reduction)), z)
    np.testing.assert_allclose(dlogits, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("forward", "backward"),
    [(ref.softmax, ref.softmax_backward), (ref.log_softmax, ref.log_softmax_backward)],
)
@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_softmax_gradients(forward, backward, axis):
    z, g = make((3, 4, 2), spread=1), make((3, 4, 2), seed=2)
    expected = differences(lambda v: np.sum(g * forward(v, axis=axis)), z)
    np.testing.assert_allclose(backward(forward(z, axis=axis), g, axis=axis), expected, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_jacobian(axis):
    z, g = make((3, 4, 2), spread=1), make((3, 4, 2), seed=2)
    a, last = ref.softmax(z, axis=axis), np.moveaxis(ref.softmax(z, axis=axis), axis, -1)
    jacobian = ref.softmax_jacobian(a, axis=axis)
    product_form = np.stack([np.diag(row) - np.outer(row, row) for row in last.reshape(-1, last.shape[-1])])
    np.testing.assert_allclose(jacobian.reshape(product_form.shape), product_form, rtol=1e-14, atol=1e-16)
    assert jacobian.shape == (*last.shape, last.shape[-1])

    product = np.einsum("...jk,...k->...j", jacobian, np.moveaxis(g, axis, -1))
    backward = np.moveaxis(ref.softmax_backward(a, g, axis=axis), axis, -1)
    np.testing.assert_allclose(backward, product, rtol=1e-12, atol=1e-14)

    column = ref.softmax(z + 1e-6 * np.eye(4)[:, :1], axis=1) - ref.softmax(z - 1e-6 * np.eye(4)[:, :1], axis=1)
    by_class = ref.softmax_jacobian(ref.softmax(z, axis=1), axis=1)
    np.testing.assert_allclose(by_class[..., 0], np.moveaxis(column, 1, -1) / 2e-6, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_linear_head_gradients(bias, reduction):
    X, W, b, y = (
        make((6, 4), spread=1),
        make((4, 3), seed=1),
        make(3, seed=2) if bias else None,
        make_labels(6, 3),
    )
    y[2] = 7

    def total(X=X, W=W, b=b):
        return np.sum(ref.linear_cross_entropy(X, W, b, y, ignore_index=7, reduction=reduction))

    loss, grads = ref.linear_cross_entropy_with_grad(X, W, b, y, ignore_index=7, reduction=reduction)
    assert np.sum(loss) == total()
    assert np.shape(loss) == (y.shape if reduction == "none" else ())
    np.testing.assert_allclose(grads.dinputs, differences(lambda v: total(X=v), X), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(grads.dweight, differences(lambda v: total(W=v), W), rtol=1e-6, atol=1e-9)
    if bias:
        np.testing.assert_allclose(grads.dbias, differences(lambda v: total(b=v), b), rtol=1e-6, atol=1e-9)
    else:
        assert grads.dbias is None


def test_two_layer_network():
    X, y = make((5, 3), spread=1), make_labels(5, 4)
    params = {
        "W1": make((3, 6), spread=1, seed=1),
        "b1": make(6, spread=1, seed=2),
        "W2": make((6, 4), spread=1, seed=3),
        "b2": make(4, spread=1, seed=4),
    }

    def forward(X, W1, b1, W2, b2):
        a1 = np.tanh(ref.linear(X, W1, b1))
        return a1, ref.linear(a1, W2, b2)

    a1, z2 = forward(X, **params)
    _, dz2 = ref.cross_entropy_with_grad(z2, y)
    da1, dW2, db2 = ref.linear_backward(a1, params["W2"], dz2)
    dX, dW1, db1 = ref.linear_backward(X, params["W1"], da1 * (1 - a1**2))
    grads = {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}

    for name, grad in grads.items():
        expected = differences(
            lambda v, name=name: ref.cross_entropy(forward(X, **{**params, name: v})[1], y), params[name]
        )
        np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-10, err_msg=name)
    expected = differences(lambda v: ref.cross_entropy(forward(v, **params)[1], y), X)
    np.testing.assert_allclose(dX, expected, rtol=1e-6, atol=1e-10)


def test_linear_products_element_by_element():
    X, W, b, G = make((3, 2)), make((2, 4), seed=1), make(4, seed=2), make((3, 4), seed=3)
    z = [[sum(X[i, d] * W[d, c] for d in range(2)) + b[c] for c in range(4)] for i in range(3)]
    dW = [[sum(X[i, d] * G[i, c] for i in range(3)) for c in range(4)] for d in range(2)]
    dX = [[sum(G[i, c] * W[d, c] for c in range(4)) for d in range(2)] for i in range(3)]
    np.testing.assert_allclose(ref.linear(X, W, b), z, rtol=1e-13)
    np.testing.assert_allclose(ref.linear(X, W), np.array(z) - b, rtol=1e-12, atol=1e-13)
    grads = ref.linear_backward(X, W, G)
    for got, want in zip(grads, (dX, dW, G[0] + G[1] + G[2]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)


# ---- reductions, ignored rows, upstream gradients ----------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_reductions(dtype):
    z, labels = make(dtype=dtype), make_labels(6, 5)
    labels[[0, 3]] = -100
    rows = ref.cross_entropy(z, labels, reduction="none")
    assert rows.shape == (6,)
    assert rows[0] == rows[3] == 0
    assert np.all(rows[[1, 2, 4, 5]] > 0)
    eps = 4 * float(np.finfo(dtype).eps)
    assert ref.cross_entropy(z, labels, reduction="sum") == pytest.approx(rows.sum(), rel=eps)
    assert ref.cross_entropy(z, labels) == ref.cross_entropy(z, labels, reduction="mean")
    assert ref.cross_entropy(z, labels) == pytest.approx(rows.sum() / 4, rel=eps)


def test_ignored_rows_count_for_nothing():
    z, labels = make(), make_labels(6, 5)
    keep = np.array([0, 2, 3])
    some = np.full(6, 9)
    some[keep] = labels[keep]
    loss, dlogits = ref.cross_entropy_with_grad(z, some, ignore_index=9)
    kept_loss, kept_dlogits = ref.cross_entropy_with_grad(z[keep], labels[keep])
    assert loss == pytest.approx(kept_loss, rel=1e-15)
    np.testing.assert_array_equal(dlogits[keep], kept_dlogits)
    assert not dlogits[[1, 4, 5]].any()


def test_ignored_class_is_still_a_class():
    z = make((4, 3))
    loss, dlogits = ref.cross_entropy_with_grad(z, np.array([0, 1, 2, 0]), ignore_index=0, reduction="none")
    np.testing.assert_array_equal(loss != 0, [False, True, True, False])
    np.testing.assert_array_equal(dlogits.any(axis=1), [False, True, True, False])


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_ignored_row_hides_its_logits(bad):
    z = make((3, 4))
    z[1] = bad
    loss, dlogits = ref.cross_entropy_with_grad(z, np.array([0, -100, 2]))
    assert np.isfinite(loss)
    assert np.isfinite(dlogits).all()
    np.testing.assert_array_equal(dlogits[1], 0)


@pytest.mark.parametrize(("reduction", "expected"), [("mean", NAN), ("sum", 0), ("none", np.zeros(3))])
def test_all_ignored(reduction, expected):
    loss, dlogits = ref.cross_entropy_with_grad(make((3, 4)), np.full(3, -100), reduction=reduction)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(dlogits, np.zeros((3, 4)))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
def test_integer_label_types(dtype):
    z, labels = make(), make_labels(6, 5)
    assert ref.cross_entropy(z, labels.astype(dtype)) == ref.cross_entropy(z, labels)


def test_dloss_scales_rows():
    z, labels, g = make(), make_labels(6, 5), make(6, seed=5)
    _, plain = ref.cross_entropy_with_grad(z, labels, reduction="none")
    _, scaled = ref.cross_entropy_with_grad(z, labels, reduction="none", dloss=g)
    np.testing.assert_allclose(scaled, g[:, None] * plain, rtol=1e-14)


# ---- axes, dtypes, out -------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -2])
def test_class_axis(axis):
    z = make((3, 4, 5))
    g = make(z.shape, seed=2)
    last, g_last = np.moveaxis(z, axis, -1), np.moveaxis(g, axis, -1)
    labels = make_labels(last.shape[:-1], last.shape[-1])
    a, a_last = ref.softmax(z, axis=axis), ref.softmax(last)
    close = {"rtol": 1e-13, "atol": 1e-15}
    np.testing.assert_allclose(np.moveaxis(a, axis, -1), a_last, **close)
    np.testing.assert_allclose(np.moveaxis(ref.log_softmax(z, axis=axis), axis, -1), ref.log_softmax(last), **close)
    np.testing.assert_allclose(ref.logsumexp(z, axis=axis), ref.logsumexp(last), **close)
    assert ref.logsumexp(z, axis=axis, keepdims=True).shape == z.max(axis=axis, keepdims=True).shape
    np.testing.assert_allclose(
        np.moveaxis(ref.log_softmax_backward(a, g, axis=axis), axis, -1),
        ref.log_softmax_backward(a_last, g_last),
        **close,
    )
    loss, dlogits = ref.cross_entropy_with_grad(z, labels, axis=axis, reduction="none")
    loss_last, dlogits_last = ref.cross_entropy_with_grad(last.copy(), labels, reduction="none")
    assert loss.shape == labels.shape
    assert dlogits.shape == z.shape
    np.testing.assert_allclose(loss, loss_last, **close)
    np.testing.assert_allclose(np.moveaxis(dlogits, axis, -1), dlogits_last, **close)
    np.testing.assert_array_equal(ref.cross_entropy(z, labels, axis=axis, reduction="none"), loss)


def test_batch_axes_of_length_one():
    z = make((3, 1, 4))
    np.testing.assert_array_equal(ref.logsumexp(z), ref.logsumexp(z[:, 0])[:, None])
    np.testing.assert_array_equal(
        ref.cross_entropy(z, np.ones((3, 1), int), reduction="none"),
        ref.cross_entropy(z[:, 0], np.ones(3, int), reduction="none")[:, None],
    )


@pytest.mark.parametrize("label", [2, np.int64(2), np.array(2)])
def test_one_row(label):
    z = make(4)
    loss, dlogits = ref.cross_entropy_with_grad(z, label)
    rows, drows = ref.cross_entropy_with_grad(z[None], np.array([2]))
    assert loss == rows
    np.testing.assert_array_equal(dlogits, drows[0])
    assert ref.cross_entropy(z, label, reduction="none").shape == ()
    loss, dlogits = ref.cross_entropy_with_grad(z, label, ignore_index=2, reduction="sum")
    assert loss == 0
    assert not dlogits.any()
    assert isinstance(ref.logsumexp(z), np.float64)


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_is_kept(dtype):
    z, X, W = make(dtype=dtype), make((6, 3), dtype=dtype), make((3, 5), dtype=dtype)
    labels, b = make_labels(6, 5), make(5, dtype=dtype)
    labels[0] = -100
    a = ref.softmax(z)
    results = [
        a,
        ref.log_softmax(z),
        ref.logsumexp(z),
        ref.softmax_backward(a, z),
        ref.log_softmax_backward(a, z),
        ref.softmax_jacobian(a),
        ref.linear(X, W, b),
        *ref.linear_backward(X, W, z),
        ref.linear_cross_entropy(X, W, b, labels),
        *ref.linear_cross_entropy_with_grad(X, W, b, labels)[1],
    ]
    for reduction in REDUCTIONS:
        dloss = np.ones(6) if reduction == "none" else 2.0  # float64 must not leak in
        results += ref.cross_entropy_with_grad(z, labels, reduction=reduction, dloss=dloss)
        results.append(ref.cross_entropy(z, labels, reduction=reduction))
        if reduction != "none":
            assert type(results[-1]) is type(results[-3]) is dtype
    assert {result.dtype for result in results} == {np.dtype(dtype)}


OUT_CALLS = {
    "softmax": lambda z, g, **out: ref.softmax(z, **out),
    "log_softmax": lambda z, g, **out: ref.log_softmax(z, **out),
    "softmax_backward": lambda z, g, **out: ref.softmax_backward(z, g, **out),
    "log_softmax_backward": lambda z, g, **out: ref.log_softmax_backward(z, g, **out),
    "cross_entropy": lambda z, g, **out: ref.cross_entropy_with_grad(z, np.arange(5), **out)[1],
    "cross_entropy_axis0": lambda z, g, **out: ref.cross_entropy_with_grad(z, np.arange(5), axis=0, **out)[1],
    "linear": lambda z, g, **out: ref.linear(z, g, np.arange(5.0), **out),
    "weight_grad": lambda z, g, **out: ref.weight_grad(z, g, **out),
    "input_grad": lambda z, g, **out: ref.input_grad(z, g, **out),
}


@pytest.mark.parametrize("call", OUT_CALLS.values(), ids=OUT_CALLS)
def test_out_and_in_place(call):
    z, g = make((5, 5)), make((5, 5), seed=2)
    kept = z.copy(), g.copy()
    for array in (z, g):
        array.flags.writeable = False  # without out nothing passed in is written to
    expected = call(z, g)
    out = np.full_like(expected, NAN)
    assert call(z, g, out=out) is out
    np.testing.assert_array_equal(out, expected)

    wide = np.full((5, 10), NAN)
    strided = wide[:, ::2]
    assert call(z, g, out=strided) is strided
    np.testing.assert_allclose(strided, expected, rtol=1e-13, atol=1e-15)
    assert np.isnan(wide[:, 1::2]).all()

    for first in (True, False):
        pair = kept[0].copy(), kept[1].copy()
        out = pair[0 if first else 1]
        assert call(*pair, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=1e-13, atol=1e-15)


def test_out_of_reductions():
    z = make()
    for out, keepdims in ((np.empty(6), False), (np.empty((6, 1)), True)):
        assert ref.logsumexp(z, out=out, keepdims=keepdims) is out
        np.testing.assert_array_equal(out, ref.logsumexp(z, keepdims=keepdims))
    out = np.empty(5)
    assert ref.bias_grad(z, out=out) is out
    np.testing.assert_array_equal(out, ref.bias_grad(z))


# ---- empty batches, one class ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype):
    z, labels = np.empty((0, 5), dtype), np.empty(0, np.int64)
    assert ref.softmax(z).shape == ref.log_softmax(z).shape == ref.softmax_backward(z, z).shape == (0, 5)
    assert ref.logsumexp(z).shape == (0,)
    assert ref.softmax_jacobian(z).shape == (0, 5, 5)
    for reduction, expected in (("mean", dtype(NAN)), ("sum", dtype(0)), ("none", np.empty(0))):
        loss, dlogits = ref.cross_entropy_with_grad(z, labels, reduction=reduction)
        np.testing.assert_array_equal(loss, expected)
        assert loss.dtype == dtype
        assert dlogits.shape == (0, 5)
    X, W, b = np.empty((0, 3), dtype), np.ones((3, 5), dtype), np.ones(5, dtype)
    loss, grads = ref.linear_cross_entropy_with_grad(X, W, b, labels)
    assert np.isnan(loss)
    for got, like in zip(grads, (X, W, b), strict=True):
        np.testing.assert_array_equal(got, np.zeros_like(like))


def test_one_class():
    z = np.array([[3.0], [-800.0], [1e300]])
    np.testing.assert_array_equal(ref.softmax(z), np.ones((3, 1)))
    np.testing.assert_array_equal(ref.log_softmax(z), np.zeros((3, 1)))
    np.testing.assert_array_equal(ref.logsumexp(z), z[:, 0])
    np.testing.assert_array_equal(ref.softmax_jacobian(ref.softmax(z)), np.zeros((3, 1, 1)))
    loss, dlogits = ref.cross_entropy_with_grad(z, np.zeros(3, int))
    assert loss == 0
    np.testing.assert_array_equal(dlogits, np.zeros((3, 1)))


# ---- infinities and NaN ------------------------------------------------------------------------------------

ODD = {
    "+inf": [1, INF, 2],
    "two +inf": [INF, INF, 0],
    "all +inf": [INF, INF, INF],
    "all -inf": [-INF, -INF, -INF],
    "nan": [NAN, 1, 2],
    "nan and +inf": [INF, NAN, 1],
    "nan and -inf": [-INF, 1, NAN],
    "both infs": [INF, -INF, 1000],
    "-inf": [-INF, 1, 2],
    "two -inf": [-INF, 3, -INF],
    "huge": [1e38, -3e38, 2],
}
POISONED = [name for name in ODD if name not in ("-inf", "two -inf", "huge")]


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_conventions_of_scipy(name, dtype):
    special = pytest.importorskip("scipy.special")
    z = np.array([*ODD.values(), [0.5, 1, -2]], dtype)
    for rows, axis in ((z, 1), (z.T.copy(), 0), (z[:, :1], 1)):
        with np.errstate(all="ignore"):
            expected = getattr(special, name)(rows, axis=axis)
        got = getattr(ref, name)(rows, axis=axis)
        np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, err_msg=f"axis {axis}")


@pytest.mark.parametrize("row", ODD.values(), ids=ODD)
def test_conventions_spelled_out(row):
    """The same without SciPy."""
    z = np.array(row, np.float64)
    lse, probs, log_probs = ref.logsumexp(z), ref.softmax(z), ref.log_softmax(z)
    if np.isnan(z).any():
        assert np.isnan([lse, *probs, *log_probs]).all()
    elif (z == INF).any():
        assert lse == INF
        assert np.isnan(probs).all()
        np.testing.assert_array_equal(log_probs, np.where(z == INF, NAN, -INF))
    elif (z == -INF).all():
        assert lse == -INF
        assert np.isnan([*probs, *log_probs]).all()
    else:
        assert np.isfinite(lse)
        assert probs.sum() == pytest.approx(1)
        np.testing.assert_array_equal(probs[z == -INF], 0)
        np.testing.assert_array_equal(log_probs[z == -INF], -INF)


@pytest.mark.parametrize("label", [0, 1, 2])
@pytest.mark.parametrize("name", POISONED)
def test_poisoned_row_is_nan_and_no_other(name, label):
    z = make((3, 3))
    z[1] = ODD[name]
    labels = np.array([0, label, 2])
    loss, dlogits = ref.cross_entropy_with_grad(z, labels, reduction="none")
    clean, dclean = ref.cross_entropy_with_grad(z[::2].copy(), labels[::2], reduction="none")
    assert np.isnan(loss[1])
    assert np.isnan(dlogits[1]).all()
    np.testing.assert_array_equal(loss[::2], clean)
    np.testing.assert_array_equal(dlogits[::2], dclean)
    assert np.isnan(ref.cross_entropy(z, labels))
    assert np.isnan(ref.cross_entropy(z, labels, reduction="sum"))


@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_poisoned_single_class(bad):
    loss, dlogits = ref.cross_entropy_with_grad(np.array([[bad]]), np.array([0]))
    assert np.isnan(loss)
    assert np.isnan(dlogits).all()


def test_minus_infinity():
    z = np.array([[-INF, 1.0, 1.0], [-INF, 1.0, 1.0]])
    loss, dlogits = ref.cross_entropy_with_grad(z, np.array([1, 0]), reduction="none")
    np.testing.assert_allclose(loss, [np.log(2), INF])
    np.testing.assert_array_equal(dlogits, [[0, -0.5, 0.5], [-1, 0.5, 0.5]])
    jacobian = ref.softmax_jacobian(ref.softmax(z[0]))
    np.testing.assert_array_equal(jacobian, [[0, 0, 0], [0, 0.25, -0.25], [0, -0.25, 0.25]])


def test_no_warning_from_backward():
    odd = np.array(list(ODD.values()))
    a, log_a = ref.softmax(odd), ref.log_softmax(odd)
    ref.softmax_backward(a, odd)
    ref.log_softmax_backward(log_a, odd)
    ref.softmax_jacobian(a)
    outputs = ref.linear(odd, np.ones((3, 4)), np.array([0, INF, -INF, NAN]))
    ref.linear_backward(odd, np.ones((3, 4)), outputs)
    ref.linear_cross_entropy_with_grad(odd, np.ones((3, 4)), None, np.zeros(len(odd), int))
