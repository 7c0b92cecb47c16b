"""The second derivative of the cross entropy, as a product with a vector: `fastsoftmax.curvature` derives it."""

import math

import numpy as np

from .calls import run_rows
from .entries import checked_by
from .labels import check_labels
from .losses import asked_of, factor_of
from .memory import room
from .options import check_options, divisor_of, number_or
from .problems import SAME_SHAPE, fine, first_of, is_fine, problem
from .rows import check_axis, check_one_axis, check_result, check_shape, deliver, rows_for, rows_of
from .typing import by_type, compute_dtype, is_none, jitable, refuse, take_floats


def _check(given):
    """Require types that it takes."""
    logits, vector = given["logits"], given["vector"]
    take_floats("logits", logits)
    take_floats("vector", vector, (logits.ndim,))
    if vector.dtype != logits.dtype:
        refuse("vector", f"{logits.dtype} like logits", vector)
    check_one_axis(given["axis"])
    check_labels(logits, given["labels"])
    check_options(given)
    check_result("out", given["out"], logits, logits.ndim)


@checked_by(_check)
def cross_entropy_hvp(
    logits,
    labels,
    vector,
    class_weight=None,
    sample_weight=None,
    ignore_index=-100,
    label_smoothing=None,
    z_loss=None,
    softcap=None,
    scale=None,
    where=None,
    reduction="mean",
    axis=-1,
    out=None,
):
    rows, tangents = rows_of(logits, axis), rows_of(vector, axis)
    of_rows, of_logits = (class_weight, sample_weight, label_smoothing, z_loss), (softcap, scale, where)
    y, counted, options, found = asked_of(rows, axis, labels, ignore_index, of_rows, of_logits, False)
    same = fine() if rows.shape == tangents.shape else problem(SAME_SHAPE, 0.0, rows.shape[0], rows.shape[1], 0)
    product = rows_for(None, rows, axis, ())
    if is_fine(first_of((check_axis(logits, axis), same, check_shape(out, logits.shape), found)), product, out):
        write_product(rows, tangents, y, ignore_index, options, product)
        factor = factor_of(reduction, 1.0, divisor_of(options, y, counted, ignore_index), counted)
        weigh_rows(product, y, ignore_index, options, factor)
    return deliver(product, out, logits, axis)


@by_type
def write_product(rows, tangents, labels, ignore_index, options, product):
    """Write the product of each row, of samples that weigh 1."""
    if is_none(options[6]):

        def without_softcap(rows, tangents, labels, ignore_index, options, product):
            write_along(rows, tangents, labels, ignore_index, options, product)
            square = number_or(options[7], 1.0) ** 2
            for i in range(len(rows)):
                for j in range(rows.shape[1]):
                    product[i, j] *= square

        return without_softcap
    dtype = compute_dtype(rows)

    def with_softcap(rows, tangents, labels, ignore_index, options, product):
        softcap, scale = options[6], number_or(options[7], 1.0)
        slopes, sloped = room(rows.shape, dtype), room(rows.shape, dtype)
        for i in range(len(rows)):
            for j in range(rows.shape[1]):
                u = rows[i, j] * (scale / softcap)
                slopes[i, j] = 0.0 if math.isinf(u) else scale / math.cosh(u) ** 2
                sloped[i, j] = slopes[i, j] * tangents[i, j]
        write_along(rows, sloped, labels, ignore_index, options, product)
        gradients = room(rows.shape, dtype)
        args = (rows, labels, ignore_index, scale, room((0,), dtype), room((len(rows),), np.float64), gradients)
        run_rows("cross_entropy_with_grad", rows, gradients, without_samples(options), args)
        for i in range(len(rows)):
            for j in range(rows.shape[1]):
                bend = dtype(-2 * scale / softcap * math.tanh(rows[i, j] * (scale / softcap)))
                product[i, j] = slopes[i, j] * product[i, j] + gradients[i, j] * bend * tangents[i, j]

    return with_softcap


@jitable
def without_samples(options):
    """Give options without the weights of samples."""
    w, _, smoothing, mean_weight, probs, zeta, softcap, scale, where, lse, predictions, entropy = options
    return w, None, smoothing, mean_weight, probs, zeta, softcap, scale, where, lse, predictions, entropy


