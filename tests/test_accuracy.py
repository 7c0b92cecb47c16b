"""Four ulp, each row's loss and every entry, where others lose thousands.

The truth is computed with at least eleven more bits, and as carefully: each sum leaves out the term that would swallow
the others.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.tuning import BLOCK_CLASSES as BLOCK

pytestmark = pytest.mark.usefixtures("serial")

SHAPES = [(4096, 10), (300, 70), (300, 150), (512, 1000), (4, 128_256)]


def ahead(z, y, lead):
    """The label's class ahead of the greatest other one."""
    rows = np.arange(len(y))
    z[rows, y] = -np.inf
    z[rows, y] = z.max(axis=1) + lead
    return z


def all_but_one(z, y):
    z[np.arange(z.shape[1]) != y[:, None]] = -np.inf
    return z


# From standard normal logits and labels to logits that hurt.
TORTURE = {
    "spread 0.1": lambda z, y: 0.1 * z,
    "spread 3": lambda z, y: 3 * z,
    "spread 20": lambda z, y: 20 * z,
    "spread 80": lambda z, y: 80 * z,
    "ahead by 1": lambda z, y: ahead(z, y, 1),
    "ahead by 20": lambda z, y: ahead(3 * z, y, 20),
    "ahead by 60": lambda z, y: ahead(3 * z, y, 60),
    "behind by 60": lambda z, y: ahead(z, y, -60),
    "ties": lambda z, y: np.round(z),
    "all tied": lambda z, y: np.full_like(z, 0.3),
    "all tied far from zero": lambda z, y: np.full_like(z, -12345.678),
    "near 3000": lambda z, y: z + 3000,
    "near -3000": lambda z, y: 3 * z - 3000,
    "around the switch at 2048": lambda z, y: 20 * z + 2048,
    "all -inf but one": all_but_one,
    "half -inf": lambda z, y: np.where((z < 0) & (z < z.max(axis=1, keepdims=True)), -np.inf, 9 * z),
    "1e30": lambda z, y: 1e30 * z,
    "tied at 1e30": lambda z, y: np.round(z) * 1e30,
}


class Truth(NamedTuple):
    logits: np.ndarray
    labels: np.ndarray
    probs: np.ndarray
    log_probs: np.ndarray
    lse: np.ndarray
    losses: np.ndarray
    dlogits: np.ndarray


def exp_of_difference(z, m):
    """exp(z − m) with what rounding z − m loses."""
    with np.errstate(invalid="ignore"):
        d = z - m
        back = d - z
        lost = (z - (d - back)) - (m + back)
    return np.exp(d) * (1 + np.where(np.isfinite(lost), lost, 0))


def truth_of(logits, labels, wide):
    z, rows = logits.astype(wide), np.arange(len(labels))
    top = z.argmax(axis=1)
    m = z[rows, top, None]
    e = exp_of_difference(z, m)
    others = e.copy()
    others[rows, top] = 0
    log_sum = np.log1p(others.sum(axis=1))  # relative to m
    total = 1 + others.sum(axis=1)

    not_label = e.copy()
    not_label[rows, labels] = 0
    r = not_label.sum(axis=1)
    is_top = z[rows, labels] == m[:, 0]
    behind = m[:, 0] - z[rows, labels]
    dlogits = not_label / total[:, None]
    dlogits[rows, labels] = -r / total
    return Truth(
        logits,
        labels,
        e / total[:, None],
        (z - m) - log_sum[:, None],
        m[:, 0] + log_sum,
        np.where(is_top, np.log1p(r), behind + log_sum),
        dlogits,
    )


def case_of(name, rng, shape, dtype):
    """Logits and labels of a case."""
    z, y = rng.standard_normal(shape), rng.integers(shape[1], size=shape[0])
    logits = TORTURE[name](z, y).astype(dtype)
    if name == "half -inf":
        y = logits.argmax(axis=1)
        logits[::2] = np.where(logits[::2] == -np.inf, -np.inf, logits[::2] / 9)
    return logits, y


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")
def shape(request):
    return request.param


@pytest.fixture(scope="module", params=TORTURE)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def truth(shape, dtype, case, wider):
    logits, y = case_of(case, np.random.default_rng(shape), shape, dtype)
    return truth_of(logits, y, wider(dtype))


def test_softmax(truth, assert_ulps):
    assert_ulps(fs.softmax(truth.logits), truth.probs)


def test_log_softmax(truth, assert_ulps):
    assert_ulps(fs.log_softmax(truth.logits), truth.log_probs)


def test_logsumexp(truth, assert_ulps):
    assert_ulps(fs.logsumexp(truth.logits), truth.lse)


def test_loss(truth, assert_ulps):
    assert_ulps(fs.cross_entropy(truth.logits, truth.labels, reduction="none"), truth.losses)
    assert_ulps(fs.cross_entropy(truth.logits, truth.labels, reduction="sum"), truth.losses.sum())
    assert_ulps(fs.cross_entropy(truth.logits, truth.labels), truth.losses.mean())


def test_gradient(truth, assert_ulps):
    loss, dlogits = fs.cross_entropy_with_grad(truth.logits, truth.labels, reduction="none")
    assert_ulps(loss, truth.losses)
    assert_ulps(dlogits, truth.dlogits)
    loss, dlogits = fs.cross_entropy_with_grad(truth.logits, truth.labels)
    assert_ulps(loss, truth.losses.mean())
    assert_ulps(dlogits, truth.dlogits / len(truth.labels))


