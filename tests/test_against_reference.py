"""Every public function against the equations, evaluated with more digits."""

import inspect
from types import SimpleNamespace

import numba
import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference, threads

CLASSES = [1, 2, 3, 10, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 1000, 50257]
ROWS = [0, 1, 2, 7, 15, 16, 17, 33, 64, 65, 300]
MOST_ELEMENTS = 120_000
# rows, features, classes: few and many of each, around the lengths of vectors, strips and blocks
LAYERS = [
    (1, 1, 1),
    (2, 3, 1),
    (7, 5, 2),
    (16, 16, 10),
    (33, 31, 3),
    (129, 17, 10),
    (300, 40, 31),
    (300, 800, 6),
    (300, 8, 32),
    (65, 33, 33),
    (300, 5, 63),
    (64, 64, 64),
    (70, 9, 130),
    (17, 7, 1000),
    (2, 3, 50257),
    (2500, 20, 4),
    (0, 3, 2),
    (0, 3, 40),
    (5, 0, 3),
]


def rows_for(classes):
    return [rows for rows in ROWS if rows * classes <= MOST_ELEMENTS]


def widen(arguments, wide):
    return {
        name: value.astype(wide) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in arguments.items()
    }


def in_order(arguments, order):
    """The same arguments, with the weight as the transpose of a C-contiguous array if the order is "F"."""
    return {name: np.array(value, order=order) if name == "weight" else value for name, value in arguments.items()}


