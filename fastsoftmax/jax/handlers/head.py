"""Handlers of the linear layer and the loss in one: inputs, weight, bias, labels and options → losses, and gradients.

The logits of many classes are computed some rows at a time, in the last result, which nobody reads.
"""

import numpy as np

from fastsoftmax import kernels
from fastsoftmax.conversions import compute_dtype
from fastsoftmax.jax.handlers.calls import float64_for, round_off, run_kernel
from fastsoftmax.jax.handlers.frames import line, rows
from fastsoftmax.jax.handlers.labels import IGNORED, checked_labels
from fastsoftmax.jax.handlers.pool import admit
from fastsoftmax.jax.handlers.targets import target
from fastsoftmax.kernels.compiling.halves import STORED
from fastsoftmax.kernels.compiling.numbers import minimum
from fastsoftmax.kernels.compiling.staging import run, staged
from fastsoftmax.options import fields_of
from fastsoftmax.threads import PRODUCTS_PER_ELEMENT


def is_narrow(n_classes: int) -> bool:
    """Whether a head is one pass over its inputs."""
    return n_classes < kernels.tuning.HEAD_FEW_CLASSES


def linear_cross_entropy(dtype: np.dtype, n_classes: int, labels: np.dtype, options: tuple[str, ...], with_grad) -> str:
    """Give the target of a head with some options, by their names.

    Operands are inputs, weight, bias, labels, for gradients a factor for each row, and class weights; attributes the
    other options.
    Results are losses, for gradients those of inputs, weight and bias, and for many classes room for logits.
    Losses, factors, and for many classes gradients, are of the dtype that logits are computed in.
    """
    make = {
        (True, False): _narrow_loss,
        (True, True): _narrow_grads,
        (False, False): _wide_loss,
        (False, True): _wide_grads,
    }[is_narrow(n_classes), with_grad]
    kernel, body = make(_Head(dtype, labels, fields_of(options)))
    return target([f"head_{kernel.__name__}", dtype, labels], body)


class _Head:
    """What is known of a head when its handler is made."""

    def __init__(self, dtype, labels, fields):
        self.stored = STORED.get(dtype.name, dtype)
        self.computed = compute_dtype(dtype)
        self.labels = labels
        self.fields = fields

    def options(self, frame, first_operand):
        """Give the values of options, in the order in which kernels take them."""
        numbers = sorted(set(self.fields) - {"class_weight", "mean_weight"})
        values = {field: frame.real(i) for i, field in enumerate(numbers)}
        if "class_weight" in self.fields:
            values["class_weight"] = run(line, (frame.operand(first_operand), self.computed))
        if "mean_weight" in self.fields:
            values["mean_weight"] = _mean_weight(values.get("class_weight"), self.computed)
        return {field: values[field] for field in self.fields}


def _mean_weight(class_weight, dtype):
    if class_weight is None:
        return 1.0
    total = run_kernel(kernels.operations.HELPERS.total_class_weight, dtype, class_weight)
    return total / class_weight.size


def _narrow_loss(head):
    kernel = kernels.operations.HEAD.loss.variant(head.fields)
    stored, computed = head.stored, head.computed

    @staged
    def body(frame):
        inputs, weight = rows(frame.operand(0), stored), rows(frame.operand(1), stored)
        bias = line(frame.operand(2), stored)
        labels = checked_labels(frame, frame.operand(3), head.labels, weight.shape[1])
        result = line(frame.result(0), computed)
        losses, given = float64_for(result), head.options(frame, 4)
        pool, _ = admit(frame, inputs.size)
        run_kernel(kernel, stored, *given.values(), inputs, weight, bias, labels, IGNORED, losses, pool=pool)
        round_off(losses, result)

    return kernel, body


