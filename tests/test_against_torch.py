"""Loss, gradient, statistics and Hessian product are PyTorch's: by its own `cross_entropy`, or composed, by autograd.

PyTorch computes in float64, from the numbers that the tested dtype holds.
"""

import functools
import itertools

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference

torch = pytest.importorskip("torch")
cross_entropy = torch.nn.functional.cross_entropy

INF, NAN = np.inf, np.nan
# What spoils a row: an entry of it, or all. The label's own entry is spoilt in every other row.
SPOILT = {"finite": [], "-inf": [-INF], "inf and NaN": [INF, -INF, NAN, "all -inf", "label alone"]}
# Units in the last place. Plain NumPy rounds each step, and an error of q − m is one of its exponential.
LIBRARIES = ((fs, 8), (reference, 32))
EACH_LIBRARY = pytest.mark.parametrize(("library", "ulps"), LIBRARIES, ids=["fast", "reference"])
# Both are tested at once where options are many: so each meets any two of them. See `conftest`.
EPS = np.finfo(np.float64).eps  # of what PyTorch gives


def double(array, **options):
    return torch.tensor(np.asarray(array, np.float64), **options)


def spoil(z, y, kinds):
    """Spoil every fifth row, one kind after the other, and do it to some at the label."""
    rows, labels = z.reshape(-1, z.shape[-1]), y.reshape(-1)
    spoilt = range(min(3, len(rows) - 1), len(rows), 5)
    for count, (row, kind) in enumerate(zip(spoilt, itertools.cycle(kinds), strict=False)):
        at = labels[row] if count % 2 else (labels[row] + 1) % z.shape[-1]
        if kind == "label alone":
            rows[row, np.arange(z.shape[-1]) != labels[row]] = -INF
        else:
            rows[row, slice(None) if kind == "all -inf" else at] = -INF if kind == "all -inf" else kind


def class_weights(classes, dtype):
    w = np.random.default_rng(classes).uniform(0.1, 2, classes).astype(dtype)
    w[classes // 2] = 0
    return w


def class_probs(shape, dtype):
    """Of the last axis: dense ones, one-hot ones, and such that do not sum to 1."""
    p = np.random.default_rng(shape).dirichlet(np.ones(shape[-1]), shape[:-1])
    rows = p.reshape(-1, shape[-1])
    rows[1::4] = np.eye(shape[-1])[rows[1::4].argmax(1)]
    rows[2::4] *= 1.5
    rows[6::8] = 0
    return p.astype(dtype)


@functools.cache
def _case(shape, dtype, kind, ignore_index):
    rng = np.random.default_rng(len(shape))
    z = 3 * rng.standard_normal(shape)
    y = rng.integers(shape[-1], size=shape[:-1])
    spoil(z, y, SPOILT[kind])
    y.reshape(-1)[2::4] = ignore_index
    return z.astype(dtype), y


def case(shape, dtype, kind="finite", ignore_index=-100):
    """Logits with their classes on the last axis, and labels of which some are ignored."""
    return tuple(array.copy() for array in _case(shape, dtype, kind, ignore_index))


def targets(z, labels, w=None, smoothing=0.0, ignore_index=-100):
    """t in float64, classes last, as the documentation of PyTorch's `cross_entropy` has it; and what rows count."""
    classes = z.shape[-1]
    w = np.ones(classes) if w is None else w.astype(np.float64)
    if labels.dtype.kind == "f":
        return w * ((1 - smoothing) * labels + smoothing / classes), np.ones(labels.shape[:-1], bool)
    valid = labels != ignore_index
    onehot = np.arange(classes) == np.where(valid, labels, 0)[..., None]
    return w * ((1 - smoothing) * onehot + smoothing / classes), valid


def upstream(reduction, rows):
    """A gradient of the loss: one per row, or one in all."""
    return np.float32(1.5) if reduction != "none" else np.random.default_rng(0).uniform(0.5, 2, rows).astype(np.float32)


def by_autograd(loss_of, *arrays, dloss):
    """Loss and gradients, as NumPy arrays."""
    leaves = [double(array, requires_grad=True) for array in arrays]
    loss = loss_of(*leaves)
    loss.backward(double(dloss))
    return loss.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)


