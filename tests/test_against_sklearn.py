"""Loss, gradient and the Hessian's diagonal are those of scikit-learn's multinomial loss, sample weights included.

scikit-learn's loss and gradient of a row are multiplied by its weight, its mean is that of the loss weighted so:
"none" and "mean" here. It computes in float64, from the numbers that the tested dtype holds.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

HalfMultinomialLoss = pytest.importorskip("sklearn._loss").HalfMultinomialLoss

# Units in the last place. Plain NumPy rounds each step, and an error of q − m is one of its exponential.
LIBRARIES = pytest.mark.parametrize(("library", "ulps"), [(fs, 8), (reference, 32)], ids=["fast", "reference"])
EPS = np.finfo(np.float64).eps  # of what scikit-learn gives
SHAPES = pytest.mark.parametrize("shape", [(1, 3), (40, 2), (40, 10), (30, 130)], ids=str)
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])


def case(shape, dtype, weighted):
    """Logits, labels, and weights of which some are 0 and some whole numbers, as of repeated rows."""
    rng = np.random.default_rng(shape)
    z, y = 3 * rng.standard_normal(shape), rng.integers(shape[1], size=shape[0])
    z[::4, 0] += 20  # sure of a class, right or wrong
    s = rng.uniform(0.1, 3, shape[0])
    s[1::4], s[2::4] = 0, np.ceil(s[2::4])
    return z.astype(dtype), y, s.astype(dtype) if weighted else None


def peer(z, y, s):
    """The loss, and its arguments by name."""
    z, y, s = (array if array is None else array.astype(np.float64) for array in (z, y, s))
    return HalfMultinomialLoss(n_classes=z.shape[1]), {"y_true": y, "raw_prediction": z, "sample_weight": s}


def slack_of(z, s):
    """Of each row: what scikit-learn may lose of the loss, where lse and z_y cancel, and an ulp of the gradient."""
    s = np.ones(len(z)) if s is None else s.astype(np.float64)
    return 8 * EPS * s * (np.abs(z).max(1) + np.log(z.shape[1])), np.finfo(z.dtype).eps * s


@pytest.mark.usefixtures("serial")
@LIBRARIES
@WEIGHTED
@SHAPES
def test_none(shape, weighted, library, ulps, dtype, assert_ulps):
    z, y, s = case(shape, dtype, weighted)
    half, given = peer(z, y, s)
    want, gradient = half.loss_gradient(**given)
    loss, dlogits = library.cross_entropy_with_grad(z, y, sample_weight=s, reduction="none")
    slack, unit = slack_of(z, s)
    assert loss.dtype == dlogits.dtype == dtype
    assert_ulps(loss, want, ulps, slack=slack)
    assert_ulps(dlogits, gradient, ulps, slack=ulps * unit[:, None])
    assert_ulps(library.cross_entropy(z, y, sample_weight=s, reduction="none"), want, ulps, slack=slack)


@pytest.mark.usefixtures("serial")
@LIBRARIES
@WEIGHTED
@SHAPES
def test_mean(shape, weighted, library, ulps, dtype, assert_ulps):
    """Its linear models divide the gradient by the sum of the weights, as the mean here does."""
    z, y, s = case(shape, dtype, weighted)
    half, given = peer(z, y, s)
    counts = len(z) if s is None else s.astype(np.float64).sum()
    loss, dlogits = library.cross_entropy_with_grad(z, y, sample_weight=s)
    slack, unit = slack_of(z, s)
    assert_ulps(loss, half(**given), ulps, slack=slack.sum() / counts)
    assert_ulps(dlogits, half.gradient(**given) / counts, ulps, slack=ulps * (unit / counts)[:, None])


@pytest.mark.usefixtures("serial")
@LIBRARIES
@WEIGHTED
def test_sum(weighted, library, ulps, dtype, assert_ulps):
    z, y, s = case((40, 10), dtype, weighted)
    half, given = peer(z, y, s)
    slack, unit = slack_of(z, s)
    loss, dlogits = library.cross_entropy_with_grad(z, y, sample_weight=s, reduction="sum")
    assert_ulps(loss, half.loss(**given).sum(), ulps, slack=slack.sum())
    assert_ulps(dlogits, half.gradient(**given), ulps, slack=ulps * unit[:, None])


@LIBRARIES
def test_weights_are_repeated_rows(library, ulps, dtype, assert_ulps):
    """A weight of 3 is three rows, one of 0 none: the mean of scikit-learn without weights."""
    z, y, _ = case((40, 10), dtype, False)
    times = np.arange(40) % 4
    half, given = peer(np.repeat(z, times, axis=0), np.repeat(y, times), None)
    loss = library.cross_entropy(z, y, sample_weight=times.astype(dtype))
    assert_ulps(loss, half(**given), ulps, slack=slack_of(z, times)[0].sum() / times.sum())


@pytest.mark.usefixtures("serial")
@LIBRARIES
@WEIGHTED
@pytest.mark.parametrize("shape", [(1, 3), (40, 10)], ids=str)
def test_diagonal_of_the_hessian(shape, weighted, library, ulps, dtype, assert_ulps):
    z, y, s = case(shape, dtype, weighted)
    half, given = peer(z, y, s)
    _, want = half.gradient_hessian(**given)
    got = np.empty_like(z)
    for j in range(shape[1]):
        vector = np.zeros_like(z)
        vector[:, j] = 1
        got[:, j] = library.cross_entropy_hvp(z, y, vector, sample_weight=s, reduction="none")[:, j]
    assert_ulps(got, want, ulps, slack=ulps * slack_of(z, s)[1][:, None])


@LIBRARIES
def test_probabilities(library, ulps, dtype, assert_ulps):
    z, y, _ = case((40, 10), dtype, False)
    half, given = peer(z, y, None)
    _, want = half.gradient_proba(**given)
    assert_ulps(library.softmax(z), want, ulps, slack=8 * EPS)
