"""The rows of a linear head: checked arguments, and the loops over chunks of rows, before any loss is reduced."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from fastsoftmax import arrays, kernels, options, threads
from fastsoftmax.conversions import Array, compute_dtype, stored
from fastsoftmax.layer import checked_layer, multiply, round_into
from fastsoftmax.losses import Reduction
from fastsoftmax.options import Asked, Options
from fastsoftmax.reference import LinearGrads
from fastsoftmax.targets import Targets, take_targets

# No more, or glibc hands the pages back after each call, and new ones cost more than larger products gain: with twice
# as much a head of many classes took an eighth longer (M41).
WORKSPACE = 32 * 2**20


class HeadRows(NamedTuple):
    """Arguments of a head that were checked; arrays of half types as kernels take them, see `stored`."""

    dtype: np.dtype[Any]  # of the arguments, and so of the results
    inputs: Array
    weight: Array
    bias: Array  # zero where there is none
    has_bias: bool
    targets: Targets
    given: Options | None  # options that are on
    rows_at_a_time: int  # whose logits the workspace holds

    @property
    def divisor(self) -> float:
        """What a mean divides by."""
        return self.given.divisor if self.given else self.targets.counted

    @property
    def has_few_classes(self) -> bool:
        """Whether one pass over the inputs does everything."""
        return int(self.weight.shape[1]) < kernels.tuning.HEAD_FEW_CLASSES

    def chunks(self) -> Iterator[tuple[slice, Array]]:
        """Give the rows by chunks, each with the same memory for its logits."""
        n_rows, rows = len(self.inputs), self.rows_at_a_time
        buffer = np.empty((rows, self.weight.shape[1]), compute_dtype(self.dtype))
        for start in range(0, n_rows, max(rows, 1)):
            stop = min(start + rows, n_rows)
            yield slice(start, stop), buffer[: stop - start]


def take_rows(
    inputs: object,
    weight: object,
    bias: object,
    labels: object,
    ignore_index: object,
    reduction: object,
    asked: Asked,
    workspace: object,
) -> HeadRows:
    """Check the arguments of a head."""
    x, w, b = checked_layer(inputs, weight, bias)
    if w.shape[1] == 0:
        raise ValueError(f"weight: expected at least one class, got shape {w.shape}")
    arrays.check_reduction(reduction)
    shape = (len(x), w.shape[1])
    targets = Targets(*take_targets(labels, ignore_index, x.shape[:1], shape, 1))
    given = None
    if asked.has_any() or targets.probs is not None:
        given = options.checked(asked, compute_dtype(x.dtype), shape, 1, targets)
    rows_at_a_time = rows_of_a_chunk(x, w, workspace)
    has_bias = b is not None
    if b is None:
        b = np.zeros(w.shape[1], x.dtype)
    layer = arrays.contiguous(x), arrays.as_it_lies(w), arrays.contiguous(b)
    return HeadRows(x.dtype, *layer, has_bias, targets, given, rows_at_a_time)


def losses_of(rows: HeadRows) -> Array:
    """Compute the loss of each row, in float64."""
    _, x, w, b, _, targets, given, _ = rows
    y, ignored = targets.labels, targets.ignored
    losses = np.empty(len(x))
    if rows.has_few_classes:
        kernel = kernels.operations.HEAD.loss
        threads.run(given.bound(kernel) if given else kernel, x.size, x, w, b, y, ignored, losses)
        return losses
    for chunk, logits in rows.chunks():
        threads.multiply(kernels.operations.LINEAR.wide, logits.size * len(w), x[chunk], w, b, logits)
        kernel = kernels.operations.CROSS_ENTROPY.cached
        bound = given.bound(kernel, chunk) if given else kernel
        threads.run(bound, logits.size, logits, y[chunk], ignored, losses[chunk])
    return losses


def losses_and_grads(
    rows: HeadRows, reduction: Reduction, dloss: object = None, inputs_grad: bool = True, out: LinearGrads | None = None
) -> tuple[Array, LinearGrads]:
    """Compute the loss of each row, in float64, and the gradients of the reduced loss."""
    _, x, w, b, _, targets, given, _ = rows
    y, ignored = targets.labels, targets.ignored
    factor, row_factors = arrays.upstream(dloss, reduction, x.shape[:1], rows.dtype)
    others = (y, row_factors, *(given.arrays if given else ()))
    results = _results(out, rows, others, inputs_grad)
    dinputs, dweight, dbias = results
    if reduction == "mean":
        factor = options.mean_factor(factor, rows.divisor, targets.counted)
    if given:
        factor *= given.scale
    losses = np.empty(len(x))
    if rows.has_few_classes:
        kernel = kernels.operations.HEAD.with_grad
        bound = given.bound(kernel) if given else kernel
        written = results if rows.dtype.itemsize != 2 else map(stored, results)
        threads.run(bound, x.size, x, w, b, y, ignored, factor, row_factors, losses, *written)
    else:
        bias_sums = np.zeros(b.shape)
        weight_sums = dweight if dweight.itemsize > 2 else np.empty_like(dweight, np.float32)
        if not len(x):
            weight_sums[...] = 0
        for chunk, logits in rows.chunks():
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
    dinputs, dweight, dbias = map(arrays.settle, results, out or (None, None, None))
    return losses, LinearGrads(dinputs if inputs_grad else None, dweight, dbias if rows.has_bias else None)


def _results(out: object, rows: HeadRows, others: tuple[Array, ...], inputs_grad: bool) -> tuple[Array, Array, Array]:
    """Give the arrays to compute the gradients in, those of `out` where they can be written to themselves."""
    if not (out is None or (isinstance(out, tuple) and len(out) == 3)):
        raise TypeError(f"out: expected LinearGrads or None, got {type(out).__name__}")
    layer = x, w, b = rows.inputs, rows.weight, rows.bias
    read = (*layer, *others) if out else ()  # which a new array cannot overlap
    given = dict(zip(LinearGrads._fields, out or (None, None, None), strict=True))
    for name, exists in (("dinputs", inputs_grad), ("dbias", rows.has_bias)):
        if given[name] is not None and not exists:
            came = type(given[name]).__name__
            raise ValueError(f"out.{name}: expected None, as there is no such gradient, got {came}")

    def result(name: str, shape: tuple[int, ...], order: arrays.Order = "C") -> Array:
        aligned = name == "dinputs"
        name, out = f"out.{name}", given[name]
        return arrays.buffer(out, shape, rows.dtype, *read, name=name, aligned=aligned, orders=(order,))

    results = (
        result("dinputs", x.shape if inputs_grad else (0, 0)),
        result("dweight", w.shape, arrays.order_of(w)),
        result("dbias", b.shape),
    )
    if any(itertools.starmap(np.may_share_memory, itertools.combinations(results, 2))):
        raise ValueError("out: expected arrays that do not overlap each other, got some that do")
    return results


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
