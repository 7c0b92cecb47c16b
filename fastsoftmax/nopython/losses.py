"""Cross entropy of logits, with and without its gradient."""

import numpy as np

from fastsoftmax import options as face
from fastsoftmax.reference import RowStats

from .calls import run, run_rows
from .entries import checked_by
from .labels import check_labels, count_labels, take_labels, take_probs
from .memory import room
from .options import (
    check_options,
    check_upstream,
    divisor_of,
    loss_options,
    number_or,
    stats_of,
    upstream,
)
from .problems import NO_CLASSES, fine, first_of, is_fine, problem
from .rows import (
    check_axis,
    check_one_axis,
    check_result,
    check_shape,
    deliver,
    rows_for,
    rows_of,
    shape_without,
    shaped,
)
from .typing import by_literals, by_type, compute_dtype, is_none, jitable, literal, take_floats

_mean_factor, _mean_of_nothing = jitable(face.mean_factor), jitable(face.mean_of_nothing)


def _check(given):
    """Require types that a loss takes."""
    logits = given["logits"]
    take_floats("logits", logits)
    check_one_axis(given["axis"])
    check_labels(logits, given["labels"])
    check_options(given)
    check_result("out", given.get("out"), logits, logits.ndim)
    check_upstream(given, logits.ndim)


@checked_by(_check)
def cross_entropy(
    logits,
    labels,
    class_weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=None,
    z_loss=None,
    softcap=None,
    scale=None,
    where=None,
    reduction="mean",
    return_stats=False,
    axis=-1,
):
    rows = rows_of(logits, axis)
    of_rows, of_logits = (class_weight, sample_weight, label_smoothing, z_loss), (softcap, scale, where)
    y, counted, options, found = asked_of(rows, axis, labels, ignore_index, of_rows, of_logits, return_stats)
    losses, divisor = room((rows.shape[0],), np.float64), 0.0
    if is_fine(first_of((check_axis(logits, axis), found)), losses, None):
        divisor = divisor_of(options, y, counted, ignore_index)
        run_rows("cross_entropy", rows, losses, options, (rows, y, ignore_index, losses))
    shape = shape_without(logits, axis, False)
    loss = reduced(losses, divisor, reduction, rows, shape)
    return with_stats((loss,), options, rows, shape)


@checked_by(_check)
def cross_entropy_with_grad(
    logits,
    labels,
    class_weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=None,
    z_loss=None,
    softcap=None,
    scale=None,
    where=None,
    reduction="mean",
    return_stats=False,
    axis=-1,
    dloss=None,
    out=None,
):
    rows = rows_of(logits, axis)
    of_rows, of_logits = (class_weight, sample_weight, label_smoothing, z_loss), (softcap, scale, where)
    y, counted, options, found = asked_of(rows, axis, labels, ignore_index, of_rows, of_logits, return_stats)
    factor, row_factors, upstream_problem = upstream(dloss, rows)
    dlogits = rows_for(out, rows, axis, (rows, y, row_factors, options[0], options[1], options[4], options[8]))
    losses, divisor = room((rows.shape[0],), np.float64), 0.0
    found = first_of((check_axis(logits, axis), check_shape(out, logits.shape), found, upstream_problem))
    if not is_fine(found, dlogits, out):
        losses[:] = np.nan
    else:
        divisor = divisor_of(options, y, counted, ignore_index)
        factor = factor_of(reduction, factor, divisor, counted) * number_or(options[7], 1.0)
        args = (rows, y, ignore_index, factor, row_factors, losses, dlogits)
        run_rows("cross_entropy_with_grad", rows, dlogits, options, args)
    shape = shape_without(logits, axis, False)
    loss = reduced(losses, divisor, reduction, rows, shape)
    return with_stats((loss, deliver(dlogits, out, logits, axis)), options, rows, shape)


@by_literals
def asked_of(rows, axis, labels, ignore_index, of_rows, of_logits, return_stats):
    """Take what a loss is asked for: labels, how many rows count, the options, and what is wrong with one of them."""
    y, probs, counted, label_problem = targets_of(rows, axis, labels, ignore_index)
    options, option_problem = loss_options(rows, axis, probs, of_rows, of_logits, stats_of(return_stats, rows))
    return y, counted, options, first_of((label_problem, option_problem))


@jitable
def targets_of(rows, axis, labels, ignore_index):
    """Take labels or class probabilities: the labels, the probabilities, how many rows count, and the problem."""
    n_rows, n_classes = rows.shape
    y = take_labels(labels, ignore_index)
    probs, prob_problem = take_probs(labels, axis, rows, ignore_index)
    counted, label_problem = counted_of(probs, y, n_rows, n_classes, ignore_index)
    class_problem = fine() if n_classes != 0 else problem(NO_CLASSES, 0.0, n_rows, 0, 0)
    return y, probs, counted, first_of((class_problem, prob_problem, label_problem))


@by_type
def counted_of(probs, labels, n_rows, n_classes, ignore_index):
    """Count the rows that have a loss, and find what is wrong with labels."""
    if not is_none(probs):
        return lambda probs, labels, n_rows, n_classes, ignore_index: (n_rows, fine())
    return lambda probs, labels, n_rows, n_classes, ignore_index: count_labels(labels, n_rows, n_classes, ignore_index)


@by_type
def factor_of(reduction, factor, divisor, counted):
    """Give the factor of all rows' gradients."""
    if literal(reduction) == "mean":
        return lambda reduction, factor, divisor, counted: _mean_factor(factor, divisor, counted)
    return lambda reduction, factor, divisor, counted: factor


@by_type
def reduced(losses, divisor, reduction, rows, shape):
    """Reduce the rows' losses, and round once, to the dtype of the logits."""
    dtype, kind = compute_dtype(rows), literal(reduction)
    if kind == "none":

        def give_all(losses, divisor, reduction, rows, shape):
            given = room((losses.size,), dtype)
            for i in range(losses.size):
                given[i] = losses[i]
            return shaped(given, shape)

        return give_all
    is_mean = kind == "mean"

    def reduce(losses, divisor, reduction, rows, shape):
        total = run("helpers", "total_loss", None, 0, (), (losses,))
        if is_mean:
            total = total / divisor if divisor != 0 else _mean_of_nothing(total)
        return dtype(total)

    return reduce


@by_type
def with_stats(results, options, rows, shape):
    """Give what is computed, with the statistics of rows if they were asked for; one thing alone as it is."""
    if is_none(options[9]):
        if len(results) == 1:
            return lambda results, options, rows, shape: results[0]
        return lambda results, options, rows, shape: results
    dtype = compute_dtype(rows)

    def append(results, options, rows, shape):
        lse, predictions, entropy = options[9], options[10], options[11]
        rounded_lse, rounded_entropy = room((lse.size,), dtype), room((lse.size,), dtype)
        for i in range(lse.size):
            rounded_lse[i], rounded_entropy[i] = lse[i], entropy[i]
        found = RowStats(shaped(rounded_lse, shape), shaped(predictions, shape), shaped(rounded_entropy, shape))
        return (*results, found)

    return append
