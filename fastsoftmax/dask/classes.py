"""Logsumexp and cross entropy of logits whose classes lie in several chunks, each perhaps on a machine of its own.

Of each row a shard of the classes sends a pair, (max, Σ) with Σ = Σ_j e^{z_j − max}, as in an online softmax, and two
merge to one. Where the model is sure of a row, its loss must not cancel: so the label's own term stays out of Σ, and
the loss is log(1 + Σ) where the label's logit is the greatest.
"""

import itertools
from typing import Any, NamedTuple

import dask.array as da
import numpy as np
from dask.delayed import Delayed, delayed

from fastsoftmax import arrays, kernels, threads
from fastsoftmax.conversions import Array, compute_dtype, floats
from fastsoftmax.dask import chunks
from fastsoftmax.dask.tasks import mapped, of_chunk, on_one_thread, sent, tree
from fastsoftmax.losses import Reduction, reduce
from fastsoftmax.parts import merge
from fastsoftmax.targets import Targets, take_targets


class Labels(NamedTuple):
    """What labels may be."""

    n_classes: int
    ignored: int


class Shard(NamedTuple):
    """What some of the classes add up to in each row, in float64."""

    top: Array  # the greatest logit
    total: Array  # Σ_j e^{z_j − top} of the classes but the label's
    label_logit: Array  # in the shard that has the label; else 0


class Sums(NamedTuple):
    """What rows add up to."""

    loss: float
    counted: int


def logsumexp(logits: object) -> da.Array:
    r"""Compute the logarithm of the sum of exponentials of each row, in chunks of rows and classes.

    .. math:: lse = \log \Sigma_k e^{lse_k}, \quad lse_k = m_k + \log \Sigma_{j \in k} e^{z_j - m_k}, \quad
              m_k = \max_{j \in k} z_j

    Parameters
    ----------
    logits : dask.array.Array of float32, float64, float16, bfloat16 or integers, shape (N, C)
        z, in any chunks.

    Returns
    -------
    dask.array.Array, shape (N,)
        The dtype of `logits`, in the chunks of its rows; infinities and NaN as `fastsoftmax.logsumexp` has them. Near 0
        its error is that of a number near 1.

    Raises
    ------
    TypeError, ValueError
        If `logits` does not fit.

    References
    ----------
    Milakov, Gimelshein, Online normalizer calculation for softmax, 2018.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastsoftmax.dask import logsumexp
    >>> logsumexp(da.full((2, 4), 1000.0, chunks=(1, 2))).compute()
    array([1001.38629436, 1001.38629436])
    """
    z, dtype = _logits(logits, "fastsoftmax.logsumexp")
    (grid,) = chunks.blocks(z)
    parts = mapped(_shard_of_all, zip(_places(z), grid, strict=True))
    shards = [tree(_merge, of_row) for of_row in _by_rows(parts, z)]
    return chunks.gathered(_lse, shards, sent(dtype), chunks=z.chunks[:1], dtype=dtype)


def cross_entropy(
    logits: object, labels: object, *, ignore_index: int = -100, reduction: Reduction = "mean"
) -> da.Array:
    r"""Compute the cross entropy of logits in chunks of rows and classes.

    .. math:: L_i = \log\left(1 + e^{\log \Sigma_{j \ne y} e^{z_j} - z_y}\right)

    Each shard of the classes sends three float64 for each of its rows.

    Parameters
    ----------
    logits : dask.array.Array of float32, float64, float16, bfloat16 or integers, shape (N, C)
        z, in any chunks.
    labels : dask.array.Array or array_like of integers, shape (N,)
        y, a class index for each row; rechunked as the rows are.
    ignore_index : int
        Rows with this label have no loss and do not count in the mean.
    reduction : {"mean", "sum", "none"}
        The mean over the rows that count (NaN if there are none), the sum, or a loss for each row.

    Returns
    -------
    dask.array.Array
        Of no axes, or for "none" in the chunks of the rows; as `fastsoftmax.cross_entropy` gives it.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit; if a label is no class, when it is computed.

    References
    ----------
    Shoeybi et al., Megatron-LM: training multi-billion parameter language models using model parallelism, 2019,
    section 3, which splits the classes of a loss likewise.

    Examples
    --------
    >>> import dask.array as da
    >>> from fastsoftmax.dask import cross_entropy
    >>> logits = da.from_array(np.log([[1.0, 3.0], [4.0, 1.0]]), chunks=(2, 1))
    >>> np.exp(-cross_entropy(logits, [1, 0], reduction="none").compute())
    array([0.75, 0.8 ])
    """
    z, dtype = _logits(logits, "fastsoftmax.cross_entropy")
    if not z.shape[1]:
        raise ValueError(f"logits: expected at least one class, got shape {z.shape}")
    y = chunks.beside("labels", labels, z, "logits")
    arrays.check_reduction(reduction)
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, one per row, got {y.dtype} of shape {y.shape}")
    allowed = Labels(z.shape[1], arrays.integer("ignore_index", ignore_index))
    _targets(np.empty(0, np.int64), 0, allowed)
    grid, own = chunks.blocks(z, y)
    starts, given = chunks.starts(z.chunks[1]), sent(allowed)
    with_labels = [(at, shard, own[at[0]], starts[at[1]]) for at, shard in zip(_places(z), grid, strict=True)]
    parts = mapped(_shard, with_labels, given)
    shards = [tree(_merge, of_row) for of_row in _by_rows(parts, z)]
    losses = mapped(_losses, zip(range(len(own)), shards, own, strict=True), given)
    if reduction == "none":
        return chunks.gathered(_rounded, losses, sent(dtype), chunks=z.chunks[:1], dtype=dtype)
    sums = tree(merge, mapped(_sums, zip(range(len(own)), losses, own, strict=True), given))
    return chunks.single(delayed(_reduced)(sums, reduction, dtype), (), compute_dtype(dtype))