def blocks_that_differ(dtype):
    """Rows whose blocks are each of another size, some empty, one with all that counts, with ties in several."""
    size, classes = BLOCK, 3 * BLOCK + 100
    z = 3 * np.random.default_rng(0).standard_normal((9, classes))
    z[0, size : 2 * size] += 500
    z[1, size : 2 * size] = -np.inf
    z[2, : 2 * size] = -np.inf
    z[3, [5, size + 5, 3 * size + 5]] = 80
    z[4] = 0.3
    z[5, :size] -= 1900
    z[6, 3 * size :] += 90  # the last one is short
    z[7] = np.round(z[7])
    z[8, :: size // 2] = 40
    labels = [size + 5, 3 * size + 9, 3 * size, 5, 0, 9, classes - 1, 2 * size, size]
    return z.astype(dtype), np.array(labels)


@pytest.mark.parametrize(
    ("regime", "bytes"), [("BLOCKED_BYTES", 2**62), ("STREAM_BYTES", 0), ("BLOCKED_BYTES", 0)],
    ids=["rows", "streams", "blocks"],
)  # fmt: skip
def test_long_rows(regime, bytes, dtype, wider, assert_ulps, monkeypatch):
    """32 rows of a language model's classes, of every case, by plain stores, past the caches and in blocks."""
    monkeypatch.setattr(tuning, regime, bytes)
    rng = np.random.default_rng(32)
    cases = [case_of(name, rng, (2, 128_256), dtype) for name in itertools.islice(itertools.cycle(TORTURE), 16)]
    check_all(*(np.concatenate(parts) for parts in zip(*cases, strict=True)), wider(dtype), assert_ulps)


def test_blocks(dtype, wider, assert_ulps, monkeypatch):
    monkeypatch.setattr(tuning, "BLOCKED_BYTES", 0)
    check_all(*blocks_that_differ(dtype), wider(dtype), assert_ulps)


def check_all(logits, labels, wide, assert_ulps):
    truth = truth_of(logits, labels, wide)
    assert_ulps(fs.softmax(logits), truth.probs)
    assert_ulps(fs.log_softmax(logits), truth.log_probs)
    assert_ulps(fs.logsumexp(logits), truth.lse)
    loss, dlogits = fs.cross_entropy_with_grad(logits, labels, reduction="none")
    assert_ulps(loss, truth.losses)
    assert_ulps(dlogits, truth.dlogits)


@pytest.mark.parametrize("name", TORTURE)
def test_the_truth(name, wider):
    """The long doubles that float64 is held against are right to a sixteenth of an ulp: mpmath says so."""
    mpmath = pytest.importorskip("mpmath")
    logits, labels = case_of(name, np.random.default_rng(7), (4, 24), np.float64)
    truth = truth_of(logits, labels, wider(np.float64))

    def check(got, exact):
        got, exact = mpmath.mpf(str(got)) if np.isfinite(got) else mpmath.mpf(float(got)), +exact
        unit = max(mpmath.mpf(2) ** -52 * abs(exact), mpmath.mpf(2) ** -1074)
        assert got == exact or abs(got - exact) <= unit / 16

    with mpmath.workprec(300):
        for i, (row, label) in enumerate(zip(logits, labels, strict=True)):
            z = [mpmath.mpf(float(value)) for value in row]
            e = [mpmath.exp(value - max(z)) for value in z]
            total = mpmath.fsum(e)
            check(truth.lse[i], max(z) + mpmath.log(total))
            check(truth.losses[i], mpmath.log(total) - (z[label] - max(z)))
            for j in range(len(z)):
                check(truth.probs[i, j], e[j] / total)
                check(truth.log_probs[i, j], z[j] - max(z) - mpmath.log(total))
                others = mpmath.fsum(e[:label] + e[label + 1 :])
                check(truth.dlogits[i, j], -others / total if j == label else e[j] / total)


# Gradients that are small as a whole -------------------------------------------------------------------------------

SMALL = {np.float32: [1e-15, 1e-19, 1e-25, 1e-32, 1e-36], np.float64: [1e-280, 1e-290, 1e-300]}


@pytest.mark.parametrize("classes", [10, 150])
@pytest.mark.parametrize("streams", [False, True], ids=["", "streams"])
def test_small_upstream_gradient(streams, classes, dtype, wider, assert_ulps, monkeypatch):
    """exp's headroom, by which the sum is larger, does not make the quotient subnormal; one row's is no other's."""
    if streams:
        monkeypatch.setattr(tuning, "STREAM_CLASSES", 0)
        monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    z = 3 * np.random.default_rng(0).standard_normal((40, classes))
    truth = truth_of(z.astype(dtype), np.arange(40) % classes, wider(dtype))
    for small in SMALL[dtype]:
        dloss = np.where(np.arange(40) % 3 == 0, 1, small).astype(dtype)
        _, dlogits = fs.cross_entropy_with_grad(truth.logits, truth.labels, reduction="none", dloss=dloss)
        assert_ulps(dlogits, truth.dlogits * dloss[:, None].astype(wider(dtype)))
        _, alone = fs.cross_entropy_with_grad(truth.logits[1:2], truth.labels[1:2], dloss=dloss[1])
        np.testing.assert_array_equal(alone, dlogits[1:2])


@pytest.mark.parametrize("classes", [10, 150])
def test_small_gradient_behind_log_softmax(classes, dtype, wider, assert_ulps):
    rng = np.random.default_rng(0)
    log_probs = fs.log_softmax(3 * rng.standard_normal((40, classes)).astype(dtype))
    a = np.exp(log_probs.astype(wider(dtype)))
    for small in SMALL[dtype]:
        g = (small * rng.standard_normal(a.shape)).astype(dtype)
        exact = g - a * g.sum(axis=1, keepdims=True, dtype=a.dtype)
        slack = np.finfo(dtype).eps * (np.abs(g) + a * np.abs(g).sum(axis=1, keepdims=True))
        assert_ulps(fs.log_softmax_backward(log_probs, g), exact, ulps=1, slack=slack)