LABELLED = ["-100", "ignores 1", "ignores -1", "probabilities"]
TARGETS = list(itertools.product(LABELLED, [False, True]))  # weighted?


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target[0]}-{'weighted' if target[1] else 'plain'}")
@pytest.mark.parametrize("kind", SPOILT)
@pytest.mark.parametrize("shape", [(40, 10), (40, 130), (7, 5, 3, 2), (6, 1), (21, 4, 5), (9,)], ids=str)
def test_cross_entropy(shape, kind, target, smoothing, reduction, dtype, assert_ulps, assert_same_bits):
    """All that PyTorch's function offers; its classes are on axis 1."""
    labels, weighted = target
    ignore_index = {"ignores 1": min(1, shape[-1] - 1), "ignores -1": -1}.get(labels, -100)
    z, y = case(shape, dtype, kind, ignore_index)
    w = class_weights(shape[-1], dtype) if weighted else None
    labelled = class_probs(shape, dtype) if labels == "probabilities" else y
    t, valid = targets(z, labelled, w, smoothing, ignore_index)
    axis = min(1, len(shape) - 1)
    z = np.moveaxis(z, -1, axis)
    given = np.moveaxis(labelled, -1, axis) if labels == "probabilities" else labelled
    dloss = upstream(reduction, y.shape)
    options = {"label_smoothing": smoothing, "reduction": reduction, "ignore_index": ignore_index}
    want, gradient = by_autograd(
        lambda logits: cross_entropy(
            logits,
            double(given) if labels == "probabilities" else torch.tensor(given),
            weight=None if w is None else double(w),
            **options,
        ),
        z,
        dloss=dloss,
    )
    # An ignored row of NaN has no gradient here; in PyTorch it is 0 · NaN.
    gradient[np.broadcast_to(np.expand_dims(~valid, axis), z.shape)] = 0

    total, largest_logit = t.sum(-1), np.abs(np.where(np.isfinite(z), z, 0)).max(axis)
    unit = np.finfo(dtype).eps * total
    peer = 8 * EPS * total * largest_logit  # PyTorch subtracts lse from each logit
    weightless = np.zeros(y.shape)
    if weighted and labels != "probabilities":
        weightless = np.where(w[np.where(valid, y, 0)] == 0, unit, 0)  # see Gotchas in the README
    if reduction != "none":
        peer, weightless = peer[valid].sum(), weightless[valid].sum()
    if reduction == "mean":
        counts = np.count_nonzero(valid) if w is None or labels == "probabilities" else w.astype(float)[y[valid]].sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            unit, peer, weightless = (np.nan_to_num(each / counts, posinf=0) for each in (unit, peer, weightless))

    options |= {"class_weight": w, "axis": axis}
    for library, ulps in LIBRARIES:
        loss, dlogits = library.cross_entropy_with_grad(z, given, **options, dloss=dloss)
        assert loss.dtype == dlogits.dtype == dtype
        assert_ulps(loss, want, ulps, slack=peer + ulps * weightless, message=library.__name__)
        slack = np.expand_dims(ulps * dloss * unit, axis)
        assert_ulps(dlogits, gradient, ulps, slack=slack, message=library.__name__)
        assert_same_bits(library.cross_entropy(z, given, **options), loss, library.__name__)


@EACH_LIBRARY
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(4, 3), (0, 3), (3,)], ids=str)
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weight": [0.5, 1, 2]}], ids=str)
def test_no_row_counts(options, shape, reduction, library, ulps):
    """The mean of nothing: a NaN loss, and no gradient."""
    z, y = np.zeros(shape), np.full(shape[:-1], -100)
    options = {name: np.array(value) if isinstance(value, list) else value for name, value in options.items()}
    tensors = {"weight" if name == "class_weight" else name: torch.tensor(v) for name, v in options.items()}
    if "label_smoothing" in tensors:
        tensors["label_smoothing"] = options["label_smoothing"]
    dloss = np.ones(shape[:-1]) if reduction == "none" else 1.0
    want, gradient = by_autograd(
        lambda logits: cross_entropy(logits, torch.tensor(y), **tensors, reduction=reduction), z, dloss=dloss
    )
    got, dlogits = library.cross_entropy_with_grad(z, y, **options, reduction=reduction)
    assert np.isnan(want).all() == (reduction == "mean") or shape[0] == 0
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(dlogits, gradient)
    assert not gradient.any()


