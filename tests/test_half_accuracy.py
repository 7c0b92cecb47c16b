"""Half types: results are the nearest there are, but for float32's own error; of special and small numbers, too."""

import numpy as np
import pytest

import fastsoftmax as fs
from tests.conftest import rows_that_hurt
from tests.definition import exactly
from tests.halves import check, halved


@pytest.mark.parametrize("classes", [3, 130])
def test_special_numbers(classes, half):
    """NaN, infinities, zeros of both signs, subnormal and largest halves, many in a row or one."""
    bits = [0, 1, 2, 0x3FF if half == np.float16 else 0x7F, 0x7BFF if half == np.float16 else 0x7F7F]
    bits += [0x7C00 if half == np.float16 else 0x7F80, 0x7E00 if half == np.float16 else 0x7FC0]
    special = np.array([sign | number for number in bits for sign in (0, 0x8000)], np.uint16).view(half)
    rng = np.random.default_rng(classes)
    z = halved(rng.standard_normal((60, classes)).astype(np.float32), half)
    z[np.arange(28), rng.integers(classes, size=28)] = np.tile(special, 2)
    z[28:50] = rng.choice(special, (22, classes))
    z[50:] = rng.choice(special[:6], (10, classes))  # small ones alone
    check("softmax", {"logits": z}, half)
    check("cross_entropy_with_grad", {"logits": z, "labels": np.arange(60) % classes, "reduction": "none"}, half)


def test_subnormal_results():
    """Probabilities below the smallest normal half are there, to half of the last place that there is."""
    z = np.zeros((20, 40), np.float16)
    z[:, 1:] = np.linspace(-18, -9, 780).reshape(20, 39)
    got, truth = fs.softmax(z).astype(np.float64), fs.reference.softmax(z.astype(np.float64))
    small = truth < 2.0**-14
    assert small.mean() > 0.5
    assert (np.abs(got - truth)[small] <= 0.501 * 2.0**-24).all()


def test_subnormal_products(half):
    """Which bfloat16 has where float32 has them, too."""
    smallest = np.array(1, np.uint16).view(half).astype(np.float64)
    x = (smallest * np.arange(-300, 300)[:, None]).astype(half)
    w = np.array([[0.3, 0.5, 1, 1.5, 7]], half)
    check("linear", {"inputs": x, "weight": w, "bias": np.zeros(5, half)}, half)


# Of finite logits, whose losses half types hold.
NEAR = ["spread 0.1", "spread 3", "spread 20", "label ahead by 1", "label ahead by 20", "label behind by 60", "outlier"]


@pytest.mark.parametrize("classes", [10, 130])
def test_nearest_to_the_truth(classes, half):
    """Half an ulp and what float32 is off by, of rows with outliers, too: a sure label's entry does not cancel."""
    z, y = rows_that_hurt(70, classes, np.float32, kinds=NEAR)
    z = halved(z, half)
    truth = exactly(z.astype(np.float32), y, np.dtype(np.float64))
    loss, dlogits = fs.cross_entropy_with_grad(z, y, reduction="none")
    wide = z.astype(np.float64)
    for name, got, exact in (
        ("softmax", fs.softmax(z), fs.reference.softmax(wide)),
        ("log_softmax", fs.log_softmax(z), fs.reference.log_softmax(wide)),
        ("logsumexp", fs.logsumexp(z), truth.lse),
        ("loss", loss, truth.loss),
        ("dlogits", dlogits, truth.dlogits),
    ):
        unit = np.spacing(np.abs(exact).astype(half)).astype(np.float64)
        off = np.abs(got.astype(np.float64) - exact) / unit
        assert off.max(where=np.abs(exact) > 2.0**-126, initial=0) <= 0.501, name


def test_mpmath_says_so(half):
    """A few rows, to 50 digits."""
    mpmath = pytest.importorskip("mpmath")
    z, y = rows_that_hurt(7, 24, np.float32, kinds=NEAR)
    z = halved(z, half)
    probs, (_, dlogits) = fs.softmax(z), fs.cross_entropy_with_grad(z, y, reduction="sum")
    with mpmath.workdps(50):
        for i, row in enumerate(z.astype(np.float64)):
            e = [mpmath.exp(value - row.max()) for value in row]
            for j in range(24):
                others = mpmath.fsum(e[: y[i]] + e[y[i] + 1 :])
                of_gradient = -others if j == y[i] else e[j]
                for got, exact in ((probs[i, j], e[j]), (dlogits[i, j], of_gradient)):
                    exact /= mpmath.fsum(e)
                    unit = np.spacing(np.array(abs(float(exact))).astype(half)).astype(np.float64)
                    assert abs(float(got) - exact) <= 0.501 * unit or abs(exact) < 2.0**-126