@jitable
def write_along(rows, tangents, labels, ignore_index, options, product):
    """Write the product with the Hessian with respect to q: (T + 2ζ·lse)(a v − a (a·v)) + 2ζ a (a·v)."""
    known = (None, None, None, None, None, None, options[6], options[7], options[8])
    probs, lse = room(rows.shape, rows.dtype), lse_of(rows, options, known)
    masked = mask_tangents(tangents, options[8])
    run_rows("softmax", rows, probs, known, (rows, probs))
    run_rows("softmax_backward", probs, product, (), (probs, masked, product))
    zeta = number_or(options[5], 0.0)
    for i in range(len(rows)):
        total = total_of(labels, ignore_index, options, rows.shape[1], i)
        along = 0.0
        if zeta != 0:
            total += 2 * zeta * lse[i]
            for j in range(rows.shape[1]):
                along += np.float64(probs[i, j]) * masked[i, j]
        for j in range(rows.shape[1]):
            product[i, j] = total * product[i, j] + 2 * zeta * along * probs[i, j]


@by_type
def lse_of(rows, options, known):
    """Give the lse of each row for the z-loss, else nothing."""
    if is_none(options[5]):
        return lambda rows, options, known: room((0,), rows.dtype)

    def compute(rows, options, known):
        lse = room((len(rows),), rows.dtype)
        run_rows("logsumexp", rows, lse, known, (rows, lse))
        return lse

    return compute


@by_type
def mask_tangents(tangents, mask):
    """Give tangents that are 0 where a class is left out."""
    if is_none(mask):
        return lambda tangents, mask: tangents

    def leave_out(tangents, mask):
        masked = room(tangents.shape, tangents.dtype)
        for i in range(tangents.shape[0]):
            for j in range(tangents.shape[1]):
                masked[i, j] = tangents[i, j] if mask[i * tangents.shape[1] + j] else 0
        return masked

    return leave_out


@jitable
def total_of(labels, ignore_index, options, n_classes, i):
    """Give a row's T = Σ_j t_j."""
    smoothing = number_or(options[2], 0.0)
    total = 0.0
    for j in range(n_classes):
        if is_in(options[8], i * n_classes + j):
            total += weight_of_class(options[0], j) * target_share(options[4], smoothing, n_classes, i, j)
    return total + label_share(options[4], labels, ignore_index, options[0], smoothing, i)


@by_type
def is_in(mask, at):
    """Whether a class is not left out."""
    if is_none(mask):
        return lambda mask, at: True
    return lambda mask, at: mask[at] != 0


@by_type
def weight_of_class(class_weight, j):
    """Give w_j."""
    if is_none(class_weight):
        return lambda class_weight, j: 1.0
    return lambda class_weight, j: np.float64(class_weight[j])


@by_type
def target_share(probs, smoothing, n_classes, i, j):
    """Give what a class has of the target but for the label: ε/C, or (1−ε) p_j + ε/C."""
    if is_none(probs):
        return lambda probs, smoothing, n_classes, i, j: smoothing / n_classes
    return lambda probs, smoothing, n_classes, i, j: (1 - smoothing) * probs[i, j] + smoothing / n_classes


@by_type
def label_share(probs, labels, ignore_index, class_weight, smoothing, i):
    """Give what the label's class has of the target besides: (1−ε) w_y."""
    if not is_none(probs):
        return lambda probs, labels, ignore_index, class_weight, smoothing, i: 0.0

    def share(probs, labels, ignore_index, class_weight, smoothing, i):
        y = labels[i]
        return (1 - smoothing) * weight_of_class(class_weight, 0 if y == ignore_index else y)

    return share


@jitable
def weigh_rows(product, labels, ignore_index, options, factor):
    """Multiply each row by its sample's weight and the factor of the reduction; 0 where nothing is asked for."""
    for i in range(len(product)):
        weight = factor * weight_of_class(options[1], i)
        is_left_out = labels.size != 0 and labels[i] == ignore_index
        for j in range(product.shape[1]):
            is_used = not is_left_out and is_in(options[8], i * product.shape[1] + j)
            product[i, j] = product[i, j] * weight if is_used else 0