@EACH_LIBRARY
def test_no_rows_of_probabilities(library, ulps, dtype):
    empty = np.empty((0, 3), dtype)
    assert np.isnan(cross_entropy(torch.tensor(empty), torch.tensor(empty)).item())
    loss, dlogits = library.cross_entropy_with_grad(empty, empty)
    assert np.isnan(loss)
    assert dlogits.shape == (0, 3)


def assert_stats(stats, lse, predictions, entropy, ulps, slack, assert_ulps):
    assert_ulps(stats.lse, lse, ulps, slack=slack)
    assert_ulps(stats.entropy, entropy, ulps, slack=slack)
    np.testing.assert_array_equal(stats.predictions, predictions)
    assert stats.lse.dtype == stats.entropy.dtype
    assert stats.predictions.dtype == np.int64


# Options that PyTorch has not, each alone and with others; True stands for arrays.
OPTIONS = [
    {"sample_weight": True},
    {"z_loss": 0.1},
    {"scale": 0.7},
    {"softcap": 5.0},
    {"where": True},
    {"scale": 0.3, "softcap": 2.0},
    {"where": True, "label_smoothing": 0.1},
    {"where": True, "class_weight": True, "label_smoothing": 1.0},
    {"where": True, "z_loss": 0.1, "scale": 1.7},
    {"class_weight": True, "sample_weight": True, "softcap": 5.0},
    {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 5.0},
    {
        "class_weight": True,
        "sample_weight": True,
        "label_smoothing": 0.1,
        "z_loss": 0.1,
        "softcap": 5.0,
        "scale": 0.7,
        "where": True,
    },
]
BY_OPTIONS = pytest.mark.parametrize("options", OPTIONS, ids=lambda options: " ".join(options))
LABELS = pytest.mark.parametrize("labels", ["indices", "probabilities"])
REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def with_arrays(options, z, labels):
    """Options with arrays in place of True; `where` leaves some classes of each row, the label among them."""
    rng = np.random.default_rng(z.shape)
    where = rng.uniform(size=z.shape) < 0.6
    kept = labels if labels.ndim < z.ndim else rng.integers(z.shape[-1], size=z.shape[:-1])
    np.put_along_axis(where, np.maximum(kept, 0)[..., None], True, -1)  # 0 for a row that is ignored
    weights = rng.uniform(0.1, 2, z.shape[:-1]).astype(z.dtype)
    arrays = {"where": where, "sample_weight": weights, "class_weight": class_weights(z.shape[-1], z.dtype)}
    return {name: arrays[name] if value is True else value for name, value in options.items()}


