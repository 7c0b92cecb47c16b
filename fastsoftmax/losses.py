"""Cross entropy of logits, with and without its gradient."""

import math
from typing import Any, Literal

import numpy as np

from fastsoftmax import arrays, conversions, kernels, options, spatial, threads
from fastsoftmax.conversions import Array
from fastsoftmax.options import OFF
from fastsoftmax.targets import Targets, take_targets

Reduction = Literal["mean", "sum", "none"]


def cross_entropy(
    logits: object,
    labels: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    where: object = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    axis: int = -1,
) -> Any:
    r"""Compute the cross entropy of logits and class labels or class probabilities.

    .. math:: L_i = -\log a_{i,y_i} = \log \sum_j e^{z_{ij}} - z_{i,y_i}, \quad L = \frac{1}{N} \sum_i L_i

    With options the logits z become q, and the label's class a target t over all C classes, from class weights w, label
    smoothing ε, and the label y or class probabilities p, as in PyTorch. Each row's loss is multiplied by the weight s
    of its sample, and the z-loss ζ keeps the logarithm of the sum, lse, near 0:

    .. math:: q_j = \mathrm{softcap} \cdot \tanh(\mathrm{scale} \cdot z_j / \mathrm{softcap}), \quad
              t_j = (1 - \epsilon) w_y 1\{j = y\} + \frac{\epsilon}{C} w_j \quad\text{or}\quad
              t_j = w_j \left((1 - \epsilon) p_j + \frac{\epsilon}{C}\right)

    .. math:: L_i = s_i \left(T_i\, lse_i - \sum_j t_{ij} q_{ij} + \zeta\, lse_i^2\right), \quad
              T = \sum_j t_j, \quad lse = \log \sum_j e^{q_j}, \quad
              L = \frac{\sum_i L_i}{\sum_i s_i w_{y_i}}

    Neither the probabilities nor anything else of the logits' size is stored, and nothing cancels where the model is
    sure of the label.

    Parameters
    ----------
    logits : array_like of float32, float64, float16 or bfloat16
        z, of any shape with at least one class. Integers are taken as float64. Half types are computed in float32 and
        rounded once, when a result is stored.
    labels : array_like of integers, or of floats
        y, a class index for each row: the shape of `logits` without the axis of the classes. Or class probabilities p
        of the shape of `logits`, finite numbers from 0 up; they need not add up to 1.
    class_weight : array_like, shape (C,), optional
        w, a weight from 0 up for each class. Ones if left out. This, class probabilities, softcap and scale are taken
        in the dtype that the logits are computed in.
    sample_weight : array_like, optional
        s, a weight from 0 up for each row, of the shape of the rows. Ones if left out.
    ignore_index : int
        Rows with this label have no loss and do not count in the mean. Class probabilities go with the default alone.
    label_smoothing : float
        ε, from 0 to 1: the share of the target that goes to all classes alike.
    z_loss : float
        ζ, from 0 up: the factor of the squared lse.
    softcap : float, optional
        Above 0: keeps finite logits between −softcap and softcap; infinite ones stay.
    scale : float, optional
        Above 0: a factor of the logits, the inverse of a temperature.
    where : array_like of bool, optional
        Which classes a row has, of the shape of `logits`. The others have probability 0, no gradient and no share of
        the target; a label among them has an infinite loss.
    reduction : {"mean", "sum", "none"}
        The mean over the rows that count, each as often as its sample and its label's class weigh (with class
        probabilities its sample alone; NaN if there are none), the sum, or a loss for each row.
    return_stats : bool
        Append the `RowStats` (lse, predictions, entropy) of all rows, ignored ones too: lse, the first greatest class,
        and −Σ_j a_j log a_j, of the same visit of the row.
    axis : int
        The axis of the classes.

    Returns
    -------
    loss : scalar or ndarray
        The dtype of `logits`; for "none" the shape of the rows. A mean or sum of half types is a float32: they have two
        or three digits. Infinities and NaN as in PyTorch, where it has the option: a NaN spoils its own row and the
        reduced loss.
    stats : RowStats
        If asked for: lse and entropy in the dtype that the logits are computed in, predictions as int64, all of the
        shape of the rows.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class: the message names its row.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> logits = np.log([[1.0, 3.0], [4.0, 1.0]])
    >>> np.exp(-fs.cross_entropy(logits, [1, 0], reduction="none"))
    array([0.75, 0.8 ])
    """
    array = conversions.floats("logits", logits)
    axis = arrays.class_axis("logits", array, axis)
    arrays.check_reduction(reduction)
    whole_shape = array.shape
    shape = arrays.row_shape(whole_shape, axis)
    targets = take_targets(labels, ignore_index, shape, whole_shape, axis)
    flat_labels, ignored, counted, probs = targets
    given = None
    if not (
        softcap is scale is class_weight is sample_weight is where is probs is None
        and label_smoothing is z_loss is OFF
        and return_stats is False
    ):
        asked = options.Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, where, return_stats)
        given = options.checked(asked, conversions.compute_dtype(array.dtype), whole_shape, axis, Targets(*targets))
    divisor = given.divisor if given else counted
    rows = arrays.rows_in_place(array, axis)
    call = spatial.prepare(kernels.operations.CROSS_ENTROPY, [array], axis, given) if rows is None else None
    if call:
        losses = np.empty(call.n_rows)
        call.run(flat_labels, ignored, losses)
    else:
        if rows is None:
            rows = arrays.rows_of(array, axis)
        losses = np.empty(len(rows))
        kernel = kernels.operations.CROSS_ENTROPY.choose([rows], losses)
        threads.run(given.bound(kernel) if given else kernel, rows.size, rows, flat_labels, ignored, losses)
    loss = reduce(losses, divisor, reduction, array.dtype, shape)
    return (loss, *given.stats(conversions.compute_dtype(array.dtype), shape)) if return_stats and given else loss


