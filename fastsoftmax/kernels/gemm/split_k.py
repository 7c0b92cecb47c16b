"""Sums over rows, split into blocks that threads add up each by itself."""

from ..compiling.staging import staged
from ..simd.memory import load_first, store_first
from ..simd.vector import lanes_of
from ..tuning import MOST_BLOCKS, WEIGHT_COLUMNS, WEIGHT_VECTORS
from .micro_tile import round_up


@staged
def blocks_of(n_rows, fewest):
    """Cut rows into at most 64 blocks of at least `fewest` rows: (number of blocks, rows in each)."""
    rows = max(fewest, -(-n_rows // MOST_BLOCKS))
    rows = -(-rows // 128) * 128  # a whole number of bundles, and of the longest strips
    return -(-n_rows // rows), rows


@staged
def add_up(partial, result):
    """Write Σ over the blocks of their partial sums, in order, which are lost."""
    _add_blocks(partial)
    for i in range(result.size):
        result[i] = partial[0, i]


@staged
def _add_blocks(partial):
    """Add all blocks' partial sums to the first one's."""
    n_blocks, size = partial.shape
    for block in range(1, n_blocks):
        for i in range(0, size, 8):
            left = size - i
            value = load_first(partial, block * size + i, left, 0.0)
            store_first(partial, i, left, load_first(partial, i, left, 0.0) + value)


@staged
def partial_size(like, n_features, n_columns):
    """Count the elements of a partial ∂L/∂W: columns and features in whole tiles."""
    return round_up(n_columns, WEIGHT_COLUMNS) * round_up(n_features, WEIGHT_VECTORS * lanes_of(like))


@staged
def write_weight_grad(partial, dweight):
    """Write Σ over the blocks of their partial sums (columns, features) as ∂L/∂W (features, columns); they are lost."""
    n_features, n_columns = dweight.shape
    padded_features = partial.shape[1] // round_up(n_columns, WEIGHT_COLUMNS)
    _add_blocks(partial)
    for column in range(n_columns):
        for feature in range(n_features):
            dweight[feature, column] = partial[0, column * padded_features + feature]