class Composed:
    """The loss of the documentation out of PyTorch's operations, on logits with their classes last."""

    def __init__(
        self,
        dtype,
        labels,
        reduction,
        shape,
        *,
        class_weight=None,
        sample_weight=None,
        label_smoothing=0.0,
        z_loss=0.0,
        softcap=None,
        scale=None,
        where=None,
    ):
        t, self.valid = targets(np.empty(shape), labels, class_weight, label_smoothing)
        self.t = t if where is None else np.where(where, t, 0)
        self.s = np.ones(shape[:-1]) if sample_weight is None else sample_weight.astype(np.float64)
        self.counts = self.s.copy()
        if labels.dtype.kind == "i" and class_weight is not None:
            self.counts *= class_weight.astype(np.float64)[np.maximum(labels, 0)]
        self.counts = self.counts[self.valid].sum() if reduction == "mean" else 1
        self.reduction, self.zeta, self.where = reduction, z_loss, where
        # A label whose class weighs 0 has its loss to an absolute error: see Gotchas in the README.
        self.absolute = class_weight is not None and label_smoothing > 0
        self.softcap, self.scale = (value and float(dtype(value)) for value in (softcap, scale))

    def transformed(self, z):
        q = z if self.scale is None else self.scale * z
        if self.softcap is not None:
            q = self.softcap * torch.tanh(q / self.softcap)
        return q if self.where is None else q.masked_fill(torch.tensor(~self.where), -INF)

    def __call__(self, z):
        q, t = self.transformed(z), torch.tensor(self.t)
        lse = torch.logsumexp(q, -1)
        products = torch.where(t > 0, t * q, 0)  # 0 · −inf is no part of the sum
        loss = torch.tensor(self.s) * (t.sum(-1) * lse - products.sum(-1) + self.zeta * lse * lse)
        loss = torch.where(torch.tensor(self.valid), loss, 0)
        return loss if self.reduction == "none" else loss.sum() / self.counts

    def stats(self, z):
        q = self.transformed(double(z))
        entropy = torch.distributions.Categorical(logits=q).entropy()
        return torch.logsumexp(q, -1).numpy(), q.argmax(-1).numpy(), entropy.numpy()

    def slacks(self, z, dtype, ulps):
        """Of each row: what its loss, its gradient, its Hessian and its statistics may lose, in ulp of their terms."""
        eps, s, zeta = np.finfo(dtype).eps, self.s * self.valid, self.zeta
        q = np.abs(self.transformed(double(z)).numpy())
        q = np.where(np.isfinite(q), q, 0).max(-1)
        total, top, slope = self.t.sum(-1), 1 + q + np.log(z.shape[-1]), self.scale or 1
        # q is rounded: an error of all that follows.
        rounded = 4 * q if self.softcap or self.scale else 0
        loss = 8 * EPS * total * top + eps * (total * rounded + ulps * zeta * top * top + ulps * self.absolute * total)
        gradient = eps * (ulps + rounded) * (total + 2 * zeta * top) * slope
        stats = eps * (ulps * (1 + np.log(z.shape[-1])) + rounded)
        return s * loss, s * gradient, s * gradient * (1 + slope), stats


@pytest.mark.usefixtures("serial")
@REDUCTIONS
@LABELS
@BY_OPTIONS
@pytest.mark.parametrize("shape", [(40, 10), (24, 130), (7, 5, 3)], ids=str)
def test_composed(shape, options, labels, reduction, dtype, assert_ulps, assert_same_bits):
    z, y = case(shape, dtype)
    given = class_probs(shape, dtype) if labels == "probabilities" else y
    options = with_arrays(options, z, given)
    loss_of = Composed(dtype, given, reduction, shape, **options)
    dloss = upstream(reduction, y.shape)
    want, gradient = by_autograd(loss_of, z, dloss=dloss)

    # The axis before the last, to see that arrays move with the logits.
    axis = len(shape) - 2
    z_moved, given, where = (
        array if array is None or array.ndim != len(shape) else np.moveaxis(array, -1, axis)
        for array in (z, given, options.get("where"))
    )
    options |= {"where": where, "reduction": reduction, "axis": axis}
    for library, ulps in LIBRARIES:
        of_loss, of_gradient, _, of_stats = loss_of.slacks(z, dtype, ulps)
        of_loss = of_loss if reduction == "none" else of_loss.sum() / loss_of.counts
        of_gradient = (of_gradient * dloss / loss_of.counts)[..., None]
        # Statistics may change how a loss is rounded.
        for return_stats in (False, True):
            options["return_stats"] = return_stats
            loss, dlogits, *stats = library.cross_entropy_with_grad(z_moved, given, **options, dloss=dloss)
            assert_ulps(loss, want, ulps, slack=of_loss, message=library.__name__)
            assert_ulps(np.moveaxis(dlogits, axis, -1), gradient, ulps, slack=of_gradient, message=library.__name__)
            if where is not None:
                assert not dlogits[~where].any()
            alone = library.cross_entropy(z_moved, given, **options)
            assert_same_bits(alone, (loss, *stats) if stats else loss, library.__name__)
        assert_stats(*stats, *loss_of.stats(z), ulps, of_stats, assert_ulps)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@LABELS
@BY_OPTIONS
def test_hessian_product(options, labels, reduction, dtype, assert_ulps):
    """By autograd of the gradient's product with the vector."""
    shape = (12, 7)
    z, y = case(shape, dtype)
    given = class_probs(shape, dtype) if labels == "probabilities" else y
    options = with_arrays(options, z, given)
    v = np.random.default_rng(1).standard_normal(shape).astype(dtype)
    loss_of = Composed(dtype, given, reduction, shape, **options)
    logits = double(z, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss_of(logits), logits, create_graph=True)
    (want,) = torch.autograd.grad((gradient * double(v)).sum(), logits)
    for library, ulps in LIBRARIES:
        got = library.cross_entropy_hvp(z, given, v, **options, reduction=reduction)
        slack = loss_of.slacks(z, dtype, ulps)[2] * np.abs(v).max(-1) / loss_of.counts
        assert_ulps(got, want.numpy(), ulps, slack=slack[..., None], message=library.__name__)


