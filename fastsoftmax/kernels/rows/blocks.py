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

from ..compiling.numbers import Number
from ..compiling.staging import staged
from ..compiling.views import Array
from ..simd.accumulate import sum_all
from ..simd.memory import finish_streams, overlap
from ..simd.reduce import first_lane
from ..tuning import BLOCK_CLASSES
from .backward import sum_of_products
from .logits import block_gap, exp_logit, exp_top, exponent_of, has_exponents, row_scale
from .options import has_stats
from .passes import ExpSums, Row, exp_sum, row_max
from .stats import Prediction, predict
from .streamed import Pending, store_row, stream_row
from .targets import spreads
from .whole import nan_or_zero


class Parts(NamedTuple):
    """What is known of each block of a row."""

    tops: Array  # m
    sums: Array  # Σ_{j≠skip} e_j, NaN where the row must be done as a whole
    e_tops: Array  # e_m
    shortfalls: Array | None  # Σ_j u_j (m − q_j)
    weights: Array | None  # Σ_j u_j
    dispersions: Array | None  # Σ_j e_j (m − q_j)
    predictions: Array | None  # the first greatest class


@staged
def empty_parts(n_classes, options=None):
    """Make room for what is known of each block; `options` are those of `exp_sum`."""
    n_blocks = -(-n_classes // BLOCK_CLASSES)
    spread, stats = options is not None and spreads(options), options is not None and has_stats(options)
    room = np.empty((7 if spread or stats else 3, n_blocks))
    return Parts(
        room[0],
        room[1],
        room[2],
        room[3] if spread else None,
        room[4] if spread else None,
        room[5] if stats else None,
        room[6] if stats else None,
    )


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
        scale = row_scale(logits, m)
        row = Row(first, last, m)
        sums = exp_sum(exp_logit, logits, row, scale, skip, options=options, first=start)
        parts.sums[block] = sums.others
        parts.e_tops[block] = first_lane(exp_top(scale))
        if parts.shortfalls is not None:
            parts.shortfalls[block] = sums.shortfall
            weight = sums.weight
            parts.weights[block] = _block_weight(options, first - start, last - start) if weight is None else weight
        if parts.dispersions is not None:
            parts.dispersions[block] = sums.dispersion
            parts.predictions[block] = predict(logits, first, last, m).number + (first - start)


@staged
def _block_weight(options, first, last):
    """Compute Σ_j w_j of a block of classes."""
    return last - first if options.class_weight is None else sum_of_products(options.class_weight, None, first, last)


class Merged(NamedTuple):
    """What is known of a row whose blocks were merged."""

    top: Number  # m
    sums: ExpSums  # where e_j is relative to the row's own power of two
    prediction: Prediction | None


@staged
def merge(logits, skip, parts):
    """Merge a row's blocks.

    The sum is NaN where a logit is, where m is infinite, and where maxima are too large for powers of two to tell the
    blocks' scales apart; with smoothing or statistics also where a whole block is −inf.
    """
    tops, sums = parts.tops, parts.sums
    m, first = tops[0], 0
    for block in range(1, tops.size):
        if parts.predictions is not None:
            first = block if tops[block] > m else first
        m = max(m, tops[block])
    exponent = exponent_of(logits, m)
    kept = -1
    further = parts.shortfalls is not None or parts.dispersions is not None
    for block in range(tops.size):
        if not has_exponents(logits, m, tops[block]):
            sums[block] = math.nan
        elif tops[block] > -math.inf:
            if skip is None:
                if kept < 0 and tops[block] == m:
                    kept = block
                else:
                    sums[block] += parts.e_tops[block]
            power = np.intp(exponent_of(logits, tops[block]) - exponent)
            sums[block] = math.ldexp(sums[block], power)
            if further:
                below = block_gap(logits, m, tops[block])
            if parts.shortfalls is not None:
                parts.shortfalls[block] += below * parts.weights[block]
            if parts.dispersions is not None:
                parts.dispersions[block] = math.ldexp(parts.dispersions[block], power) + below * sums[block]
        elif further:
            sums[block] = math.nan
    prediction = None if parts.predictions is None else Prediction(np.intp(parts.predictions[first]), m)
    merged = ExpSums(
        sum_all(sums),
        0,
        _sum_of_parts(parts.shortfalls),
        _sum_of_parts(parts.weights),
        _sum_of_parts(parts.dispersions),
    )
    return Merged(logits.dtype.type(m), merged, prediction)


@staged
def _sum_of_parts(parts):
    return None if parts is None else sum_all(parts)


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
