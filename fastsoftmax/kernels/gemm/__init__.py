"""Products of matrices: micro-tiles, packing, blocks, narrow products, sums over rows."""
