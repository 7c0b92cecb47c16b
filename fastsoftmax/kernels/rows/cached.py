"""Results that are left where a cache holds them: each row gets its e_j first, and then what `finish` makes of them.

The next row's range is found between the row's exponentials and their product, so that no pass waits for the last steps
of the one before: softmax of 1,000 classes took a bit longer with each range at its row's start (M9). Where rows are
near (see `vecmath.exp.exp_near`) no entry needs a test for zero.
"""

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
def store_exps(logits, row, skip, scale, out, options=None):
    """Store e_j where the row stands in `out`; compute Σ_{j≠skip} e_j."""
    if row.near:
        sums = exp_sum(exp_near_logit, logits, row, scale, skip, Place(out, row.start), options=options)
    else:
        sums = _store_far_exps(logits, row.start, row.stop, row.top, skip, out, options)
    return sums


# Rows that are not near go to functions of their own: side by side in one, the constants of both loops do not fit in
# registers (M10).
@noinline
def _store_far_exps(logits, start, stop, top, skip, out, options):
    scale = row_scale(logits, top)
    return exp_sum(exp_logit, logits, Row(start, stop, top), scale, skip, Place(out, start), options=options)


@staged
def softmax_row(logits, row, probs):
    """Compute a_j = e_j / Σ_s e_s, and the next row's range."""
    total = store_exps(logits, row, -1, row_scale(logits, row.top), probs).others
    next_one = next_range(logits, row)
    _multiply_row(probs, row.start, row.stop, 1.0, total, row.near)
    return next_one


@staged
def _multiply_row(values, start, stop, weight, total, near):
    """Multiply a row by weight / total."""
    if near:
        quotient = row_quotient(values, weight, total)
        store_row(Pending(_near_product, quotient, values, start, values, start, stop))
    else:
        _multiply_far_row(values, start, stop, weight, total)


@noinline
def _multiply_far_row(values, start, stop, weight, total):
    quotient = row_quotient(values, weight, total)
    store_row(Pending(probability, quotient, values, start, values, start, stop))


@staged
def _near_product(e, j, left, quotient):
    return multiply_near(e, quotient)


@staged
def is_small(like, weight, total):
    """Whether weight / total is too small for `multiply`, but not 0."""
    return (weight != 0) & (abs(weight) < least_quotient(like) * total)


@staged
def sum_for_grad(exps, start, stop, weight, total):
    """Give the Σ_j e_j to divide by; where weight / total is too small, e_j lose their headroom first."""
    if is_small(exps, weight, total):
        _multiply_far_row(exps, start, stop, NO_HEADROOM, 1.0)
        total = total * NO_HEADROOM
    return total


@staged
def cross_entropy_with_grad_row(logits, row, y, factor, options, dlogits):
    """Compute (what is found of the row, the next row's range), and s ∂L/∂z_j into `dlogits`, with s for `factor`."""
    if has_slope(logits):
        return _gradient_anew_row(logits, row, y, factor, options, dlogits)
    start, stop = row.start, row.stop
    scale, looked_up = row_scale(logits, row.top), look_up(logits, row, y, options)
    sums = store_exps(logits, row, skip_of(options, start, looked_up), scale, dlogits, options)
    found = loss_from_sums(logits, row, looked_up, scale, sums, options, Place(dlogits, start))
    if y is not None:
        dlogits[start + y] = first_lane(found.entry)
    next_one = next_range(logits, row)
    terms = gradient_terms(found, factor, options, start)
    if row.near and abs(terms.weight) >= LEAST_NEAR_QUOTIENT * terms.total:
        _write_gradient(multiply_near, dlogits, start, stop, terms)
    else:
        total = sum_for_grad(dlogits, start, stop, terms.weight, terms.total)
        _write_far_gradient(dlogits, start, stop, GradientTerms(terms.weight, total, terms.uniform, terms.spread))
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
def _write_gradient(multiply, dlogits, start, stop, terms):
    store_row(Pending(gradient, gradient_of(dlogits, multiply, terms), dlogits, start, dlogits, start, stop))


@noinline
def _write_far_gradient(dlogits, start, stop, terms):
    _write_gradient(multiply, dlogits, start, stop, terms)
