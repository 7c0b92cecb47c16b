"""Blocks of a row that no cache holds: their sums, how these become the row's, and their results.

A block is read while its maximum is found, and is in the second-level cache when its exponentials are added up,
relative to a power of two of its own; the maxima give the row's, and the powers cancel exactly. So sums read each logit
from memory once. A result reads it once more, takes e^z anew, which costs less than to keep it in memory, and is
written past the caches, unless it is in place. With a thread a row the logsumexp of four long rows took half as long
again, that of one two and a half times as long, and its cross entropy with the gradient in place 1.6 times (M13).
"""

import math
from typing import NamedTuple

import numpy as np

from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.accumulate import sum_all
from ..simd.memory import finish_streams, overlap
from ..simd.reduce import first_lane
from ..simd.vector import splat
from ..tuning import BLOCK_CLASSES
from ..vecmath.exp import EXACT, exp_scaled, exponent_of, scale_of
from .backward import sum_of_products
from .loss import options_from
from .passes import ExpSums, Row, exp_sum, row_max
from .streamed import Pending, store_row, stream_row
from .whole import nan_or_zero


class Parts(NamedTuple):
    """What is known of each block of a row."""

    tops: Array  # m
    sums: Array  # Σ_{j≠skip} e_j, NaN where the row must be done as a whole
    e_tops: Array  # e_m
    shortfalls: Array | None  # Σ_j w_j (m − z_j)
    weights: Array | None  # Σ_j w_j


@staged
def empty_parts(n_classes, options=None):
    """Make room for what is known of each block; `options` are those of `exp_sum`."""
    n_blocks = -(-n_classes // BLOCK_CLASSES)
    smooths = options is not None
    room = np.empty((5 if smooths else 3, n_blocks))
    return Parts(room[0], room[1], room[2], room[3] if smooths else None, room[4] if smooths else None)


@staged
def sum_block(logits, start, stop, block, skip, parts, options=None):
    """Find what `parts` has of a block of the row from start to stop; `skip` and `options` are those of `exp_sum`."""
    first = start + np.intp(block) * BLOCK_CLASSES
    last = min(first + BLOCK_CLASSES, stop)
    m = row_max(logits, first, last)
    parts.tops[block] = m
    if math.isinf(m):
        parts.sums[block], parts.e_tops[block] = nan_or_zero(logits, first, last), 0.0
    else:
        scale = scale_of(splat(logits, m))
        sums = exp_sum(
            exp_scaled, logits, Row(first, last, m), scale, skip, options=options_from(options, first - start)
        )
        parts.sums[block] = sums.others
        parts.e_tops[block] = first_lane(exp_scaled(splat(logits, m), scale))
        if sums.shortfall is not None:
            parts.shortfalls[block] = sums.shortfall
            parts.weights[block] = _block_weight(options, first - start, last - start)


@staged
def _block_weight(options, first, last):
    """Compute Σ_j w_j of a block of classes."""
    return last - first if options.class_weight is None else sum_of_products(options.class_weight, None, first, last)


@staged
def merge(logits, skip, parts):
    """Merge a row's blocks: (m, its sums), where e_j is relative to the row's own power of two.

    The sum is NaN where a logit is, where m is infinite, and where maxima are too large for powers of two to tell the
    blocks' scales apart; with smoothing also where a whole block is −inf.
    """
    tops, sums = parts.tops, parts.sums
    m = tops[0]
    for block in range(1, tops.size):
        m = max(m, tops[block])
    exponent = _exponent(logits, m)
    kept = -1
    for block in range(tops.size):
        if abs(m) > EXACT or EXACT < abs(tops[block]) < math.inf:
            sums[block] = math.nan
        elif tops[block] > -math.inf:
            if skip is None:
                if kept < 0 and tops[block] == m:
                    kept = block
                else:
                    sums[block] += parts.e_tops[block]
            sums[block] = math.ldexp(sums[block], np.intp(_exponent(logits, tops[block]) - exponent))
            if parts.shortfalls is not None:
                parts.shortfalls[block] += (m - tops[block]) * parts.weights[block]
        elif parts.shortfalls is not None:
            sums[block] = math.nan
    shortfall = None if parts.shortfalls is None else sum_all(parts.shortfalls)
    return logits.dtype.type(m), ExpSums(sum_all(sums), 0, shortfall)


@staged
def _exponent(logits, m):
    return first_lane(exponent_of(splat(logits, m)))


@staged
def write_block(finish, arguments, logits, start, stop, block, out):
    """Write finish(z, …) for a block of a row, past the caches unless in place."""
    first = start + np.intp(block) * BLOCK_CLASSES
    last = min(first + BLOCK_CLASSES, stop)
    pending = Pending(finish, (first - start, arguments), logits, first, out, first, last)
    if overlap(logits, out):
        store_row(pending)
    else:
        stream_row(pending)
        finish_streams()
