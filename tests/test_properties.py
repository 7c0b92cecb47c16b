"""What holds for any logits."""

import numpy as np
import pytest

import fastsoftmax as fs

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
given, assume = hypothesis.given, hypothesis.assume

SHAPES = st.tuples(st.integers(1, 20), st.sampled_from([1, 2, 3, 5, 10, 16, 17, 33, 64, 130]))
DTYPES = st.sampled_from([np.float32, np.float64])


@st.composite
def batches(draw, largest=50.0):
    """Logits of any spread, with outliers and ties, and labels."""
    rows, classes = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    logits = rng.standard_normal((rows, classes)) * draw(st.sampled_from([0.0, 0.1, 3.0, 20.0]))
    value = st.floats(-largest, largest, width=16)
    for row, label, outlier in draw(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 129), value), max_size=5)):
        logits[row % rows, label % classes] = outlier
    logits = logits.clip(-largest, largest).astype(draw(DTYPES))
    return logits, rng.integers(classes, size=rows)


def arrays_like(logits):
    return np.random.default_rng(logits.size).standard_normal(logits.shape).astype(logits.dtype)


def close(got, want, dtype, size=1.0):
    """Equal up to some rounding errors of numbers of this size."""
    np.testing.assert_allclose(got, want, rtol=40 * np.finfo(dtype).eps, atol=40 * np.finfo(dtype).eps * size)


@given(batches())
def test_probabilities(batch):
    logits, _ = batch
    probs = fs.softmax(logits)
    assert np.all((probs >= 0) & (probs <= 1))
    close(probs.sum(axis=1), 1, logits.dtype)
    close(np.exp(fs.log_softmax(logits)), probs, logits.dtype)
    assert np.all(fs.log_softmax(logits) <= 0)
    # the order of the logits is that of the probabilities
    order = np.argsort(logits, axis=1)
    assert np.all(np.diff(np.take_along_axis(probs, order, axis=1)) >= -np.finfo(logits.dtype).eps)


@given(batches(), st.integers(-1000, 1000))
def test_shift_invariance(batch, shift):
    logits, labels = batch
    logits = np.round(logits * 4) / 4  # so that the shifted logits are exact
    shifted = logits + logits.dtype.type(shift)
    size = 100 + abs(shift)
    close(fs.softmax(shifted), fs.softmax(logits), logits.dtype)
    close(fs.log_softmax(shifted), fs.log_softmax(logits), logits.dtype)
    close(fs.logsumexp(shifted), fs.logsumexp(logits) + shift, logits.dtype, size)
    for got, want in zip(
        fs.cross_entropy_with_grad(shifted, labels), fs.cross_entropy_with_grad(logits, labels), strict=True
    ):
        close(got, want, logits.dtype)


@given(batches(), st.randoms(use_true_random=False))
def test_permuting_rows_permutes_results(batch, random):
    logits, labels = batch
    order = random.sample(range(len(logits)), len(logits))
    for function in (fs.softmax, fs.log_softmax, fs.logsumexp):
        np.testing.assert_array_equal(function(logits[order]), function(logits)[order])
    loss, dlogits = fs.cross_entropy_with_grad(logits, labels, reduction="none")
    permuted, dpermuted = fs.cross_entropy_with_grad(logits[order], labels[order], reduction="none")
    np.testing.assert_array_equal(permuted, loss[order])
    np.testing.assert_array_equal(dpermuted, dlogits[order])
    close(fs.cross_entropy(logits[order], labels[order]), loss.mean(dtype=np.float64), logits.dtype)


@given(batches(), st.randoms(use_true_random=False))
def test_permuting_classes_permutes_results(batch, random):
    logits, labels = batch
    classes = logits.shape[1]
    order = np.array(random.sample(range(classes), classes))
    new_labels = np.argsort(order)[labels]
    for function in (fs.softmax, fs.log_softmax):
        close(function(logits[:, order]), function(logits)[:, order], logits.dtype)
    close(fs.logsumexp(logits[:, order]), fs.logsumexp(logits), logits.dtype, 50)
    loss, dlogits = fs.cross_entropy_with_grad(logits, labels, reduction="none")
    permuted, dpermuted = fs.cross_entropy_with_grad(logits[:, order], new_labels, reduction="none")
    close(permuted, loss, logits.dtype, 1e-30)
    close(dpermuted, dlogits[:, order], logits.dtype, 1e-30)


