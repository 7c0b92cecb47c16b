"""Options of a loss: checked, as kernels take them."""

import math

import numpy as np
from numba import types

from .calls import run
from .memory import room, view_as
from .problems import (
    CLASS_WEIGHT,
    CLASS_WEIGHT_SHAPE,
    DLOSS_SHAPE,
    LABEL_SMOOTHING,
    QUOTIENT,
    SAMPLE_WEIGHT,
    SAMPLE_WEIGHT_SHAPE,
    SCALE,
    SOFTCAP,
    WHERE_SHAPE,
    Z_LOSS,
    absent,
    fine,
    first_of,
    problem,
)
from .rows import line_of, rows_of
from .typing import by_type, compute_dtype, is_none, is_number, jitable, literal, refuse

# Types ----------------------------------------------------------------------------------------------------------------


def check_options(given):
    """Require options of types that they may have, those of a function's arguments that there are."""
    for name in ("class_weight", "sample_weight"):
        weights = given.get(name)
        if not (is_none(weights) or _is_line_of_numbers(weights)):
            refuse(name, "a one-dimensional array of float32, float64 or integers, or None", weights)
    for name in ("label_smoothing", "z_loss", "softcap", "scale"):
        number = given.get(name)
        if not (is_off(number) or is_number(number)):
            refuse(name, "a number" if name in ("label_smoothing", "z_loss") else "a number or None", number)
    where = given.get("where")
    if not (is_none(where) or (isinstance(where, types.Array) and where.dtype == types.boolean)):
        refuse("where", "an array of booleans, or None", where)
    for name, allowed in _CONSTANTS.items():
        if name in given:
            constant(name, given[name], allowed)


# What decides the type of the result.
_CONSTANTS = {
    "reduction": ("mean", "sum", "none"),
    "return_stats": (False, True),
    "keepdims": (False, True),
    "inputs_grad": (False, True),
}


def is_off(given):
    """Whether an option is left out: a number that is a constant 0, too."""
    return is_none(given) or literal(given) == 0


def _is_line_of_numbers(given):
    if not (isinstance(given, types.Array) and given.ndim == 1):
        return False
    return given.dtype in (types.float32, types.float64) or isinstance(given.dtype, types.Integer)


def constant(name, given, allowed):
    """Give the value of an option that decides what type the result has."""
    value = literal(given)
    if value not in allowed:
        refuse(name, f"a constant, one of {', '.join(map(repr, allowed))}", given if value is None else value)
    return value


# Numbers --------------------------------------------------------------------------------------------------------------


@jitable
def take_number(given, kind, most):
    """Give a number from 0 up to another as float64, and what is wrong with it."""
    value = np.float64(given)
    return value, fine() if 0.0 <= value <= most and value < np.inf else problem(kind, value, 0, 0, 0)


@jitable
def take_factor(given, kind, dtype):
    """Give a number above 0 in float64, as a dtype has it, and what is wrong with it."""
    value = np.float64(dtype(given))
    return value, fine() if 0.0 < value < np.inf else problem(kind, np.float64(given), 0, 0, 0)


@by_type
def check_quotient(scale, softcap):
    """Find whether float64 cannot hold scale / softcap."""
    if is_none(softcap):
        return lambda scale, softcap: fine()

    def check(scale, softcap):
        quotient = number_or(scale, 1.0) / softcap
        return fine() if 1e-290 <= quotient <= 1e290 else problem(QUOTIENT, quotient, 0, 0, 0)

    return check


@by_type
def number_or(given, default):
    """Give a number, or a default for None."""
    if is_none(given):
        return lambda given, default: default
    return lambda given, default: given


# Weights and masks ----------------------------------------------------------------------------------------------------


@jitable
def take_class_weight(given, rows, dtype):
    """Give a weight for each class in the dtype that logits are computed in, and what is wrong with them."""
    return _weights(given, rows.shape[1], dtype, CLASS_WEIGHT_SHAPE, CLASS_WEIGHT)


@jitable
def take_sample_weight(given, rows, dtype):
    """Give a weight for each row in float64, and what is wrong with them."""
    return _weights(given, rows.shape[0], np.float64, SAMPLE_WEIGHT_SHAPE, SAMPLE_WEIGHT)


@jitable
def _weights(given, size, dtype, shape_kind, kind):
    """Take finite weights from 0 up."""
    weights = line_as(given, dtype)
    if given.size != size:
        return weights, problem(shape_kind, 0.0, size, given.size, 0)
    for i in range(size):
        if not 0 <= weights[i] < np.inf:
            return weights, problem(kind, np.float64(given[i]), i, 0, 0)
    return weights, fine()


@by_type
def line_as(given, dtype):
    """View or copy a one-dimensional array as a contiguous one of a dtype."""
    if given.dtype == dtype.dtype:
        return lambda given, dtype: line_of(given)

    def convert(given, dtype):
        line = room((given.size,), dtype)
        for i in range(given.size):
            line[i] = given[i]
        return line

    return convert


@jitable
def take_mask(where, rows, axis):
    """Give a mask as bytes of rows, and what is wrong with it."""
    mask = rows_of(where, axis)
    is_fine = mask.shape == rows.shape
    found = fine() if is_fine else problem(WHERE_SHAPE, 0.0, rows.shape[0], rows.shape[1], 0)
    return view_as(mask, (mask.size,), np.uint8), found


# All of them ----------------------------------------------------------------------------------------------------------


def _if_on(given, take):
    """Give what takes an argument, if it is on."""
    return absent if is_off(given) else take


