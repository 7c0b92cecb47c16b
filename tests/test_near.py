"""Rows whose logits are near their maximum skip tests that others need: the same bits, up to the very edge."""

import numpy as np
import pytest

import fastsoftmax as fs

CLASSES = [10, 150]  # a bundle of rows, and row by row
EDGE = 40.0  # the greatest distance from the maximum
LARGEST = 2048.0  # and the greatest maximum


def near_rows(classes, dtype):
    z = np.random.default_rng(classes).uniform(-3, 3, (40, classes)).astype(dtype)
    z[1, 2] = z[1].max() + 20
    z[2] = 17 - EDGE + abs(z[2]) / 3
    z[2, 2:4] = 17, 17 - EDGE
    z[3] += LARGEST - z[3].max()
    z[4] -= LARGEST + z[4].max()
    z[5, 3] = np.nan
    return z


def far_rows(z):
    """The same with a masked class more, which has them take the other way."""
    return np.column_stack([z, np.full(len(z), -np.inf, z.dtype)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASSES)
def test_same_bits(classes, dtype):
    z = near_rows(classes, dtype)
    np.testing.assert_array_equal(fs.softmax(z), fs.softmax(far_rows(z))[:, :-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dloss", [1.0, 0.0, -1e-3, *2.0 ** -np.arange(36, 44), 1e-20, 1e-30, 1e-37, 1e30])
@pytest.mark.parametrize("classes", CLASSES)
def test_same_bits_of_gradients(classes, dloss, dtype):
    """Whatever the size of the quotient, which decides on the product's way too."""
    z = near_rows(classes, dtype)
    labels = np.arange(len(z)) % classes
    args = {"reduction": "none", "dloss": np.full(len(z), dloss)}
    losses, dlogits = fs.cross_entropy_with_grad(z, labels, **args)
    far_losses, far_dlogits = fs.cross_entropy_with_grad(far_rows(z), labels, **args)
    np.testing.assert_array_equal(losses, far_losses)
    np.testing.assert_array_equal(dlogits, far_dlogits[:, :-1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("classes", CLASSES)
def test_beyond_the_edge(classes, dtype):
    """Down to entries and gradients that are zero, and up to logits that are only exact relative to the maximum."""
    gaps = [EDGE, np.nextafter(EDGE, 99), 60, 87, 104, 130, 190, 300, 1000, 1e5, np.inf]
    tops = [0, 17, *np.arange(LARGEST + 1, LARGEST + 200, 40)]
    z = np.zeros((len(tops) * len(gaps), classes), dtype)
    z[:, 1] = np.repeat(tops, len(gaps))
    z += np.where(np.arange(classes) == 1, 0, z[:, 1:2])
    z[:, 3] -= np.tile(gaps, len(tops))
    a = np.concatenate([fs.softmax(row[None]) for row in z])  # alone: one far row makes its whole bundle far
    e = np.exp(z[:, 3].astype(np.longdouble) - z[:, 1])
    truth = (e / (classes - 1 + e)).astype(dtype)
    normal = truth >= np.finfo(dtype).tiny
    np.testing.assert_array_equal(a[~normal, 3], 0)
    np.testing.assert_allclose(a[normal, 3], truth[normal], rtol=4 * np.finfo(dtype).eps)