@given(batches())
def test_loss_is_lse_minus_the_labels_logit(batch):
    logits, labels = batch
    rows = np.arange(len(labels))
    loss = fs.cross_entropy(logits, labels, reduction="none")
    assert np.all(loss >= 0)
    close(loss, fs.logsumexp(logits).astype(np.float64) - logits[rows, labels], logits.dtype, 100)
    close(loss, -fs.log_softmax(logits)[rows, labels], logits.dtype)
    close(fs.cross_entropy(logits, labels, reduction="sum"), loss.sum(dtype=np.float64), logits.dtype)


@given(batches())
def test_gradient_is_probs_minus_onehot(batch):
    logits, labels = batch
    _, dlogits = fs.cross_entropy_with_grad(logits, labels, reduction="sum")
    onehot = np.eye(logits.shape[1])[labels]
    close(dlogits, fs.softmax(logits) - onehot, logits.dtype)
    # the rows sum to zero as exactly as their largest entry allows
    largest = np.abs(dlogits).max(axis=1)
    eps = np.finfo(logits.dtype).eps
    assert np.all(np.abs(dlogits.sum(axis=1, dtype=np.float64)) <= 10 * eps * logits.shape[1] * largest + 1e-37)
    # downhill: the label's own entry is never positive, no other is negative
    assert np.all(dlogits[onehot == 1] <= 0)
    assert np.all(dlogits[onehot == 0] >= 0)


@given(batches(largest=8.0))
def test_backward_is_the_product_with_the_jacobian(batch):
    logits, _ = batch
    g = arrays_like(logits)
    probs = fs.softmax(logits)
    jacobian = fs.softmax_jacobian(probs).astype(np.float64)
    np.testing.assert_array_equal(jacobian, np.swapaxes(jacobian, 1, 2))
    close(jacobian.sum(axis=1), 0, logits.dtype)
    close(fs.softmax_backward(probs, g), np.einsum("ijk,ik->ij", jacobian, g), logits.dtype, 10)
    log_jacobian = np.eye(logits.shape[1]) - probs[:, None, :]
    got = fs.log_softmax_backward(fs.log_softmax(logits), g)
    close(got, np.einsum("ikj,ik->ij", log_jacobian, g), logits.dtype, 10)


@given(batches())
def test_cross_entropy_through_log_softmax(batch):
    """The gradient of −log a_y, behind a log-softmax, is that of the cross entropy."""
    logits, labels = batch
    minus_onehot = -np.eye(logits.shape[1], dtype=logits.dtype)[labels]
    got = fs.log_softmax_backward(fs.log_softmax(logits), minus_onehot)
    close(got, fs.cross_entropy_with_grad(logits, labels, reduction="sum")[1], logits.dtype)


@given(batches(), st.floats(-8, 8, width=16))
def test_dloss_multiplies_the_gradient(batch, factor):
    logits, labels = batch
    _, dlogits = fs.cross_entropy_with_grad(logits, labels)
    _, scaled = fs.cross_entropy_with_grad(logits, labels, dloss=factor)
    close(scaled, factor * dlogits, logits.dtype, 1e-30)
    each = np.linspace(-2, 2, len(labels)).astype(logits.dtype)
    _, rows = fs.cross_entropy_with_grad(logits, labels, reduction="none")
    _, weighted = fs.cross_entropy_with_grad(logits, labels, reduction="none", dloss=each)
    close(weighted, each[:, None] * rows, logits.dtype, 1e-30)


@given(batches(), st.lists(st.booleans(), min_size=20, max_size=20))
def test_ignored_rows_might_as_well_be_absent(batch, kept):
    logits, labels = batch
    keep = np.array(kept[: len(labels)])
    assume(keep.any())
    some = np.where(keep, labels, -7)
    loss, dlogits = fs.cross_entropy_with_grad(logits, some, ignore_index=-7)
    kept, dkept = fs.cross_entropy_with_grad(logits[keep], labels[keep])
    close(loss, kept, logits.dtype)
    np.testing.assert_array_equal(dlogits[keep], dkept)
    assert not dlogits[~keep].any()


@given(batches())
def test_splitting_a_batch_splits_the_sums(batch):
    dz, _ = batch
    x = arrays_like(dz)
    half, size = len(dz) // 2, 50.0 * len(dz)
    close(fs.bias_grad(dz), fs.bias_grad(dz[:half]) + fs.bias_grad(dz[half:]), dz.dtype, size)
    parts = fs.weight_grad(x[:half], dz[:half]) + fs.weight_grad(x[half:], dz[half:])
    close(fs.weight_grad(x, dz), parts, dz.dtype, size)
