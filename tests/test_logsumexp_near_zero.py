"""logsumexp where m and log Σ cancel, as they do of log-probabilities: 4 ulp of the little that they leave.

What remains beside is an absolute error: float64 sums e^z with twice its digits there, float32 in float64.
"""

import numpy as np
import pytest

import fastsoftmax as fs

mpmath = pytest.importorskip("mpmath")
pytestmark = pytest.mark.usefixtures("serial")

CLASSES = [1, 2, 3, 10, 63, 64, 70, 128, 1000, 32_768]
OFFSETS = [0, 1e-15, 1e-12, -1e-12, 1e-9, -1e-9, 1e-6, -1e-6, 1e-3, -1e-3, 0.01, -0.01, 0.1, -0.1]
SHARES = [0.2, -0.2, 0.24, -0.24, 0.26, -0.26]  # of log C: about the last that count as cancelling, Σ e^z far from 1


def ahead(z, lead):
    """One class ahead of the others by `lead`."""
    z[len(z) // 3] = z.max() + lead
    return z


def masked(z):
    z[z < np.median(z)] = -np.inf
    return z


# From standard normal logits to those of log-probabilities.
ROWS = {
    "spread 0.1": lambda z: 0.1 * z,
    "spread 3": lambda z: 3 * z,
    "spread 20": lambda z: 20 * z,
    "constant": lambda z: np.zeros_like(z),
    "two thirds tied": lambda z: np.maximum(z, 0.4),
    "masked": lambda z: masked(3 * z),
    "ahead by 5": lambda z: ahead(z, 5),
    "ahead by 20": lambda z: ahead(3 * z, 20),
    "ahead by 40": lambda z: ahead(z, 40),
    "ahead by 80": lambda z: ahead(z, 80),
    "ahead by 600": lambda z: ahead(z, 600),
}


def log_probabilities(name, classes):
    """A row with lse = 0 but for rounding; at most a hundred different numbers, so that mpmath keeps up."""
    rng = np.random.default_rng([classes, list(ROWS).index(name)])
    z = ROWS[name](rng.choice(rng.standard_normal(min(classes, 100)), classes))
    top = z.argmax()
    others = np.exp((z - z[top]).astype(np.longdouble))
    others[top] = 0
    log_sum = np.log1p(others.sum())
    z = (z - z[top]) - log_sum
    return z.astype(np.float64)


def near_zero(name, classes, dtype):
    row = log_probabilities(name, classes)
    offsets = np.concatenate([OFFSETS, np.log(classes) * np.array(SHARES), np.spacing(row.max()) * np.arange(-2, 3)])
    return (row + offsets[:, None]).astype(dtype)


def exact_lse(row):
    values, counts = np.unique(row, return_counts=True)
    terms = (int(count) * mpmath.exp(mpmath.mpf(float(v))) for v, count in zip(values, counts, strict=True))
    return mpmath.log(mpmath.fsum(terms))


def unit(x):
    return float(np.spacing(abs(x)))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ROWS)
def test_with_a_scale(name, classes, dtype, assert_same_bits):
    """Of doubles, halved: no product is rounded."""
    logits = near_zero(name, classes, dtype)
    assert_same_bits(fs.logsumexp(2 * logits, scale=0.5), fs.logsumexp(logits))


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ROWS)
def test_within_four_ulp(name, classes, dtype):
    logits = near_zero(name, classes, dtype)
    got = fs.logsumexp(logits)
    with mpmath.workprec(2000):
        for row, lse in zip(logits, got, strict=True):
            exact = exact_lse(row)
            slack = 3 * unit(float(row.max()))
            if dtype == np.float64:
                slack = min(slack, 2.0**-102)
            assert abs(float(lse) - exact) <= 4 * unit(dtype(float(exact))) + slack, (float(lse), float(exact))


@pytest.mark.parametrize("classes", [3, 10, 31, 32, 63, 70, 130])
def test_beside_other_rows(classes, dtype, assert_same_bits):
    """Some rows in a vector cancel, and none changes another's bits; NaN and infinities stay where they are."""
    rng = np.random.default_rng(classes)
    rows = 3 * rng.standard_normal((100, classes))
    rows[::3] = near_zero("spread 3", classes, np.float64)[rng.integers(len(OFFSETS), size=34)]
    rows[::7] += 700
    rows[5::10, 1], rows[6::20, 0], rows[7::20, 2], rows[8::20, 1], rows[9::20] = np.nan, np.inf, -np.inf, -800, -np.inf
    rows = rows.astype(dtype)
    together = fs.logsumexp(rows)
    assert_same_bits(together, np.array([fs.logsumexp(row) for row in rows]))
    assert_same_bits(together, fs.logsumexp(rows.T, axis=0))
    order = rng.permutation(100)
    assert_same_bits(together[order], fs.logsumexp(rows[order]))
    np.testing.assert_array_equal(np.isnan(together), np.isnan(rows).any(axis=1))
    np.testing.assert_array_equal(np.isposinf(together), np.isposinf(rows).any(axis=1) & ~np.isnan(together))
    np.testing.assert_array_equal(np.isneginf(together), np.isneginf(rows).all(axis=1))