def first_rows(arguments, rows):
    return {name: value[:rows] if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


def test_signatures(function):
    """Those of the reference, and options about how, not what, to compute."""
    ours, theirs = (inspect.signature(getattr(module, function)).parameters for module in (fs, reference))
    assert list(theirs) == [name for name in ours if name in theirs]
    for name, parameter in ours.items():
        if name in theirs:
            assert (parameter.kind, parameter.default) == (theirs[name].kind, theirs[name].default)
        else:
            assert parameter.kind is parameter.KEYWORD_ONLY
            assert parameter.default is not parameter.empty


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_with_grad"])
def test_row_by_row(name, classes, dtype, twin, arguments, results, wider, assert_ulps):
    most = rows_for(classes)[-1]
    args = arguments(most, classes, dtype)[name]
    wide = widen(args, wider(dtype))
    exact = results(getattr(reference, name)(**wide))
    # m + log Σ may cancel in the reference, which has more digits
    z = wide["logits"]
    size = np.abs(z).max(axis=-1, where=np.isfinite(z), initial=1)
    slack = size * np.finfo(wider(dtype)).eps * 2
    for rows in rows_for(classes):
        got = results(getattr(fs, name)(**first_rows(args, rows)))
        for part, whole in zip(got, exact, strict=True):
            assert part.dtype == dtype
            assert_ulps(part, whole[:rows], slack=slack[:rows] if whole.ndim == 1 else slack[:rows, None])


def slack_of_backward(name, first, g, eps):
    """What rounding each term of the sums costs."""
    if name == "softmax_backward":
        return 4 * eps * first * (np.abs(g) + np.sum(first * np.abs(g), axis=-1, keepdims=True))
    return 4 * eps * (np.abs(g) + np.exp(first) * np.abs(g).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_backward(name, classes, dtype, twin, arguments, wider, assert_ulps):
    args = arguments(rows_for(classes)[-1], classes, dtype)[name]
    wide = widen(args, wider(dtype))
    exact = getattr(reference, name)(**wide)
    slack = slack_of_backward(name, *wide.values(), np.finfo(dtype).eps)
    for rows in rows_for(classes):
        got = getattr(fs, name)(**first_rows(args, rows))
        assert got.dtype == dtype
        assert_ulps(got, exact[:rows], ulps=1, slack=slack[:rows])


@pytest.mark.parametrize("classes", [classes for classes in CLASSES if classes < 1000])
def test_jacobian(classes, dtype, arguments, wider, assert_ulps):
    args = arguments(33, classes, dtype)["softmax_jacobian"]
    got = fs.softmax_jacobian(**args)
    assert got.dtype == dtype
    assert_ulps(got, reference.softmax_jacobian(**widen(args, wider(dtype))), ulps=2)


def product_slack(length, a, b, eps):
    """What rounding costs a product of matrices whose sums have this many terms."""
    return (8 + np.sqrt(length)) * eps * (np.abs(a) @ np.abs(b))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", LAYERS)
def test_linear(shape, order, dtype, twin, arguments, wider, assert_ulps):
    rows, features, classes = shape
    args = {name: in_order(given, order) for name, given in arguments(rows, classes, dtype, features).items()}
    x, w, b, g = (a.astype(wider(dtype)) for a in (*args["linear"].values(), args["input_grad"]["doutputs"]))
    eps = np.finfo(dtype).eps
    slacks = {
        "linear": product_slack(features, x, w, eps) + eps * np.abs(b),
        "weight_grad": product_slack(rows, x.T, g, eps),
        "bias_grad": 4 * eps * np.abs(g).sum(axis=0),
        "input_grad": product_slack(classes, g, w.T, eps),
    }
    for name, slack in slacks.items():
        out = {"out": np.empty((features, classes), dtype, order)} if name == "weight_grad" else {}
        got = getattr(fs, name)(**args[name], **out)
        assert got.dtype == dtype
        assert_ulps(got, getattr(reference, name)(**widen(args[name], wider(dtype))), 1, slack, name)
    assert_ulps(fs.linear(**{**args["linear"], "bias": None}), x @ w, 1, slacks["linear"])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [shape for shape in LAYERS if shape[0]])
def test_linear_head(shape, order, with_bias, reduction, dtype, twin, arguments, wider, assert_ulps):
    rows, features, classes = shape
    args = in_order(arguments(rows, classes, dtype, features)["linear_cross_entropy"], order)
    args = {**args, "bias": args["bias"] if with_bias else None, "reduction": reduction, "ignore_index": 0}
    args["labels"][0] = classes - 1  # something counts
    wide = widen(args, wider(dtype))
    x, w, b, *_ = wide.values()
    loss, grads = reference.linear_cross_entropy_with_grad(**wide)

    eps = np.finfo(dtype).eps
    bias_size = 0 if b is None else eps * np.abs(b).max(initial=0)
    dlogit = (product_slack(features, x, w, eps) + bias_size).max()  # what the logits may be off
    _, dz = reference.cross_entropy_with_grad(
        reference.linear(x, w, b), args["labels"], reduction=reduction, ignore_index=0
    )
    off = (2 * dlogit + 12 * eps) * np.abs(dz)
    slack_loss = 2 * dlogit * (rows if reduction == "sum" else 1)

    assert_ulps(fs.linear_cross_entropy(**args), loss, 4, slack_loss)
    got, (dinputs, dweight, dbias) = fs.linear_cross_entropy_with_grad(**args)
    assert_ulps(got, loss, 4, slack_loss)
    assert_ulps(dinputs, grads.dinputs, 1, off @ np.abs(w.T) + product_slack(classes, dz, w.T, eps), "dinputs")
    assert_ulps(dweight, grads.dweight, 1, np.abs(x.T) @ off + product_slack(rows, x.T, dz, eps), "dweight")
    if with_bias:
        assert_ulps(dbias, grads.dbias, 1, off.sum(axis=0) + 4 * eps * np.abs(dz).sum(axis=0), "dbias")
    else:
        assert dbias is None


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("with_dloss", [False, True], ids=["", "dloss"])
@pytest.mark.parametrize(("rows", "classes"), [(1, 10), (33, 3), (300, 17), (70, 129), (65, 1000)])
def test_reductions_and_ignored_rows(
    rows, classes, reduction, with_dloss, dtype, twin, rows_that_hurt, wider, assert_ulps
):
    kinds = ["spread 3", "label ahead by 20", "masked", "ties", "outlier"]  # one huge loss would hide the others
    z, y = rows_that_hurt(rows, classes, dtype, kinds)
    y[1::4] = 2**40
    options = {"reduction": reduction, "ignore_index": 2**40}
    dloss = None
    if with_dloss:
        dloss = np.random.default_rng(rows).standard_normal(rows).astype(dtype) if reduction == "none" else -2.5
    exact, dexact = reference.cross_entropy_with_grad(z.astype(wider(dtype)), y, dloss=dloss, **options)
    loss, dlogits = fs.cross_entropy_with_grad(z, y, dloss=dloss, **options)
    assert loss.dtype == dlogits.dtype == dtype
    assert_ulps(loss, exact)
    assert_ulps(dlogits, dexact)
    assert_ulps(fs.cross_entropy(z, y, **options), exact)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("rows", [0, 3])
def test_no_row_that_counts(rows, reduction, dtype, assert_same_bits):
    z, y = np.ones((rows, 4), dtype), np.full(rows, -100)
    want = reference.cross_entropy_with_grad(z, y, reduction=reduction)
    assert_same_bits(fs.cross_entropy_with_grad(z, y, reduction=reduction), want)
    assert_same_bits(fs.cross_entropy(z, y, reduction=reduction), want[0])
    x, w, b = np.ones((rows, 2), dtype), np.ones((2, 4), dtype), np.zeros(4, dtype)
    want = reference.linear_cross_entropy_with_grad(x, w, b, y, reduction=reduction)
    assert_same_bits(fs.linear_cross_entropy_with_grad(x, w, b, y, reduction=reduction), want)
    assert_same_bits(fs.linear_cross_entropy(x, w, b, y, reduction=reduction), want[0])


def test_no_class_in_a_product(dtype, assert_same_bits):
    x, w, dz = np.ones((4, 3), dtype), np.ones((3, 0), dtype), np.ones((4, 0), dtype)
    assert_same_bits(fs.linear(x, w, np.ones(0, dtype)), dz)
    assert_same_bits(fs.linear_backward(x, w, dz), reference.linear_backward(x, w, dz))


@pytest.mark.parametrize("thread_count", sorted({1, numba.config.NUMBA_NUM_THREADS}))
def test_size_decides_the_twin(thread_count):
    """Both sides of the cutoff, an element apart; a single thread never starts the pool."""
    ran = []
    kernel = SimpleNamespace(serial=lambda: ran.append("serial"), parallel=lambda: ran.append("parallel"))
    before = numba.get_num_threads()
    numba.set_num_threads(thread_count)
    try:
        threads.run(kernel, threads.SERIAL_BELOW - 1)
        threads.run(kernel, threads.SERIAL_BELOW)
    finally:
        numba.set_num_threads(before)
    assert ran == ["serial", "parallel" if thread_count > 1 else "serial"]


@pytest.mark.parametrize("classes", [1, 10, 128, 1000])
def test_around_the_cutoff(classes, dtype, rows_that_hurt, wider, assert_ulps):
    cutoff = -(-threads.SERIAL_BELOW // classes)
    z, y = rows_that_hurt(cutoff + 1, classes, dtype)
    exact, dexact = reference.cross_entropy_with_grad(z.astype(wider(dtype)), y, reduction="none")
    for rows in (cutoff - 1, cutoff, cutoff + 1):
        loss, dlogits = fs.cross_entropy_with_grad(z[:rows], y[:rows], reduction="none")
        assert_ulps(loss, exact[:rows])
        assert_ulps(dlogits, dexact[:rows])