def _logits(value: object, instead: str) -> tuple[da.Array, np.dtype[Any]]:
    """Take logits, and tell the dtype of the result."""
    z = chunks.matrix("logits", value, f"{instead} takes arrays in memory")
    return z, floats("logits", np.empty(0, z.dtype)).dtype


def _places(z: da.Array) -> list[tuple[int, int]]:
    """Give the numbers of chunks, those of the first rows first."""
    rows, columns = z.numblocks
    return list(itertools.product(range(rows), range(columns)))


def _by_rows(grid: list[Delayed], z: da.Array) -> list[list[Delayed]]:
    """Give the chunks of the same rows together."""
    n_shards = z.numblocks[1]
    return [grid[at : at + n_shards] for at in range(0, len(grid), n_shards)]


@of_chunk
def _shard_of_all(logits: object) -> Shard:
    """Sum up a shard without labels."""
    z = arrays.matrix("logits", logits)
    return _summed(z, np.zeros(len(z), np.int64), np.zeros(len(z), np.bool_))


@of_chunk
def _shard(logits: object, labels: object, start: int, allowed: Labels) -> Shard:
    """Sum up a shard whose first class is `start`."""
    z = arrays.matrix("logits", logits)
    y = _targets(labels, len(z), allowed).labels - start
    return _summed(z, y, (y >= 0) & (y < z.shape[1]))


def _summed(z: Array, y: Array, has_label: Array) -> Shard:
    """Sum up the classes but the label's, where that is among them.

    Against the greatest logit a class has a cross entropy of its own, log Σ_j e^{z_j − z_class}, that a kernel computes
    to the last digits, however small it is. That of the label, or else of the greatest logit, gives the sum.
    """
    rows = np.arange(len(z))
    label_logit = np.zeros(len(z))
    if not z.shape[1]:
        return Shard(np.full(len(z), -np.inf), np.zeros(len(z)), label_logit)
    against = z.argmax(axis=1)
    top = z[rows, against].astype(np.float64)
    label_logit[has_label] = z[rows[has_label], y[has_label]]
    leaves_out = has_label & (label_logit != -np.inf)  # else there is nothing to leave out
    against[leaves_out] = y[leaves_out]
    losses = _losses_unrounded(z, against)
    with np.errstate(all="ignore"):
        total = np.exp(losses - np.where(leaves_out, top - label_logit, 0))
        total[leaves_out] *= -np.expm1(-losses[leaves_out])
    return Shard(top, np.where(np.isinf(top), top > 0, total), label_logit)


def _losses_unrounded(z: Array, y: Array) -> Array:
    """Compute the cross entropy of rows in float64, not rounded to the dtype of the logits."""
    rows, losses = arrays.contiguous(z), np.empty(len(z))
    kernel = kernels.operations.CROSS_ENTROPY.choose([rows], losses)
    threads.run(kernel, rows.size, rows, y, -1, losses)
    return losses


def _merge(first: Shard, second: Shard) -> Shard:
    """Add the sums of two shards, against the greater of their greatest logits."""
    with np.errstate(all="ignore"):
        top = np.maximum(first.top, second.top)
        total = first.total * _exp_of_gap(first.top, top) + second.total * _exp_of_gap(second.top, top)
    return Shard(top, total, first.label_logit + second.label_logit)


def _exp_of_gap(a: Array, b: Array) -> Array:
    """Compute e^{a − b} for a ≤ b, with what the rounded difference lacks: of 60 that is 30 ulp of the result."""
    gap = a - b
    rounded = a - gap
    lacks = (a - (gap + rounded)) + (rounded - b)  # Knuth's sum of two
    exp = np.exp(gap)
    exp += np.where(np.isfinite(lacks), exp * lacks, 0)
    return np.where(a == b, 1.0, exp)


def _targets(labels: object, n_rows: int, allowed: Labels) -> Targets:
    return Targets(*take_targets(labels, allowed.ignored, (n_rows,), (n_rows, allowed.n_classes), 1))


@of_chunk
def _losses(shards: Shard, labels: object, allowed: Labels) -> Array:
    """Compute the losses of rows from all their shards."""
    with np.errstate(all="ignore"):
        gap = shards.top - shards.label_logit
        behind = gap + np.log(shards.total + np.exp(-gap))
        losses: Array = np.where(gap == 0, np.log1p(shards.total), behind)
    losses[shards.top == np.inf] = np.nan  # as the softmax of such a row is
    losses[_targets(labels, len(losses), allowed).labels == allowed.ignored] = 0
    return losses


@of_chunk
def _sums(losses: Array, labels: object, allowed: Labels) -> Sums:
    total = kernels.operations.HELPERS.total_loss.serial(losses)
    return Sums(float(total), _targets(labels, len(losses), allowed).counted)


@on_one_thread
def _reduced(sums: Sums, reduction: Reduction, dtype: np.dtype[Any]) -> Any:
    return reduce(np.array([sums.loss]), sums.counted, reduction, dtype, ())


@on_one_thread
def _lse(shards: Shard, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return _rounded(shards.top + np.log(shards.total), dtype)


@on_one_thread
def _rounded(rows: Array, dtype: np.dtype[Any]) -> Array:
    rounded: Array = reduce(rows, 1.0, "none", dtype, rows.shape)
    return rounded