def cross_entropy_with_grad(
    logits: object,
    labels: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    where: object = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    axis: int = -1,
    dloss: object = None,
    out: Array | None = None,
) -> Any:
    r"""Compute the cross entropy and its gradient in one visit of each row.

    .. math:: \partial L / \partial z = (a - \mathrm{onehot}(y)) / N

    With options (see `cross_entropy`) it is :math:`s\,((T + 2 \zeta\, lse)\, a_j - t_j)\, \partial q_j / \partial z_j`
    with :math:`\partial q_j / \partial z_j = \mathrm{scale}\,(1 - (q_j / \mathrm{softcap})^2)`, for "mean" divided by
    :math:`\sum_i s_i w_{y_i}`, for "sum" and "none" by nothing. The label's own entry is :math:`-\sum_{j \ne y} a_j`,
    which does not cancel where the model is sure.

    Parameters
    ----------
    logits, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale, where,
    reduction, return_stats, axis
        As in `cross_entropy`. Ignored rows have no gradient.
    dloss : float or array_like, optional
        The upstream gradient: a scalar for "mean" and "sum", one per row for "none". Ones if left out.
    out : ndarray, optional
        Receives the gradient: shape and dtype of `logits`. ``out=logits`` works in place, and needs no
        memory, unless rows must be copied: of classes on another axis with `where` or class probabilities.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` gives it.
    dlogits : ndarray
        ∂L/∂z, shape and dtype of `logits`; `out` if given.
    stats : RowStats
        If asked for.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class: nothing is written then.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> loss, dlogits = fs.cross_entropy_with_grad(np.log([[1.0, 3.0], [4.0, 1.0]]), [1, 0])
    >>> dlogits.round(12)
    array([[ 0.125, -0.125],
           [-0.1  ,  0.1  ]])
    """
    array = conversions.floats("logits", logits)
    axis = arrays.class_axis("logits", array, axis)
    arrays.check_reduction(reduction)
    if out is not None:
        arrays.check_out(out, array.shape, array.dtype)
    whole_shape = array.shape
    shape = arrays.row_shape(whole_shape, axis)
    factor, row_factors = arrays.upstream(dloss, reduction, shape, array.dtype)
    targets = take_targets(labels, ignore_index, shape, whole_shape, axis)
    flat_labels, ignored, counted, probs = targets
    given = None
    if not (
        softcap is scale is class_weight is sample_weight is where is probs is None
        and label_smoothing is z_loss is OFF
        and return_stats is False
    ):
        asked = options.Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, where, return_stats)
        given = options.checked(asked, conversions.compute_dtype(array.dtype), whole_shape, axis, Targets(*targets))
    divisor = given.divisor if given else counted
    if reduction == "mean":
        factor = options.mean_factor(factor, divisor, counted)
    if given:
        factor *= given.scale
    rows = arrays.rows_in_place(array, axis)
    call = None
    if rows is None:
        others = (flat_labels, row_factors, *given.arrays) if given else (flat_labels, row_factors)
        dlogits = spatial.result_for(out, [array], axis, others)
        call = spatial.prepare(kernels.operations.CROSS_ENTROPY_WITH_GRAD, [array], axis, given, dlogits)
    if call:
        losses = np.empty(call.n_rows)
        call.run(flat_labels, ignored, factor, row_factors, losses)
        dlogits = arrays.settle(dlogits, out)
    else:
        if rows is None:
            rows = arrays.rows_of(array, axis)
        read = (rows, flat_labels, row_factors)
        dlogits = arrays.rows_for(out, array, axis, (*read, *given.arrays) if given else read)
        losses = np.empty(len(rows))
        kernel = kernels.operations.CROSS_ENTROPY_WITH_GRAD.choose([rows], dlogits)
        bound = given.bound(kernel) if given else kernel
        threads.run(bound, rows.size, rows, flat_labels, ignored, factor, row_factors, losses, dlogits)
        dlogits = arrays.deliver(dlogits, out, array, axis)
    loss = reduce(losses, divisor, reduction, array.dtype, shape)
    return (loss, dlogits, *given.stats(conversions.compute_dtype(array.dtype), shape)) if given else (loss, dlogits)


def reduce(losses: Array, divisor: float, reduction: Reduction, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """Reduce the rows' float64 losses and round once, to the dtype of the logits; what is too large is infinite.

    A single number of half logits is a float32: a half type has two or three digits.
    """
    if reduction == "none":
        with np.errstate(all="ignore"):
            return losses.astype(dtype, copy=False).reshape(shape)[()]
    total = kernels.operations.HELPERS.total_loss.serial(losses)
    if reduction == "mean":
        total = total / divisor if divisor else options.mean_of_nothing(total)
    limits = _RANGE.get(dtype)
    if limits is None:
        dtype = conversions.compute_dtype(dtype)
        limits = _RANGE[dtype]
    tiny, too_large = limits
    if tiny <= total < too_large:
        return dtype.type(total)
    with np.errstate(all="ignore"):
        return dtype.type(total)


# Between these a float64 is rounded to nothing that is subnormal or infinite, of which NumPy would tell.
_RANGE = {
    np.dtype(np.float32): (2.0**-126, (2 - 2.0**-24) * 2.0**127),
    np.dtype(np.float64): (2.0**-1022, math.inf),
}
