"""Results that are left where a cache holds them: each row gets its e_j first, and then their product with a quotient.

A row is a tuple (start, stop, m, near): its maximum is known, and whether it is near, so that no entry needs a test for
zero (see `elementary.exp_near`). `following` is how many entries further the next row of this thread is, 0 if there is
none. Its range is found between the row's exponentials and their product, so that no pass waits for the last steps of
the one before: softmax of 1,000 classes took 341 ns a row with each range at its row's start, 317 so.
"""

import math

from ..compiling.staging import apart, staged
from ..simd.memory import load, load_first
from ..simd.reduce import greatest_lane
from ..simd.vector import greater, lanes_of, less, splat
from ..vecmath.exp import LEAST_NEAR_QUOTIENT, NO_HEADROOM, exp_near, exp_scaled, is_near, scale_of
from ..vecmath.quotient import least_quotient, multiply, multiply_near
from .row import exp_sum, loss_and_sum, put_label, row_quotient
from .streamed import store_row


@staged
def row_range(logits, start, stop):
    """Find max_j z_j, as `row_max` does, and whether `exp_near` will do for the row."""
    width = lanes_of(logits)
    m0 = m1 = splat(logits, -math.inf)
    low0 = low1 = splat(logits, math.inf)
    i = start
    while i + 2 * width <= stop:
        z0, z1 = load(logits, i), load(logits, i + width)
        m0, m1 = greater(z0, m0), greater(z1, m1)
        low0, low1 = less(z0, low0), less(z1, low1)
        i += 2 * width
    while i < stop:
        m0 = greater(load_first(logits, i, stop - i, -math.inf), m0)
        low0 = less(load_first(logits, i, stop - i, math.inf), low0)
        i += width
    m = greatest_lane(greater(m0, m1))
    return m, is_near(splat(logits, m), less(low0, low1))


@staged
def next_range(logits, row, following):
    """Do `row_range` for the next row, if there is one."""
    start, stop, m, near = row
    if following:
        m, near = row_range(logits, start + following, stop + following)
    return m, near


@staged
def store_exps(logits, row, skip, scale, exps):
    """Store e_j where the row stands in `exps`; compute Σ_{j≠skip} e_j."""
    start, stop, m, near = row
    if near:
        total, _ = exp_sum(exp_near, logits, (start, stop, m), skip, scale, exps, start, None, None, None)
    else:
        total = _store_far_exps(logits, start, stop, m, skip, exps)
    return total


# Rows that are not near go to functions of their own: side by side in one, the constants of both loops do not fit in
# registers (8,192 × 1,000 cross entropy took 338 ns a row, 324 so, and 401 and 382 if it is not near).
@apart
def _store_far_exps(logits, start, stop, m, skip, exps):
    scale = scale_of(splat(logits, m))
    return exp_sum(exp_scaled, logits, (start, stop, m), skip, scale, exps, start, None, None, None)[0]


@staged
def multiply_row(values, start, stop, weight, total, near):
    """Multiply a row by weight / total."""
    if near:
        store_row(multiply_near, (row_quotient(values, weight, total), values, start, values, start, stop))
    else:
        _multiply_far_row(values, start, stop, weight, total)


@apart
def _multiply_far_row(values, start, stop, weight, total):
    store_row(multiply, (row_quotient(values, weight, total), values, start, values, start, stop))


@staged
def is_small(like, weight, total):
    """Whether weight / total is too small for `multiply`, but not 0.

    Without a branch, or Numba counts references to the arrays of a loop in each round of it: 120 ns a row.
    """
    return (weight != 0) & (abs(weight) < least_quotient(like) * total)


@staged
def sum_for_grad(exps, start, stop, weight, total):
    """Give the Σ_j e_j to divide by; where weight / total is too small, e_j lose their headroom first."""
    if is_small(exps, weight, total):
        _multiply_far_row(exps, start, stop, NO_HEADROOM, 1.0)
        total = total * NO_HEADROOM
    return total


@staged
def softmax_row(logits, row, probs, following):
    """Compute a_j = e_j / Σ_s e_s, and the next row's range."""
    start, stop, m, near = row
    total = store_exps(logits, row, -1, scale_of(splat(logits, m)), probs)
    next_one = next_range(logits, row, following)
    multiply_row(probs, start, stop, 1.0, total, near)
    return next_one


@staged
def cross_entropy_with_grad_row(logits, row, label, weight, dlogits, following):
    """Compute the loss, weight · (a_j − 1{j=y}) into `dlogits`, and the next row's range."""
    start, stop, m, near = row
    scale, z_label = scale_of(splat(logits, m)), logits[label]  # before e_j takes its place
    others = store_exps(logits, row, label, scale, dlogits)
    put_label(dlogits, label, others)
    m_next, near_next = next_range(logits, row, following)
    loss, total = loss_and_sum(logits, m, z_label, scale, others)
    near = near and abs(weight) >= LEAST_NEAR_QUOTIENT * total
    divisor = total if near else sum_for_grad(dlogits, start, stop, weight, total)
    multiply_row(dlogits, start, stop, weight, divisor, near)
    return loss, m_next, near_next
