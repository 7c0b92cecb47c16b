"""The second derivative of the cross entropy, as a product with a vector."""

import numpy as np

from fastsoftmax import arrays, conversions, options, threads
from fastsoftmax.conversions import Array
from fastsoftmax.kernels import operations
from fastsoftmax.losses import Reduction


def cross_entropy_hvp(
    logits: object,
    labels: object,
    vector: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    r"""Compute the product of the cross entropy's Hessian, with respect to the logits, and a vector.

    .. math:: (H v)_j = s \left((T + 2 \zeta\, lse)(a_j v_j - a_j\, a \cdot v) + 2 \zeta\, a_j\, a \cdot v\right),
              \quad T = \sum_j t_j

    with the target t, the sample weights s and the z-loss ζ of `cross_entropy`; each row has a Hessian of its own.

    Parameters
    ----------
    logits, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, axis
        As in `cross_entropy`. Ignored rows give 0.
    vector : array_like
        v, shape and dtype of `logits`.
    reduction : {"mean", "sum", "none"}
        That of the loss; "none" gives what "sum" does.
    out : ndarray, optional
        Receives the result: shape and dtype of `logits`; either of the two arrays works in place.

    Returns
    -------
    ndarray
        H·v, shape and dtype of `logits`; `out` if given.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class: nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> fs.cross_entropy_hvp(np.log([[1.0, 3.0]]), [1], [[1.0, 0.0]])
    array([[ 0.1875, -0.1875]])
    """
    z, v = _alike(logits, vector)
    axis = arrays.class_axis("logits", z, axis)
    arrays.check_reduction(reduction)
    if out is not None:
        arrays.check_out(out, z.shape, z.dtype)
    shape, n_classes = arrays.row_shape(z, axis), z.shape[axis]
    flat_labels, ignored, counted = arrays.class_labels(labels, shape, n_classes, ignore_index)
    given = options.checked(
        (class_weight, sample_weight, label_smoothing, z_loss),
        (z.dtype, n_classes),
        (flat_labels, shape, ignored, counted),
    )
    given = given or options.Options({}, counted)
    rows, tangents = arrays.rows_of(z, axis), arrays.rows_of(v, axis)
    probs, product = np.empty_like(rows), np.empty_like(rows)
    threads.run(operations.SOFTMAX.choose([rows], probs), rows.size, rows, probs)
    threads.run(operations.SOFTMAX_BACKWARD.choose([probs], product), rows.size, probs, tangents, product)
    factor = options.mean_factor(1.0, given.divisor, counted) if reduction == "mean" else 1.0
    scale, slope = _row_factors(flat_labels, ignored, given, factor)
    with np.errstate(all="ignore"):
        if zeta := given.values.get("z_loss"):
            lse = np.empty(len(rows), z.dtype)
            threads.run(operations.LOGSUMEXP.choose([rows], lse), rows.size, rows, lse)
            slope = slope + 2 * zeta * lse.astype(np.float64)
            along = np.einsum("ij,ij->i", probs, tangents, dtype=np.float64)
            probs *= (scale * 2 * zeta * along).astype(z.dtype)[:, None]
            product *= (scale * slope).astype(z.dtype)[:, None]
            product += probs
        else:
            product *= (scale * slope).astype(z.dtype)[:, None]
    product[flat_labels == ignored] = 0
    return arrays.settle(arrays.deliver(product, None, z, axis), out)


def _alike(logits: object, vector: object) -> tuple[Array, Array]:
    """Take two arrays of one shape and dtype."""
    z, v = conversions.floats("logits", logits), conversions.floats("vector", vector)
    arrays.same_shape("vector", v, "logits", z)
    if z.dtype != v.dtype:
        z, v = conversions.one_dtype({"logits": logits, "vector": vector}, [z, v])
    return z, v


def _row_factors(labels: Array, ignored: int, given: options.Options, factor: float) -> tuple[Array, Array]:
    """Give each row's s, times the factor of all, and its T."""
    values = given.values
    y = np.where(labels == ignored, 0, labels)
    weights = values.get("class_weight")
    w = np.ones(len(y)) if weights is None else weights[y].astype(np.float64)
    smoothing = values.get("label_smoothing", 0.0)
    total = (1 - smoothing) * w + smoothing * values.get("mean_weight", 0.0)
    return factor * values.get("sample_weight", np.ones(len(y))), total
