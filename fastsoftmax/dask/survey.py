"""What a fit must know of all rows before it begins: that they fit, which labels there are, and what they weigh."""

from typing import NamedTuple

import numpy as np

from fastsoftmax.conversions import Array, array_of
from fastsoftmax.dask.tasks import of_chunk


class Survey(NamedTuple):
    """The classes of rows, in order, how many rows each has, and what they weigh."""

    classes: Array
    counts: Array
    weights: Array


@of_chunk
def survey(X: object, y: object, sample_weight: object) -> Survey:
    """Check a chunk of rows, and look at their labels."""
    rows, labels = array_of("X", X), array_of("y", y)
    _check_finite("X", rows)
    if labels.shape != rows.shape[:1]:
        raise ValueError(f"y: expected a label for each of {len(rows)} rows, got shape {labels.shape}")
    if labels.dtype.kind == "f":
        _check_finite("y", labels)
        if (continuous := labels % 1 != 0).any():
            raise ValueError(f"y: expected class labels, got continuous numbers such as {labels[continuous][0]}")
    try:
        classes, found = np.unique(labels, return_inverse=True)
    except TypeError as error:
        raise TypeError(f"y: expected labels that have an order, got {labels.dtype}: {error}") from error
    counts = np.bincount(found, minlength=len(classes))
    if sample_weight is None:
        return Survey(classes, counts, counts.astype(np.float64))
    weights = weights_of(sample_weight, len(rows))
    _check_finite("sample_weight", weights)
    if weights.min(initial=0) < 0:
        raise ValueError(f"sample_weight: expected weights from 0 up, got {weights.min()}")
    return Survey(classes, counts, np.bincount(found, weights, len(classes)))


def weights_of(sample_weight: object, n_rows: int) -> Array:
    """Take what each row weighs, as float64."""
    weights = array_of("sample_weight", sample_weight).astype(np.float64)
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight: expected a weight for each of {n_rows} rows, got shape {weights.shape}")
    return weights


def _check_finite(name: str, array: Array) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        row = int(np.argwhere(~finite)[0, 0])
        raise ValueError(f"{name}: expected finite numbers, got {array[~finite][0]} in row {row}")


def merge_surveys(first: Survey, second: Survey) -> Survey:
    """Put together what two chunks have."""
    labels = np.concatenate([first.classes, second.classes])
    classes, found = np.unique(labels, return_inverse=True)
    counts, weights = np.zeros(len(classes), np.int64), np.zeros(len(classes))
    for each, at in ((first, found[: len(first.classes)]), (second, found[len(first.classes) :])):
        counts[at] += each.counts
        weights[at] += each.weights
    return Survey(classes, counts, weights)
