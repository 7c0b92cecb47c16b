"""The linear layer and the loss together, without the (N, C) array of logits between them."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from fastsoftmax import arrays, kernels, options, threads
from fastsoftmax.conversions import Array, compute_dtype, stored
from fastsoftmax.layer import checked_layer, multiply, round_into
from fastsoftmax.losses import Reduction, reduce
from fastsoftmax.options import OFF
from fastsoftmax.reference import LinearGrads
from fastsoftmax.targets import Targets, take_targets

# No more, or glibc hands the pages back after each call, and new ones cost more than larger products gain: with twice
# as much a head of many classes took an eighth longer (M41).
WORKSPACE = 32 * 2**20


def linear_cross_entropy(
    inputs: object,
    weight: object,
    bias: object,
    labels: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    workspace: int = WORKSPACE,
) -> Any:
    """Compute the cross entropy of a linear layer's outputs, L(X·W + b, y).

    With fewer than 64 classes a strip of rows at a time is multiplied and done with in one pass; with more, the
    logits of as many rows as the workspace holds are computed at a time.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (N, D)
        X. Integers are taken as float64, or as the dtype of a floating argument beside them, and so are lists.
    weight : array_like, shape (D, C)
        W, the dtype of `inputs`. The transpose `w.T` of a contiguous (C, D) array is taken as it lies.
    bias : array_like, shape (C,), or None
        b, the dtype of `inputs`.
    labels : array_like of integers, shape (N,), or of floats, shape (N, C)
        y, a class index for each row, or class probabilities.
    class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale, reduction, return_stats
        As in `cross_entropy`.
    workspace : int
        Bytes of memory to use for logits, 32 MiB by default; at least one row's are used.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` gives it.
    stats : RowStats
        If asked for.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class: the message names its row.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> weight = np.log([[1.0, 3.0]])
    >>> float(np.exp(-fs.linear_cross_entropy([[1.0]], weight, None, [1])).round(12))
    0.75
    """
    dtype, x, w, b, targets = _checked(inputs, weight, bias, labels, ignore_index, reduction)
    y, ignored, counted, probs = targets
    given = None
    if not (
        softcap is scale is class_weight is sample_weight is probs is None
        and label_smoothing is z_loss is OFF
        and return_stats is False
    ):
        asked = options.Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, return_stats)
        given = options.checked(asked, compute_dtype(dtype), (len(x), w.shape[1]), 1, Targets(*targets))
    divisor = given.divisor if given else counted
    rows = rows_of_a_chunk(x, w, workspace)
    losses = np.empty(len(x))
    if w.shape[1] < kernels.tuning.HEAD_FEW_CLASSES:
        kernel = kernels.operations.HEAD.loss
        threads.run(given.bound(kernel) if given else kernel, x.size, x, w, b, y, ignored, losses)
    else:
        buffer = np.empty((rows, w.shape[1]), compute_dtype(dtype))
        for chunk in _chunks(len(x), rows):
            logits = buffer[: chunk.stop - chunk.start]
            threads.multiply(kernels.operations.LINEAR.wide, logits.size * len(w), x[chunk], w, b, logits)
            kernel = kernels.operations.CROSS_ENTROPY.cached
            bound = given.bound(kernel, chunk) if given else kernel
            threads.run(bound, logits.size, logits, y[chunk], ignored, losses[chunk])
    loss = reduce(losses, divisor, reduction, dtype, losses.shape)
    return (loss, *given.stats(compute_dtype(dtype), losses.shape)) if return_stats and given else loss


def linear_cross_entropy_with_grad(
    inputs: object,
    weight: object,
    bias: object,
    labels: object,
    *,
    class_weight: object = None,
    sample_weight: object = None,
    ignore_index: int = -100,
    label_smoothing: float = OFF,
    z_loss: float = OFF,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    dloss: object = None,
    inputs_grad: bool = True,
    workspace: int = WORKSPACE,
    out: LinearGrads | None = None,
) -> Any:
    """Compute the cross entropy of a linear layer's outputs and the gradients of X, W and b.

    With fewer than 64 classes one pass over X computes everything, a strip of rows at a time. With more, as many rows
    as the workspace holds get their logits, these become their gradient, and that gives ∂L/∂X and adds to ∂L/∂W.

    Parameters
    ----------
    inputs, weight, bias, labels, class_weight, sample_weight, ignore_index, label_smoothing, z_loss, softcap, scale,
    reduction, return_stats, workspace
        As in `linear_cross_entropy`. Without `dloss` the gradients for "none" are those of the sum.
    dloss : float or array_like, optional
        The upstream gradient: a scalar for "mean" and "sum", one per row for "none". Ones if left out.
    inputs_grad : bool
        False leaves ∂L/∂X out, which a model's first layer does not need.
    out : LinearGrads, optional
        Arrays that receive the gradients, such as those of the step before: fresh memory for a large ∂L/∂X can take as
        long as computing it. None in a place makes a new array.

    Returns
    -------
    loss : scalar or ndarray
        As `cross_entropy` gives it.
    grads : LinearGrads
        The named tuple (dinputs, dweight, dbias), the arrays of `out` where given; dinputs is None where left out,
        dbias without a bias. A new dweight lies as `weight` does, transposed or not.
    stats : RowStats
        If asked for.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit, or a label is no class.

    Examples
    --------
    >>> import fastsoftmax as fs
    >>> loss, grads = fs.linear_cross_entropy_with_grad([[1.0]], np.log([[1.0, 3.0]]), None, [1])
    >>> grads.dweight.round(12), grads.dbias
    (array([[ 0.25, -0.25]]), None)
    """
    dtype, x, w, b, targets = _checked(inputs, weight, bias, labels, ignore_index, reduction)
    y, ignored, counted, probs = targets
    given = None
    if not (
        softcap is scale is class_weight is sample_weight is probs is None
        and label_smoothing is z_loss is OFF
        and return_stats is False
    ):
        asked = options.Asked(class_weight, sample_weight, label_smoothing, z_loss, softcap, scale, None, return_stats)
        given = options.checked(asked, compute_dtype(dtype), (len(x), w.shape[1]), 1, Targets(*targets))
    divisor = given.divisor if given else counted
    rows = rows_of_a_chunk(x, w, workspace)
    factor, row_factors = arrays.upstream(dloss, reduction, x.shape[:1], dtype)
    others = (y, row_factors, *(given.arrays if given else ()))
    results = _results(out, dtype, (x, w, b), others, inputs_grad, bias is not None)
    dinputs, dweight, dbias = results
    if reduction == "mean":
        factor = options.mean_factor(factor, divisor, counted)
    if given:
        factor *= given.scale
    losses = np.empty(len(x))
    if w.shape[1] < kernels.tuning.HEAD_FEW_CLASSES:
        kernel = kernels.operations.HEAD.with_grad
        bound = given.bound(kernel) if given else kernel
        written = results if dtype.itemsize != 2 else map(stored, results)
        threads.run(bound, x.size, x, w, b, y, ignored, factor, row_factors, losses, *written)
    else:
        bias_sums = np.zeros(b.shape)
        weight_sums = dweight if dweight.itemsize > 2 else np.empty_like(dweight, np.float32)
        buffer = np.empty((rows, w.shape[1]), compute_dtype(dtype))
        if not len(x):
            weight_sums[...] = 0
        for chunk in _chunks(len(x), rows):
            logits = buffer[: chunk.stop - chunk.start]
            products = logits.size * len(w)
            threads.multiply(kernels.operations.LINEAR.wide, products, x[chunk], w, b, logits)
            kernel = kernels.operations.HEAD.chunk_with_grad
            bound = given.bound(kernel, chunk) if given else kernel
            own_factors = row_factors[chunk]
            threads.run(bound, logits.size, logits, y[chunk], ignored, factor, own_factors, losses[chunk], bias_sums)
            if inputs_grad:
                multiply(kernels.operations.INPUT_GRAD.wide, products, dinputs[chunk], logits, w)
            sum_up = kernels.operations.WEIGHT_GRAD.wide
            threads.multiply(sum_up, products, x[chunk], logits, weight_sums, chunk.start > 0)
        if weight_sums is not dweight:
            round_into(dweight, weight_sums)
        with np.errstate(all="ignore"):
            dbias[...] = bias_sums
    loss = reduce(losses, divisor, reduction, dtype, losses.shape)
    dinputs, dweight, dbias = map(arrays.settle, results, out or (None, None, None))
    grads = LinearGrads(dinputs if inputs_grad else None, dweight, dbias if bias is not None else None)
    return (loss, grads, *given.stats(compute_dtype(dtype), losses.shape)) if given else (loss, grads)


def _results(
    out: object,
    dtype: np.dtype[Any],
    layer: tuple[Array, Array, Array],
    others: tuple[Array, ...],
    inputs_grad: bool,
    has_bias: bool,
) -> tuple[Array, Array, Array]:
    """Give the arrays to compute the gradients in, those of `out` where they can be written to themselves."""
    if not (out is None or (isinstance(out, tuple) and len(out) == 3)):
        raise TypeError(f"out: expected LinearGrads or None, got {type(out).__name__}")
    x, w, b = layer
    read = (*layer, *others) if out else ()  # which a new array cannot overlap
    given = dict(zip(LinearGrads._fields, out or (None, None, None), strict=True))
    for name, exists in (("dinputs", inputs_grad), ("dbias", has_bias)):
        if given[name] is not None and not exists:
            came = type(given[name]).__name__
            raise ValueError(f"out.{name}: expected None, as there is no such gradient, got {came}")

    def result(name: str, shape: tuple[int, ...], order: arrays.Order = "C") -> Array:
        aligned = name == "dinputs"
        name, out = f"out.{name}", given[name]
        return arrays.buffer(out, shape, dtype, *read, name=name, aligned=aligned, orders=(order,))

    results = (
        result("dinputs", x.shape if inputs_grad else (0, 0)),
        result("dweight", w.shape, arrays.order_of(w)),
        result("dbias", b.shape),
    )
    if any(itertools.starmap(np.may_share_memory, itertools.combinations(results, 2))):
        raise ValueError("out: expected arrays that do not overlap each other, got some that do")
    return results


def _checked(
    inputs: object, weight: object, bias: object, labels: object, ignore_index: object, reduction: object
) -> tuple[np.dtype[Any], Array, Array, Array, tuple[Array, int, int, Array | None]]:
    """Check the arguments of a head, and give their dtype with them; without a bias it is zero."""
    x, w, b = checked_layer(inputs, weight, bias)
    if w.shape[1] == 0:
        raise ValueError(f"weight: expected at least one class, got shape {w.shape}")
    arrays.check_reduction(reduction)
    targets = take_targets(labels, ignore_index, x.shape[:1], (len(x), w.shape[1]), 1)
    if b is None:
        b = np.zeros(w.shape[1], x.dtype)
    return x.dtype, arrays.contiguous(x), arrays.as_it_lies(w), arrays.contiguous(b), targets


def rows_of_a_chunk(x: Array, w: Array, workspace: object) -> int:
    """Give how many rows' logits the workspace holds, or fewer, so that all chunks have about as many."""
    size = arrays.integer("workspace", workspace)
    if size < 1:
        raise ValueError(f"workspace: expected a positive number of bytes, got {size}")
    return even_chunks(len(x), int(w.shape[1]) * max(w.itemsize, 4), size)


def even_chunks(n_rows: int, row_bytes: int, size: int) -> int:
    """Give how many rows are in each of the fewest chunks of about as many that a size in bytes holds, one by one."""
    n_chunks = max(1, -(-n_rows // max(1, size // row_bytes)))
    return -(-n_rows // n_chunks)


def _chunks(n_rows: int, rows: int) -> Iterator[slice]:
    return (slice(start, min(start + rows, n_rows)) for start in range(0, n_rows, max(rows, 1)))
