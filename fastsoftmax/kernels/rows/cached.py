"""Results that are left where a cache holds them: each row gets its e_j first, and then what `finish` makes of them.

The next row's range is found between the row's exponentials and their product, so that no pass waits for the last steps
of the one before: softmax of 1,000 classes took a bit longer with each range at its row's start (M9). Where rows are
near (see `vecmath.exp.exp_near`) no entry needs a test for zero.
"""

import numpy as np

from ..compiling.halves import is_half
from ..compiling.staging import noinline, staged
from ..simd.reduce import first_lane
from ..vecmath.quotient import (
    LEAST_NEAR_QUOTIENT,
    NO_HEADROOM,
    least_quotient,
    multiply,
    multiply_near,
    row_quotient,
)
from .gradient import (
    GradientTerms,
    LabelEntry,
    gradient,
    gradient_anew,
    gradient_of,
    gradient_of_logits,
    gradient_terms,
    label_entry,
)
from .logits import exp_logit, exp_near_logit, has_slope, row_scale
from .passes import Place, Range, Row, exp_sum, row_range
from .streamed import Pending, store_row
from .whole import cross_entropy_row, look_up, loss_from_sums, probability, skip_of


@staged
def next_range(logits, row):
    """Find the range of the next row, if there is one; else give this row's."""
    found = Range(row.top, row.near)
    if row.following:
        found = row_range(logits, row.start + row.following, row.stop + row.following)
    return found


@staged
def room_for_exps(out, n_classes):
    """Make room for the e_j of a row where the result cannot hold them: it would round them to a half type."""
    return np.empty(n_classes, out.dtype) if is_half(out.stored) else None


def place_of_exps(out, start, room):
    """Give the place for the e_j of a row: its own in the result, or such room."""
    return Place(out, start) if room is None else Place(room, 0)


@staged
def store_exps(logits, row, skip, scale, exps, options=None):
    """Store e_j; compute Σ_{j≠skip} e_j."""
    if row.near:
        sums = exp_sum(exp_near_logit, logits, row, scale, skip, exps, options=options)
    else:
        sums = _store_far_exps(logits, row.start, row.stop, row.top, skip, exps, options)
    return sums


# Rows that are not near go to functions of their own: side by side in one, the constants of both loops do not fit in
# registers (M10).
@noinline
def _store_far_exps(logits, start, stop, top, skip, exps, options):
    scale = row_scale(logits, top)
    return exp_sum(exp_logit, logits, Row(start, stop, top), scale, skip, exps, options=options)


@staged
def softmax_row(logits, row, probs, room):
    """Compute a_j = e_j / Σ_s e_s, and the next row's range."""
    exps = place_of_exps(probs, row.start, room)
    total = store_exps(logits, row, -1, row_scale(logits, row.top), exps).others
    next_one = next_range(logits, row)
    _multiply_row(exps, probs, row.start, row.stop, 1.0, total, row.near)
    return next_one


@staged
def _multiply_row(exps, out, start, stop, weight, total, near):
    """Write the product of e_j and weight / total."""
    if near:
        quotient = row_quotient(out, weight, total)
        store_row(Pending(_near_product, quotient, exps.values, exps.at, out, start, stop))
    else:
        _multiply_far_row(exps, out, start, stop, weight, total)


@noinline
def _multiply_far_row(exps, out, start, stop, weight, total):
    quotient = row_quotient(out, weight, total)
    store_row(Pending(probability, quotient, exps.values, exps.at, out, start, stop))


@staged
def _near_product(e, j, left, quotient):
    return multiply_near(e, quotient)


@staged
def is_small(like, weight, total):
    """Whether weight / total is too small for `multiply`, but not 0."""
    return (weight != 0) & (abs(weight) < least_quotient(like) * total)


@staged
def sum_for_grad(exps, n_classes, weight, total):
    """Give the Σ_j e_j to divide by; where weight / total is too small, e_j lose their headroom first."""
    if is_small(exps.values, weight, total):
        _multiply_far_row(exps, exps.values, exps.at, exps.at + n_classes, NO_HEADROOM, 1.0)
        total = total * NO_HEADROOM
    return total


@staged
def cross_entropy_with_grad_row(logits, row, y, factor, options, dlogits, room):
    """Compute (what is found of the row, the next row's range), and s ∂L/∂z_j into `dlogits`, with s for `factor`."""
    if has_slope(logits):
        return _gradient_anew_row(logits, row, y, factor, options, dlogits)
    start, stop, exps = row.start, row.stop, place_of_exps(dlogits, row.start, room)
    scale, looked_up = row_scale(logits, row.top), look_up(logits, row, y, options)
    sums = store_exps(logits, row, skip_of(options, start, looked_up), scale, exps, options)
    found = loss_from_sums(logits, row, looked_up, scale, sums, options, exps)
    if y is not None:
        exps.values[exps.at + y] = first_lane(found.entry)
    next_one = next_range(logits, row)
    terms = gradient_terms(found, factor, options, start)
    if row.near and abs(terms.weight) >= LEAST_NEAR_QUOTIENT * terms.total:
        _write_gradient(multiply_near, exps, dlogits, start, stop, terms)
    else:
        total = sum_for_grad(exps, stop - start, terms.weight, terms.total)
        terms = GradientTerms(terms.weight, total, terms.uniform, terms.spread)
        _write_far_gradient(exps, dlogits, start, stop, terms)
    return found, next_one


@staged
def _gradient_anew_row(logits, row, y, factor, options, dlogits):
    """Do the same where each entry has a slope of its own: from the logits again, which e_j must not replace before."""
    start, stop = row.start, row.stop
    found, _ = cross_entropy_row(logits, row, y, options)
    next_one = next_range(logits, row)
    terms, label = gradient_terms(found, factor, options, start), label_entry(found, y)
    if is_small(logits, terms.weight, terms.total):
        _write_small_gradient(logits, row.top, terms, label, start, stop, dlogits)
    else:
        given = gradient_of_logits(logits, row.top, terms, label)
        store_row(Pending(gradient_anew, given, logits, start, dlogits, start, stop))
    return found, next_one


@noinline
def _write_small_gradient(logits, top, terms, label, start, stop, dlogits):
    """Write a gradient whose e_j must lose their headroom first: see `sum_for_grad`."""
    terms = GradientTerms(terms.weight, terms.total * NO_HEADROOM, terms.uniform, terms.spread)
    if label is not None:
        label = LabelEntry(label.y, label.entry * NO_HEADROOM)
    given = gradient_of_logits(logits, top, terms, label, NO_HEADROOM)
    store_row(Pending(gradient_anew, given, logits, start, dlogits, start, stop))


@staged
def _write_gradient(multiply, exps, dlogits, start, stop, terms):
    given = gradient_of(dlogits, multiply, terms)
    store_row(Pending(gradient, given, exps.values, exps.at, dlogits, start, stop))


@noinline
def _write_far_gradient(exps, dlogits, start, stop, terms):
    _write_gradient(multiply, exps, dlogits, start, stop, terms)