def _narrow_grads(head):
    kernel = kernels.operations.HEAD.with_grad.variant(head.fields)
    stored, computed = head.stored, head.computed

    @staged
    def body(frame):
        inputs, weight = rows(frame.operand(0), stored), rows(frame.operand(1), stored)
        bias, factors = line(frame.operand(2), stored), line(frame.operand(4), computed)
        labels = checked_labels(frame, frame.operand(3), head.labels, weight.shape[1])
        result = line(frame.result(0), computed)
        losses, given = float64_for(result), head.options(frame, 5)
        grads = rows(frame.result(1), stored), rows(frame.result(2), stored), line(frame.result(3), stored)
        layer, loss = (inputs, weight, bias), (labels, IGNORED, given.get("scale", 1.0), factors, losses)
        pool, _ = admit(frame, inputs.size)
        run_kernel(kernel, stored, *given.values(), *layer, *loss, *grads, pool=pool)
        round_off(losses, result)

    return kernel, body


def _wide_loss(head):
    kernel = kernels.operations.CROSS_ENTROPY.cached.variant(head.fields)
    multiply = kernels.operations.LINEAR.wide
    stored, computed = head.stored, head.computed

    @staged
    def body(frame):
        inputs, weight = rows(frame.operand(0), stored), rows(frame.operand(1), stored)
        bias = line(frame.operand(2), stored)
        labels = checked_labels(frame, frame.operand(3), head.labels, weight.shape[1])
        result, room = line(frame.result(0), computed), rows(frame.result(1), computed)
        losses, given = float64_for(result), head.options(frame, 4)
        pool, n_threads = admit(frame, inputs.size * weight.shape[1] // PRODUCTS_PER_ELEMENT)
        first, n_rows = 0, inputs.shape[0]
        while first < n_rows:
            stop = minimum(first + room.shape[0], n_rows)
            logits = room[: stop - first]
            run_kernel(multiply, stored, inputs[first:stop], weight, bias, logits, n_threads, pool=pool)
            loss = logits, labels[first:stop], IGNORED, losses[first:stop]
            run_kernel(kernel, computed, *given.values(), *loss, pool=pool)
            first = stop
        round_off(losses, result)

    return kernel, body


def _wide_grads(head):
    kernel = kernels.operations.HEAD.chunk_with_grad.variant(head.fields)
    multiply, back = kernels.operations.LINEAR.wide, kernels.operations.INPUT_GRAD.wide
    sum_up = kernels.operations.WEIGHT_GRAD.wide
    stored, computed = head.stored, head.computed

    @staged
    def body(frame):
        inputs, weight = rows(frame.operand(0), stored), rows(frame.operand(1), stored)
        bias, factors = line(frame.operand(2), stored), line(frame.operand(4), computed)
        labels = checked_labels(frame, frame.operand(3), head.labels, weight.shape[1])
        result, room = line(frame.result(0), computed), rows(frame.result(4), computed)
        dinputs, dweight = rows(frame.result(1), computed), rows(frame.result(2), computed)
        dbias = line(frame.result(3), computed)
        losses, given = float64_for(result), head.options(frame, 5)
        bias_sums = float64_for(dbias)
        bias_sums[: dbias.size] = 0
        pool, n_threads = admit(frame, inputs.size * weight.shape[1] // PRODUCTS_PER_ELEMENT)
        first, n_rows = 0, inputs.shape[0]
        while first < n_rows:
            stop = minimum(first + room.shape[0], n_rows)
            x, logits = inputs[first:stop], room[: stop - first]
            run_kernel(multiply, stored, x, weight, bias, logits, n_threads, pool=pool)
            loss = labels[first:stop], IGNORED, given.get("scale", 1.0), factors[first:stop], losses[first:stop]
            run_kernel(kernel, stored, *given.values(), logits, *loss, bias_sums, pool=pool)
            if dinputs.size != 0:
                run_kernel(back, stored, logits, weight, dinputs[first:stop], n_threads, pool=pool)
            run_kernel(sum_up, stored, x, logits, dweight, first > 0, n_threads, pool=pool)
            first = stop
        round_off(losses, result)
        round_off(bias_sums, dbias)

    return kernel, body