@pytest.mark.usefixtures("serial")
@REDUCTIONS
@LABELS
@pytest.mark.parametrize("options", [{}, *(each for each in OPTIONS if "where" not in each)], ids=" ".join)
def test_head(options, labels, reduction, dtype, assert_ulps):
    rows, features, classes = 20, 4, 10
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((rows, features), (features, classes), classes))
    y = np.where(np.arange(rows) % 4 == 2, -100, rng.integers(classes, size=rows))
    given = class_probs((rows, classes), dtype) if labels == "probabilities" else y
    z = x.astype(np.float64) @ w + b
    options = with_arrays(options, z.astype(dtype), given)
    loss_of = Composed(dtype, given, reduction, z.shape, **options)
    dloss = upstream(reduction, rows)
    want, *gradients = by_autograd(lambda x, w, b: loss_of(x @ w + b), x, w, b, dloss=dloss)
    options |= {"reduction": reduction, "return_stats": True}
    wide = 1 + np.abs(x).sum(-1) * np.abs(w).max()  # the products round as well
    for library, ulps in LIBRARIES:
        loss, grads, stats = library.linear_cross_entropy_with_grad(x, w, b, given, **options, dloss=dloss)
        _, of_gradient, _, of_stats = (each * wide for each in loss_of.slacks(z, dtype, ulps))
        slack = of_gradient  # the loss of logits that err
        slack = slack if reduction == "none" else slack.sum() / loss_of.counts
        assert_ulps(loss, want, ulps, slack=slack, message=library.__name__)
        slack = (of_gradient * dloss / loss_of.counts).sum()
        for got, gradient, factor in zip(grads, gradients, (np.abs(w).max(), np.abs(x).max(), 1), strict=True):
            assert_ulps(got, gradient, ulps, slack=factor * slack, message=library.__name__)
        assert_stats(stats, *loss_of.stats(z), ulps, of_stats, assert_ulps)
        alone, _ = library.linear_cross_entropy(x, w, b, given, **options)
        assert_ulps(alone, want, ulps, slack=of_gradient if reduction == "none" else of_gradient.sum() / loss_of.counts)


@pytest.mark.usefixtures("serial")
@REDUCTIONS
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("kind", SPOILT)
def test_masked(kind, weighted, reduction, dtype, assert_ulps):
    """Labels and no smoothing: `where` is `masked_fill`, whatever the logits that it leaves out, the label's too."""
    shape = (60, 17)
    z, y = case(shape, dtype, kind)
    w = class_weights(shape[-1], dtype) + dtype(0.5) if weighted else None  # none is 0: 0 · inf is NaN in PyTorch
    where = np.random.default_rng(3).uniform(size=shape) < 0.6
    labelled = np.arange(len(y)), np.maximum(y, 0)
    if kind == "finite":
        where[labelled] = True
    else:
        where[0] = False  # no class at all
    z[~where] = np.resize(dtype([NAN, INF, -INF, 1e30, 0]), np.count_nonzero(~where))
    dloss = upstream(reduction, len(y))
    want, gradient = by_autograd(
        lambda logits: cross_entropy(
            logits.masked_fill(torch.tensor(~where), -INF),
            torch.tensor(y),
            weight=None if w is None else double(w),
            reduction=reduction,
        ),
        z,
        dloss=dloss,
    )
    assert np.isfinite(want).all() == (kind == "finite")
    gradient[y == -100] = 0  # NaN in PyTorch where the row is
    options = {"class_weight": w, "where": where, "reduction": reduction}
    for library, ulps in LIBRARIES:
        loss, dlogits = library.cross_entropy_with_grad(z, y, **options, dloss=dloss)
        assert_ulps(loss, want, ulps, slack=8 * EPS * len(y), message=library.__name__)
        slack = ulps * np.finfo(dtype).eps * np.max(dloss)
        assert_ulps(dlogits, gradient, ulps, slack=slack, message=library.__name__)
        assert not dlogits[~where].any()


