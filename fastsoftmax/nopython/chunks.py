"""The linear head on checked arrays: in one pass for few classes, with more in chunks of rows."""

import numpy as np

from fastsoftmax import head_rows, kernels

from .calls import multiply, run
from .memory import room
from .typing import by_type, is_none, jitable

_FEW_CLASSES = kernels.tuning.HEAD_FEW_CLASSES
_even_chunks = jitable(head_rows.even_chunks)


@jitable
def write_losses(x, w, b, y, ignore_index, options, losses, workspace):
    """Write each row's loss."""
    if w.shape[1] < _FEW_CLASSES:
        run("linear_cross_entropy", "loss", x, x.size, options, (x, w, b, y, ignore_index, losses))
        return
    rows = rows_of_a_chunk(x, w, workspace)
    buffer = room((rows, w.shape[1]), x.dtype)
    for start in range(0, len(x), rows):
        stop = min(start + rows, len(x))
        logits = buffer[: stop - start]
        multiply("linear", "wide", x, logits.size * len(w), (), (x[start:stop], w, b, logits))
        given = options_of(options, start, stop)
        args = (logits, labels_of(options, y, start, stop), ignore_index, losses[start:stop])
        run("cross_entropy", "cached", x, logits.size, given, args)


@jitable
def write_gradients(x, w, b, y, ignore_index, options, upstream, results, workspace):
    """Write each row's loss and all gradients; none of the inputs if `dinputs` is empty."""
    factor, row_factors = upstream
    losses, dinputs, dweight, dbias = results
    if w.shape[1] < _FEW_CLASSES:
        args = (x, w, b, y, ignore_index, factor, row_factors, losses, dinputs, dweight, dbias)
        run("linear_cross_entropy", "with_grad", x, x.size, options, args)
        return
    rows = rows_of_a_chunk(x, w, workspace)
    buffer, bias_sums = room((rows, w.shape[1]), x.dtype), np.zeros(b.size)
    if len(x) == 0:
        dweight[:] = 0
    for start in range(0, len(x), rows):
        stop = min(start + rows, len(x))
        inputs, logits = x[start:stop], buffer[: stop - start]
        products = logits.size * len(w)
        multiply("linear", "wide", x, products, (), (inputs, w, b, logits))
        given, labels = options_of(options, start, stop), labels_of(options, y, start, stop)
        factors = row_factors[start:stop] if row_factors.size else row_factors
        args = (logits, labels, ignore_index, factor, factors, losses[start:stop], bias_sums)
        run("linear_cross_entropy", "chunk_with_grad", x, logits.size, given, args)
        if dinputs.size:
            multiply("input_grad", "wide", x, products, (), (logits, w, dinputs[start:stop]))
        multiply("weight_grad", "wide", x, products, (), (inputs, logits, dweight, start > 0))
    for j in range(dbias.size):
        dbias[j] = bias_sums[j]


@jitable
def rows_of_a_chunk(x, w, workspace):
    """Give how many rows' logits the workspace holds."""
    return max(1, _even_chunks(len(x), w.shape[1] * w.itemsize, workspace))


@by_type
def labels_of(options, labels, start, stop):
    """Give the labels of some rows: none beside class probabilities."""
    if not is_none(options[4]):
        return lambda options, labels, start, stop: labels
    return lambda options, labels, start, stop: labels[start:stop]


@jitable
def options_of(options, start, stop):
    """Give the options of some rows."""
    w, s, smoothing, mean_weight, probs, zeta, softcap, scale, where, lse, predictions, entropy = options
    s, probs, lse = part(s, start, stop), part(probs, start, stop), part(lse, start, stop)
    predictions, entropy = part(predictions, start, stop), part(entropy, start, stop)
    return w, s, smoothing, mean_weight, probs, zeta, softcap, scale, where, lse, predictions, entropy


@by_type
def part(array, start, stop):
    """Give some rows of what rows have one of each, None for None."""
    if is_none(array):
        return lambda array, start, stop: None
    return lambda array, start, stop: array[start:stop]