@by_type
def logit_options(rows, axis, scale, where):
    """Give the options of a function of logits, in the order of `calls.OPTIONS`; and what is wrong with them."""
    dtype, scale_of, mask_of = compute_dtype(rows), _if_on(scale, take_factor), _if_on(where, take_mask)

    def take(rows, axis, scale, where):
        factor, scale_problem = scale_of(scale, SCALE, dtype)
        mask, where_problem = mask_of(where, rows, axis)
        return (None, None, None, None, None, None, None, factor, mask), first_of((scale_problem, where_problem))

    return take


@by_type
def loss_options(rows, axis, probs, of_rows, of_logits, stats):
    """Give the options of a loss, in the order of `calls.OPTIONS`; and what is wrong with them.

    `of_rows` are class_weight, sample_weight, label_smoothing and z_loss, `of_logits` softcap, scale and where.
    """
    if all(map(is_off, (*of_rows, *of_logits))):

        def take_none(rows, axis, probs, of_rows, of_logits, stats):
            return (None, None, None, None, probs, None, None, None, None, *stats), fine()

        return take_none
    dtype = compute_dtype(rows)
    class_weight_of, sample_weight_of = map(_if_on, of_rows[:2], (take_class_weight, take_sample_weight))
    smoothing_of, zeta_of = (_if_on(number, take_number) for number in of_rows[2:])
    softcap_of, scale_of, mask_of = map(_if_on, of_logits, (take_factor, take_factor, take_mask))

    def take(rows, axis, probs, of_rows, of_logits, stats):
        class_weight, sample_weight, label_smoothing, z_loss = of_rows
        softcap, scale, where = of_logits
        cap, cap_problem = softcap_of(softcap, SOFTCAP, dtype)
        factor, scale_problem = scale_of(scale, SCALE, dtype)
        mask, where_problem = mask_of(where, rows, axis)
        w, weight_problem = class_weight_of(class_weight, rows, dtype)
        s, sample_problem = sample_weight_of(sample_weight, rows, dtype)
        smoothing, smoothing_problem = smoothing_of(label_smoothing, LABEL_SMOOTHING, 1.0)
        zeta, zeta_problem = zeta_of(z_loss, Z_LOSS, math.inf)
        options = (w, s, smoothing, mean_weight_of(smoothing, w, rows), probs, zeta, cap, factor, mask, *stats)
        found = (
            cap_problem,
            scale_problem,
            check_quotient(factor, cap),
            where_problem,
            weight_problem,
            sample_problem,
            smoothing_problem,
            zeta_problem,
        )
        return options, first_of(found)

    return take


@by_type
def mean_weight_of(smoothing, class_weight, rows):
    """Give Σ_j w_j / C beside label smoothing, else None."""
    if is_none(smoothing):
        return lambda smoothing, class_weight, rows: None
    if is_none(class_weight):
        return lambda smoothing, class_weight, rows: 1.0

    def mean(smoothing, class_weight, rows):
        return run("helpers", "total_class_weight", rows, 0, (), (class_weight,)) / rows.shape[1]

    return mean


@by_type
def stats_of(asked, rows):
    """Make room for the statistics of rows: lse, predictions and entropy; None where they are not asked for."""
    if not literal(asked):
        return lambda asked, rows: (None, None, None)

    def make_room(asked, rows):
        n_rows = (rows.shape[0],)
        return room(n_rows, np.float64), room(n_rows, np.int64), room(n_rows, np.float64)

    return make_room


# The mean -------------------------------------------------------------------------------------------------------------


@by_type
def divisor_of(options, labels, counted, ignore_index):
    """Give what a mean divides by: how many rows count, or the sum of what they weigh."""
    class_weight, sample_weight, _, _, probs, *_ = options
    if is_none(sample_weight) and (is_none(class_weight) or not is_none(probs)):
        return lambda options, labels, counted, ignore_index: np.float64(counted)
    if not is_none(probs):
        return lambda options, labels, counted, ignore_index: run("helpers", "total_loss", None, 0, (), (options[1],))

    def weigh(options, labels, counted, ignore_index):
        weights = room((labels.size,), np.float64)
        weighing = (options[0], options[1])
        run("helpers", "row_weights", options[0], labels.size, weighing, (labels, ignore_index, weights))
        return run("helpers", "total_loss", None, 0, (), (weights,))

    return weigh


@by_type
def upstream(dloss, rows):
    """Give the gradient of what follows the loss: a factor of all rows, one for each or none, and the problem."""
    dtype = compute_dtype(rows)
    if is_none(dloss):
        return lambda dloss, rows: (1.0, room((0,), dtype), fine())
    if is_number(dloss):
        return lambda dloss, rows: (np.float64(dloss), room((0,), dtype), fine())

    def of_rows(dloss, rows):
        factors, n_rows = line_as(dloss, dtype), rows.shape[0]
        is_fine = factors.size == n_rows
        return 1.0, factors, fine() if is_fine else problem(DLOSS_SHAPE, 0.0, n_rows, factors.size, 0)

    return of_rows


def check_upstream(given, n_axes):
    """Require an upstream gradient of a type that goes with the reduction."""
    dloss, reduction = given.get("dloss"), literal(given["reduction"])
    if is_none(dloss) or (is_number(dloss) and (reduction != "none" or n_axes == 1)):
        return
    if not (reduction == "none" and n_axes == 2 and _is_line_of_numbers(dloss)):
        refuse("dloss", 'a number, or for reduction="none" one for each row', dloss)
