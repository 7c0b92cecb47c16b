"""More than 2³¹ elements: no index, count or sum of the kernels is kept in 32 bits."""

import os

import numpy as np
import pytest

import fastsoftmax as fs

ELEMENTS = 2**31 + 1_000
BYTES = 4 * ELEMENTS


def available_bytes():
    """Memory that is free, or could be; 0 where that is not known."""
    try:
        with open("/proc/meminfo") as file:
            amounts = dict(line.split(":") for line in file)
    except OSError:
        return 0
    return 1024 * int(amounts["MemAvailable"].split()[0])


pytestmark = [
    pytest.mark.exhaustive,
    pytest.mark.skipif(available_bytes() < 1.4 * BYTES, reason=f"needs {1.4 * BYTES / 1e9:.0f} GB of free memory"),
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="takes too long on one processor"),
]


@pytest.fixture(scope="module")
def room():
    return np.empty(ELEMENTS, np.float32)


def rows_of(room, classes):
    """As many rows as the room holds, all alike."""
    row = np.random.default_rng(0).standard_normal(classes, dtype=np.float32)
    z = room[: ELEMENTS // classes * classes].reshape(-1, classes)
    z[...] = row
    return z, row[None]


@pytest.mark.parametrize("classes", [60, 1_000])
def test_many_rows(room, classes, assert_same_bits):
    """Few classes and many; the first rows and the last, on both sides of the 2³¹st element."""
    z, row = rows_of(room, classes)
    labels = np.zeros(len(z), np.int64)
    labels[-1] = 1
    assert_same_bits(fs.cross_entropy(z, labels, reduction="none")[[0, -1]], np.array(
        [fs.cross_entropy(row, [0]), fs.cross_entropy(row, [1])], np.float32
    ))  # fmt: skip
    total = fs.bias_grad(z)
    np.testing.assert_allclose(total, len(z) * row[0].astype(np.float64), rtol=1e-6)
    _, dlogits = fs.cross_entropy_with_grad(z, labels, reduction="sum", out=z)
    assert dlogits is z
    for at in (0, len(z) // 2, -2):
        assert_same_bits(z[at], fs.cross_entropy_with_grad(row, [0])[1][0])
    assert_same_bits(z[-1], fs.cross_entropy_with_grad(row, [1])[1][0])


def test_one_row(room):
    """More classes than 2³¹ − 1, with the label among the last."""
    z = room[None]
    z[...] = 0
    z[0, -3] = 5
    others = (ELEMENTS - 1) / np.exp(5.0)
    loss, _ = fs.cross_entropy_with_grad(z, [ELEMENTS - 3], out=z)
    np.testing.assert_allclose(loss, np.log1p(others), rtol=1e-6)
    np.testing.assert_allclose(z[0, -3], -others / (1 + others), rtol=1e-6)
    np.testing.assert_allclose(z[0, [0, 2**31 - 1, 2**31, -1]], 1 / (ELEMENTS - 1 + np.exp(5.0)), rtol=1e-6)
