"""The second derivative of the cross entropy, as a product with a vector."""

import numpy as np

from fastsoftmax import arrays, conversions, kernels, options, threads
from fastsoftmax.conversions import Array
from fastsoftmax.losses import Reduction
from fastsoftmax.options import Asked, Options
from fastsoftmax.reference import rows as reference_rows
from fastsoftmax.targets import Targets, take_targets


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
    softcap: float | None = None,
    scale: float | None = None,
    where: object = None,
    reduction: Reduction = "mean",
    axis: int = -1,
    out: Array | None = None,
) -> Array:
    r"""Compute the product of the cross entropy's Hessian, with respect to the logits, and a vector.

    .. math:: (H v)_j = s \left((T + 2 \zeta\, lse)(a_j v_j - a_j\, a \cdot v) + 2 \zeta\, a_j\, a \cdot v\right),
              \quad T = \sum_j t_j

    with the target t, the sample weights s and the z-loss ζ of `cross_entropy`; each row has a Hessian of its own. That
    is the product with respect to q; where q is not z, it is d · H (d · v) + ∂L/∂q · ∂²q/∂z² · v with d = ∂q/∂z.

    Parameters
    ----------
    logits, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale, where, axis
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
    given_dtype, computed = z.dtype, conversions.compute_dtype(z.dtype)
    z, v = z.astype(computed, copy=False), v.astype(computed, copy=False)
    targets = Targets(*take_targets(labels, ignore_index, arrays.row_shape(z.shape, axis), z.shape, axis))
    asked = Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, where, return_stats=False)
    given = options.checked(asked, z.dtype, z.shape, axis, targets) or options.Options({}, targets.counted)
    rows, tangents = arrays.rows_of(z, axis), arrays.rows_of(v, axis)
    product = _of_rows(rows, tangents, targets, given)
    s = given.values.get("sample_weight", np.ones(len(rows)))
    if reduction == "mean":
        s = s * options.mean_factor(1.0, given.divisor, targets.counted)
    with np.errstate(all="ignore"):
        product *= s.astype(z.dtype)[:, None]
    if targets.probs is None:
        product[targets.labels == targets.ignored] = 0
    if "where" in given.values:
        product[given.values["where"].reshape(rows.shape) == 0] = 0
    with np.errstate(all="ignore"):
        product = arrays.deliver(product, None, z, axis).astype(given_dtype, copy=False)
    return arrays.settle(product, out)


def _alike(logits: object, vector: object) -> tuple[Array, Array]:
    """Take two arrays of one shape and dtype."""
    z, v = conversions.floats("logits", logits), conversions.floats("vector", vector)
    arrays.same_shape("vector", v, "logits", z)
    if z.dtype != v.dtype:
        z, v = conversions.one_dtype({"logits": logits, "vector": vector}, [z, v])
    return z, v


def _of_rows(rows: Array, tangents: Array, targets: Targets, given: Options) -> Array:
    """Compute the product for rows whose samples weigh 1."""
    softcap, scale = given.values.get("softcap"), given.scale
    if softcap is None:
        with np.errstate(all="ignore"):
            product = _along_logits(rows, tangents, targets, given)
            product *= rows.dtype.type(scale**2)
            return product
    with np.errstate(all="ignore"):
        u = rows * np.float64(scale / softcap)
        slope = np.where(np.isinf(u), 0, scale / np.cosh(u) ** 2).astype(rows.dtype)
        bend = (-2 * scale / softcap * np.tanh(u)).astype(rows.dtype)  # ∂²q/∂z² over ∂q/∂z
        product = slope * _along_logits(rows, slope * tangents, targets, given)
        product += _gradient(rows, targets, given) * bend * tangents
    return product


def _along_logits(rows: Array, tangents: Array, targets: Targets, given: Options) -> Array:
    """Compute the product with the Hessian with respect to q."""
    known = {name: value for name, value in given.values.items() if name in ("softcap", "scale", "where")}
    if "where" in known:
        tangents = np.where(known["where"].reshape(rows.shape), tangents, rows.dtype.type(0))
    probs, product = np.empty_like(rows), np.empty_like(rows)
    threads.run(kernels.operations.SOFTMAX.choose([rows], probs).bound(known), rows.size, rows, probs)
    threads.run(kernels.operations.SOFTMAX_BACKWARD.choose([probs], product), rows.size, probs, tangents, product)
    total = _totals(rows, targets, given)
    zeta = given.values.get("z_loss")
    if zeta is None:
        product *= total.astype(rows.dtype)[:, None]
        return product
    lse = np.empty(len(rows), rows.dtype)
    threads.run(kernels.operations.LOGSUMEXP.choose([rows], lse).bound(known), rows.size, rows, lse)
    along = np.einsum("ij,ij->i", probs, tangents, dtype=np.float64)
    product *= (total + 2 * zeta * lse.astype(np.float64)).astype(rows.dtype)[:, None]
    product += (2 * zeta * along).astype(rows.dtype)[:, None] * probs
    return product


def _totals(rows: Array, targets: Targets, given: Options) -> Array:
    """Give each row's T, in float64."""
    values = given.values
    where = values["where"].reshape(rows.shape) != 0 if "where" in values else None
    row_options = reference_rows.RowOptions(
        values.get("class_weight"), targets.ignored, values.get("label_smoothing", 0.0), 0.0, None, None, where
    )
    labels = targets.labels if targets.probs is None else values["label_probs"]
    return reference_rows.target_of(rows, labels, row_options).total.astype(np.float64)


def _gradient(rows: Array, targets: Targets, given: Options) -> Array:
    """Compute ∂L/∂z of each row, of samples that weigh 1."""
    values = {name: value for name, value in given.values.items() if name != "sample_weight"}
    dlogits, losses = np.empty_like(rows), np.empty(len(rows))
    kernel = kernels.operations.CROSS_ENTROPY_WITH_GRAD.choose([rows], dlogits).bound(values)
    dloss = arrays.no_rows(rows.dtype)
    labels, ignored = targets.labels, targets.ignored
    threads.run(kernel, rows.size, rows, labels, ignored, given.scale, dloss, losses, dlogits)
    return dlogits