@EACH_LIBRARY
def test_a_left_out_label_among_all_targets(library, ulps, dtype):
    """The loss is infinite, the gradient that of the classes left.

    PyTorch with `masked_fill` has an infinite loss of every row with smoothing, since each class is a target; here a
    class that is left out is none, unless it is the label.
    """
    z, y = np.zeros((2, 4), dtype), np.array([1, 1])
    where = np.array([[True, True, False, True], [True, False, True, True]])
    masked = torch.tensor(z).masked_fill(torch.tensor(~where), -INF)
    assert np.isinf(cross_entropy(masked, torch.tensor(y), label_smoothing=0.4, reduction="none").numpy()).all()
    loss, dlogits = library.cross_entropy_with_grad(z, y, where=where, label_smoothing=0.4, reduction="none")
    np.testing.assert_allclose(loss, [0.9 * np.log(3), INF], rtol=8 * np.finfo(dtype).eps)
    # (T a_j − t_j), with T = 0.9 in both rows
    want = [[0.2, 0.3 - 0.7, 0, 0.2], [0.2, 0, 0.2, 0.2]]
    np.testing.assert_allclose(dlogits, want, rtol=8 * np.finfo(dtype).eps, atol=1e-7 if dtype == np.float32 else 1e-15)


@EACH_LIBRARY
@pytest.mark.parametrize("labels", ["indices", "probabilities"])
def test_infinite_logits_and_softcap(labels, library, ulps, dtype, assert_same_bits):
    """They stay infinite: −inf is a class that is left out, +inf spoils its row. PyTorch's tanh makes both finite."""
    z = 3 * np.random.default_rng(4).standard_normal((3, 6)).astype(dtype)
    y = np.array([1, 2, 3])
    where = np.ones(z.shape, bool)
    where[0, 4] = False
    given = np.where(where, class_probs(z.shape, dtype), 0) if labels == "probabilities" else y
    options = {"softcap": 5.0, "scale": 0.7, "reduction": "none"}
    z[0, 4], z[1, 4] = -INF, INF
    assert np.isfinite(5 * torch.tanh(0.7 * torch.tensor(z) / 5).numpy()).all()
    loss, dlogits, stats = library.cross_entropy_with_grad(z, given, **options, return_stats=True)
    masked, dmasked, of_masked = library.cross_entropy_with_grad(z, given, **options, where=where, return_stats=True)
    assert np.isnan(loss[1])
    assert stats.lse[1] == INF
    assert stats.predictions[1] == 4
    assert np.isfinite(masked[[0, 2]]).all()
    if labels == "indices":
        np.testing.assert_allclose(loss, masked, rtol=ulps * np.finfo(dtype).eps)
    else:  # a probability of 0 and a logit of −inf have the product NaN, as in PyTorch
        assert np.isnan(loss[0])
    np.testing.assert_allclose(dlogits[0], dmasked[0], atol=ulps * np.finfo(dtype).eps)
    np.testing.assert_allclose(stats.entropy, of_masked.entropy, rtol=ulps * np.finfo(dtype).eps)
    assert dlogits[0, 4] == 0


@pytest.mark.usefixtures("serial")
@EACH_LIBRARY
@pytest.mark.parametrize("shape", [(40, 3), (40, 10), (40, 130)], ids=str)
def test_statistics_of_spoilt_rows(shape, library, ulps, dtype, assert_ulps):
    """Those of rows that are ignored, too; the first of equal classes, and the first NaN."""
    z, y = case(shape, dtype, "inf and NaN")
    z[5::10] = np.round(z[5::10])
    z[6::10, 1:] = NAN
    _, stats = library.cross_entropy(z, y, return_stats=True)
    lse, predictions = torch.logsumexp(double(z), -1).numpy(), double(z).argmax(-1).numpy()
    probs = torch.softmax(double(z), -1)
    slack = ulps * np.finfo(dtype).eps * (1 + np.log(shape[-1]) + np.nan_to_num(np.abs(lse), posinf=0))
    assert_stats(stats, lse, predictions, torch.special.entr(probs).sum(-1).numpy(), ulps, slack, assert_ulps)
