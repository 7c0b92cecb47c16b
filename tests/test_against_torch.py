"""What PyTorch's cross_entropy has too gives what PyTorch gives: loss and gradient, infinities and NaN."""

import itertools

import numpy as np
import pytest

import fastsoftmax as fs

torch = pytest.importorskip("torch")

SPECIAL = {"inf": np.inf, "-inf": -np.inf, "nan": np.nan}


def case(shape, axis, dtype):
    """Logits with some special rows, labels of which some are ignored, and a weight for each class."""
    rng = np.random.default_rng(len(shape))
    z = 3 * np.moveaxis(rng.standard_normal(shape), axis, -1)
    y = rng.integers(z.shape[-1], size=z.shape[:-1])
    flat = z.reshape(-1, z.shape[-1])
    for row, value in zip(range(3, len(flat), 5), itertools.cycle(SPECIAL.values()), strict=False):
        flat[row, row % z.shape[-1]] = value
    y.reshape(-1)[::4] = -100
    return np.moveaxis(z, -1, axis).astype(dtype), y, rng.uniform(0.1, 2, z.shape[-1]).astype(dtype)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("shape", [(40, 10), (40, 130), (7, 5, 3, 2), (9,)], ids=str)
def test_cross_entropy(shape, weighted, smoothing, reduction, dtype):
    axis = min(1, len(shape) - 1)
    z, y, w = case(shape, axis, dtype)
    if reduction != "none":  # a NaN would hide all others
        z = np.where(np.isfinite(z), z, 0).astype(dtype)
    w = w if weighted else None
    logits = torch.tensor(z.astype(np.float64), requires_grad=True)
    loss = torch.nn.functional.cross_entropy(
        logits,
        torch.tensor(y),
        weight=None if w is None else torch.tensor(w.astype(np.float64)),
        label_smoothing=smoothing,
        reduction=reduction,
    )
    loss.sum().backward()
    options = {"class_weight": w, "label_smoothing": smoothing, "reduction": reduction, "axis": axis}
    got, dlogits = fs.cross_entropy_with_grad(z, y, **options)
    eps = np.finfo(dtype).eps
    want = loss.detach().numpy()
    np.testing.assert_allclose(got, want, rtol=8 * eps, atol=8 * eps)
    np.testing.assert_array_equal(fs.cross_entropy(z, y, **options), got)
    finite = np.broadcast_to(np.isfinite(z).all(axis, keepdims=True), z.shape)
    np.testing.assert_allclose(dlogits[finite], logits.grad.numpy()[finite], rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weight": [0.5, 1, 2]}], ids=str)
def test_no_row_counts(options):
    """The mean of nothing: a NaN loss, and no gradient."""
    z, y = np.zeros((4, 3)), np.full(4, -100)
    tensors = {key: torch.tensor(value) if isinstance(value, list) else value for key, value in options.items()}
    weight = tensors.pop("class_weight", None)
    logits = torch.tensor(z, requires_grad=True)
    weight = weight if weight is None else weight.double()
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y), weight=weight, **tensors)
    loss.backward()
    got, dlogits = fs.cross_entropy_with_grad(z, y, **options)
    assert np.isnan(loss.item())
    assert np.isnan(got)
    np.testing.assert_array_equal(dlogits, logits.grad.numpy())
