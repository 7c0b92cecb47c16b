"""Every threshold and tile size, with what it gained.

Times are of two cores of an AMD EPYC with AVX-512, in float32 where nothing else is said; `docs/measurements.md` has
the machines, the months and the commands under the numbers in brackets.
"""

import numpy as np

from .compiling.target import AVX512
from .compiling.values import BFLOAT16, FLOAT16

# Regimes (see `regimes`) ------------------------------------------------------------------------------------------

# Below so many classes a bundle of rows is faster than its rows one by one (M1): see `rows.few`. In float32 127 classes
# take 0.6 to 0.95 of the time (1.07 from memory and out of place); in float64, with half as many lanes, 30 take 0.75 to
# 1.1, 40 up to 1.4 (M2).
FEW_CLASSES = {np.dtype(np.float32): 128, np.dtype(np.float64): 32, FLOAT16: 128, BFLOAT16: 128}
# From so many classes, and bytes of result, on a row is written past the caches: see `rows.streamed`. Shorter rows are
# done too soon to hide it (500 classes took 0.9 to 1.15 times as long, 1,000 take 0.8 to 0.95, 8,000 0.8 to 0.9: M4),
# and smaller results are better left where their reader finds them: 33 MB that are added up at once took 1.05 times as
# long, kernel and sum together, 66 MB 0.95 (M5).
STREAM_CLASSES = 1_000
STREAM_BYTES = 32_000_000
# From so many bytes, as computed, on all threads share a row: see `rows.blocked`. No cache has room for several (M13).
BLOCKED_BYTES = 2**23
# Below so many classes the linear head is one pass over its inputs: see `linear_cross_entropy`.
HEAD_FEW_CLASSES = 64
# Up to so many columns the narrow kernels are faster: of z, and of ∂L/∂z, whose sums they round less, too (M58).
NARROW_OUTPUTS, NARROW_DOUTPUTS = 16, 32

# Tasks: what a thread takes at a time ------------------------------------------------------------------------------

LONGEST_RUN, FEWEST_RUNS = 16, 64  # rows in a run, so that one prepares the next; runs, so that many threads have some
CHUNK_ROWS = 512  # of few classes
ROUND_SPAN = 2**15  # numbers that are rounded to a half type
# Of rows whose classes do not lie next to each other: bundles in a strip, numbers in one that has several (M65), in a
# task.
STRIP_BUNDLES, STRIP_SIZE, SPATIAL_SIZE = 8, 2**15, 2**17
WEIGHT_ROWS = 2**14  # whose weights are looked up
BLOCK_CLASSES = 2**15  # of a row that all threads share: in float32 a block is an eighth of a 1 MB second-level cache
# Sums over rows: at most so many blocks, of so many rows at least.
MOST_BLOCKS, BLOCK_ROWS = 64, 1024
# Columns and fewest rows that a task of bias_grad adds up: memory reads long stretches faster (2,048 × 32,000 took
# 5.5 ms in spans of 8,192, and takes 4.7: M40), and a second-level cache still holds the sums.
SPAN_COLUMNS, SPAN_ROWS = 2**15, 256
BIAS_BLOCKS = 16  # of rows whose ∂L/∂b is added up apart, in the head of many classes
STRIP_BYTES = 2**18  # of inputs: as many rows as leave room in a 1 MB second-level cache
DINPUTS_ROWS = 128  # rows of ∂L/∂X that a thread writes at a time

# Prefetching: how many elements ahead ------------------------------------------------------------------------------

# The next row, before it is read: after this one, or at the same time. That is about as long as memory takes (M6, M7).
ROW_LEAD, LONG_ROW_LEAD = 512, 2048
BUNDLE_LEAD = 1024  # or a bundle if that is more (M19)
SPAN_LEAD = 256  # of sums of columns (M39)

# Micro-tiles: sums that stay in registers ---------------------------------------------------------------------------

# With AVX-512 there are 32 registers of a vector, without 16 of half a vector, and larger tiles spill: with tiles of
# 4 × 5 there 65,536 × 784 × 10 took 48 ms for ∂L/∂W, 70 for ∂L/∂X, 37 for z and its losses, and takes 30, 18 and 26
# (M29).
WEIGHT_VECTORS, WEIGHT_COLUMNS = (4, 5) if AVX512 else (1, 5)  # ∂L/∂W: vectors of features × columns
INPUT_ROWS, INPUT_VECTORS = (4, 5) if AVX512 else (4, 1)  # ∂L/∂X: rows × vectors of features
OUTPUT_ROWS, OUTPUT_COLUMNS = (4, 5) if AVX512 else (2, 2)  # z: rows × columns
# Wide matrices, MR × NR: rows × vectors of columns. As large as the registers allow, so that it waits for no addition.
TILE_ROWS, TILE_VECTORS = (12, 2) if AVX512 else (6, 1)
BLOCK_DEPTH = 256  # KC: products that are added up in registers; such a panel of the second factor has 32 KB
MOST_ROWS = 264  # MC: of a block in float32, half as many in float64: their panels have 270 KB
