"""Every gradient against finite differences, one number at a time, through the whole two-layer network too."""

import numpy as np
import pytest

import fastsoftmax as fs

REDUCTIONS = ["mean", "sum", "none"]


def differences(function, x, step=2e-5):
    """The gradient of a scalar function at x by central differences, one element at a time."""
    grad = np.empty_like(x)
    for at in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[at] += step
        down[at] -= step
        grad[at] = (function(up) - function(down)) / (2 * step)
    return grad


def assert_gradient(got, function, x):
    np.testing.assert_allclose(got, differences(function, x), rtol=1e-6, atol=2e-10)


@pytest.fixture(params=[(1, 3), (4, 5), (3, 17), (2, 130)], ids=str)
def logits(request):
    z = np.random.default_rng(0).standard_normal(request.param)
    z[0, 1] += 8  # an outlier
    return z


@pytest.fixture
def labels(logits):
    return np.random.default_rng(1).integers(logits.shape[1], size=len(logits))


@pytest.mark.parametrize(
    ("forward", "backward"),
    [(fs.softmax, fs.softmax_backward), (fs.log_softmax, fs.log_softmax_backward)],
)
def test_softmax_and_log_softmax(forward, backward, logits):
    g = np.random.default_rng(2).standard_normal(logits.shape)
    assert_gradient(backward(forward(logits), g), lambda z: np.sum(g * forward(z)), logits)


def test_jacobian(logits):
    jacobian = fs.softmax_jacobian(fs.softmax(logits))
    for row, label in np.ndindex(logits.shape):
        assert_gradient(jacobian[row, label], lambda z, label=label: fs.softmax(z)[label], logits[row])


def test_logsumexp(logits):
    assert_gradient(fs.softmax(logits), lambda z: fs.logsumexp(z).sum(), logits)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("with_dloss", [False, True], ids=["", "dloss"])
def test_cross_entropy(reduction, with_dloss, logits, labels):
    if len(labels) > 1:
        labels[-1] = -100
    g = 1.0
    if with_dloss:
        g = np.random.default_rng(3).standard_normal(labels.shape) if reduction == "none" else -0.7
    loss, dlogits = fs.cross_entropy_with_grad(logits, labels, reduction=reduction, dloss=g if with_dloss else None)
    assert np.sum(loss) > 0
    assert_gradient(dlogits, lambda z: np.sum(g * fs.cross_entropy(z, labels, reduction=reduction)), logits)


@pytest.mark.parametrize("classes", [3, 40])
def test_linear(classes):
    rng = np.random.default_rng(0)
    x, w, b, g = (rng.standard_normal(shape) for shape in ((5, 4), (4, classes), classes, (5, classes)))
    grads = fs.linear_backward(x, w, g)
    assert_gradient(grads.dinputs, lambda x: np.sum(g * fs.linear(x, w, b)), x)
    assert_gradient(grads.dweight, lambda w: np.sum(g * fs.linear(x, w, b)), w)
    assert_gradient(grads.dbias, lambda b: np.sum(g * fs.linear(x, w, b)), b)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("classes", [3, 40])
def test_linear_cross_entropy(classes, with_bias, reduction):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 4)), rng.standard_normal((4, classes))
    b = rng.standard_normal(classes) if with_bias else None
    y = np.array([0, 2, -100, 1, 2])

    def total(x=x, w=w, b=b):
        return np.sum(fs.linear_cross_entropy(x, w, b, y, reduction=reduction))

    loss, grads = fs.linear_cross_entropy_with_grad(x, w, b, y, reduction=reduction)
    assert np.sum(loss) == pytest.approx(total(), rel=1e-14)
    assert_gradient(grads.dinputs, lambda x: total(x=x), x)
    assert_gradient(grads.dweight, lambda w: total(w=w), w)
    if with_bias:
        assert_gradient(grads.dbias, lambda b: total(b=b), b)
    else:
        assert grads.dbias is None


# The network: z1 = X·W1 + b1, a1 = activation(z1), z2 = a1·W2 + b2, L(z2, y) ---------------------------------------

ACTIVATIONS = {
    "tanh": (np.tanh, lambda z, a: 1 - a**2),
    "relu": (lambda z: np.maximum(z, 0), lambda z, a: (z > 0) * 1.0),
}


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "step by step"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [4, 35])
def test_two_layer_network(classes, activation, fused):
    act, dact = ACTIVATIONS[activation]
    rng = np.random.default_rng(0)
    sizes = {"X": (6, 3), "W1": (3, 5), "b1": 5, "W2": (5, classes), "b2": classes}
    network = {name: rng.standard_normal(size) for name, size in sizes.items()}
    y = rng.integers(classes, size=6)

    def loss_of(X, W1, b1, W2, b2):
        return fs.cross_entropy(fs.linear(act(fs.linear(X, W1, b1)), W2, b2), y)

    z1 = fs.linear(network["X"], network["W1"], network["b1"])
    a1 = act(z1)
    if fused:
        loss, (da1, dW2, db2) = fs.linear_cross_entropy_with_grad(a1, network["W2"], network["b2"], y)
    else:
        loss, dz2 = fs.cross_entropy_with_grad(fs.linear(a1, network["W2"], network["b2"]), y)
        da1, dW2, db2 = fs.linear_backward(a1, network["W2"], dz2)
    dX, dW1, db1 = fs.linear_backward(network["X"], network["W1"], da1 * dact(z1, a1))

    assert loss == pytest.approx(loss_of(**network), rel=1e-14)
    for name, grad in {"X": dX, "W1": dW1, "b1": db1, "W2": dW2, "b2": db2}.items():
        assert_gradient(grad, lambda value, name=name: loss_of(**{**network, name: value}), network[name])
