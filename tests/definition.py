"""The loss with all its options as it is defined, row by row, in a wider dtype; and arrays for its options.

In the tables of options that tests go through True stands for an array, `probabilities` for class probabilities in
place of labels. `where` leaves out about a third of the classes: "kept" leaves each row its label, "any" does not.
"""

from typing import NamedTuple

import numpy as np

PER_ROW = ("labels", "sample_weight", "where")  # arguments whose first axis is that of the rows


def weights_of(classes, dtype):
    """Weights of several scales, a zero among many."""
    weights = np.random.default_rng(classes).uniform(0.1, 3, classes)
    weights[2::3] *= 1e-3
    weights[5::7] = 0
    return weights.astype(dtype)


def probabilities_of(y, classes, dtype):
    """Class probabilities of rows: dense, of the label alone, with zeros, of another sum than 1, and all zero."""
    rows = np.arange(len(y))
    p = np.random.default_rng([len(y), classes, 1]).exponential(size=(len(y), classes))
    p[rows % 5 == 1] = 0
    p[rows % 5 == 1, y[rows % 5 == 1]] = 1
    p[np.ix_(rows % 5 == 2, np.arange(classes) % 3 == 1)] = 0
    p /= np.maximum(p.sum(axis=1, keepdims=True), 1e-300)
    p[rows % 5 == 3] *= 1.5
    p[rows % 10 == 4] = 0
    return p.astype(dtype)


def mask_of(y, classes, kind):
    """Which classes each row has."""
    rows = np.arange(len(y))
    where = np.random.default_rng([len(y), classes, 2]).random((len(y), classes)) > 1 / 3
    where[rows, y] = True if kind == "kept" else rows % 3 > 0
    return where


def with_arrays(options, y, classes, dtype):
    """Options of rows with these labels, with arrays in place of True; `labels` among them."""
    options = dict(options)
    labels = probabilities_of(y, classes, dtype) if options.pop("probabilities", False) else y
    if "where" in options:
        options["where"] = mask_of(y, classes, options["where"])
    if "class_weight" in options:
        options["class_weight"] = weights_of(classes, dtype)
    if "sample_weight" in options:
        options["sample_weight"] = weights_of(len(y), np.float64)[::-1].copy()
    return {"labels": labels, **options}


def of_rows(options, rows):
    """The same options for some of the rows."""
    return {name: value[rows] if name in PER_ROW else value for name, value in options.items()}


def widened(options, dtype, wide):
    """The same numbers for the reference in a wider dtype: as they are in the dtype of the logits."""
    changed = {}
    for name, value in options.items():
        if name in ("scale", "softcap"):
            value = wide.type(dtype(value))
        elif isinstance(value, np.ndarray) and value.dtype.kind == "f":
            value = value.astype(wide)
        changed[name] = value
    return changed


class Rows(NamedTuple):
    """What there is of each row; of what may cancel also the largest of its terms."""

    loss: np.ndarray
    dlogits: np.ndarray
    largest: np.ndarray  # of dlogits
    lse: np.ndarray
    largest_of_lse: np.ndarray
    entropy: np.ndarray
    predictions: np.ndarray


def exactly(
    z,
    labels,
    wide,
    *,
    class_weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=0.0,
    z_loss=0.0,
    softcap=None,
    scale=None,
    where=None,
    return_stats=False,
):
    """Compute loss, gradient and statistics of finite logits (N, C) without cancellation that the definition has not.

    No term of the loss or the entropy is negative. Where the target is the label alone, its entry of the gradient is
    the sum of the others.
    """
    n_rows, n_classes = z.shape
    dtype, rows = z.dtype.type, np.arange(n_rows)
    where = np.ones(z.shape, bool) if where is None else where
    smoothing, zeta = wide.type(label_smoothing), wide.type(z_loss)
    w = np.ones(n_classes, wide) if class_weight is None else class_weight.astype(wide)
    s = np.ones(n_rows, wide) if sample_weight is None else sample_weight.astype(wide)

    slope = wide.type(dtype(1 if scale is None else scale))
    q = slope * z.astype(wide)
    if softcap is not None:
        cap = wide.type(dtype(softcap))
        with np.errstate(over="ignore"):
            q, slope = cap * np.tanh(q / cap), slope / np.cosh(q / cap) ** 2

    predictions = np.where(where, z, -np.inf).argmax(axis=1)
    m = q[rows, predictions]
    below = np.where(where, np.maximum(m[:, None] - q, 0), np.inf)
    e = np.exp(-below)
    others = np.where(np.arange(n_classes) == predictions[:, None], 0, e).sum(axis=1)
    log_sum = np.log1p(others)
    lse, a = m + log_sum, e / (1 + others)[:, None]
    entropy = log_sum + (a * np.where(e > 0, below, 0)).sum(axis=1)

    has_label = labels.dtype.kind != "f"
    valid = labels != ignore_index if has_label else np.ones(n_rows, bool)
    if has_label:
        y = np.where(valid, labels, 0)
        t = np.where(where, smoothing / n_classes * w, 0)
        t[rows, y] += (1 - smoothing) * w[y]
    else:
        t = np.where(where, w * ((1 - smoothing) * labels.astype(wide) + smoothing / n_classes), 0)
    total, curve = t.sum(axis=1), 2 * zeta * lse
    loss = (t * np.where(t > 0, below, 0)).sum(axis=1) + total * log_sum + zeta * lse * lse
    dq = a * (total + curve)[:, None] - t
    if has_label and not label_smoothing:
        but_y = np.where(np.arange(n_classes) == y[:, None], 0, a).sum(axis=1)
        dq[rows, y] = curve * a[rows, y] - total * but_y
    largest = np.maximum(np.maximum(a * total[:, None], np.abs(a * curve[:, None])), t)

    nothing = ~where.any(axis=1)
    loss[nothing], lse[nothing], entropy[nothing] = np.nan, -np.inf, np.nan
    factor = np.where(valid, s, 0)[:, None] * slope
    return Rows(
        s * np.where(valid, loss, 0),
        np.where(where, dq * factor, 0),
        np.where(where, largest * factor, 0),
        lse,
        np.maximum(np.abs(m), log_sum),
        entropy,
        predictions,
    )
