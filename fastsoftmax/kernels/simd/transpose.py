"""Tiles transposed between rows and lanes, in blocks that fit in registers.

A block has as many rows and columns as a register has lanes: 16 × 16 float32 with AVX-512, 8 × 8 in registers of 32
bytes, where a tile of 16 × 16 would need twice as many as there are: softmax of ten classes took twice as long with
such tiles (M27).
"""

from llvmlite import ir

from ..compiling.numbers import Number, number, where
from ..compiling.target import AVX512
from ..compiling.values import INT32, builder
from ..compiling.views import address
from .memory import build_allowed, build_load_first, build_store_first, part_address
from .vector import build_computed, build_stored, lanes_of


def side_of(like):
    """Count the rows and columns of a block of the dtype of `like`."""
    return lanes_of(like) // (1 if AVX512 else 2)


def _vector(array):
    return ir.VectorType(array.element, side_of(array))


def transpose_block(source, at, step, target, target_at, target_step):
    """Transpose a block: target[c, r] = source[r, c].

    Row r of the source starts at source.flat[at + r · step], row c of the target likewise.
    """
    vector, vectors = _vector(source), []
    for row in range(vector.count):
        start = at + step * row
        loaded = builder().load(address(source, start, vector.count), typ=vector, align=source.itemsize)
        vectors.append(build_computed(build_allowed(source, start, vector.count, loaded), source))
    for row, value in enumerate(_build_transpose(vectors)):
        start = target_at + target_step * row
        value = build_allowed(target, start, vector.count, build_stored(value, target))
        builder().store(value, address(target, start, vector.count), align=target.itemsize)


def transpose_part(source, at, step, n_rows, n_columns, target, target_at, target_step, n_kept, kept_columns):
    """Transpose part of a tile as large as a vector has lanes.

    `n_rows` of `n_columns` are read from the source, and `n_kept` rows of `kept_columns` written to the target: 0 where
    there was nothing to read, but whole blocks without a column of the source or of the target are left out.
    """
    vector = _vector(source)
    side, count = vector.count, lanes_of(source)

    def place(array, at, step, row, column, n_rows, n_columns):
        left = n_columns - column
        if isinstance(n_rows, Number):
            left = where(n_rows > row, left, 0)
        elif row >= n_rows:
            left = 0
        return at + step * row + column, left

    def build_block(top, left):
        rows = (place(source, at, step, row, left, n_rows, n_columns) for row in range(top, top + side))
        vectors = []
        for start, count in rows:
            here = part_address(source, start, count, vector)
            loaded = build_load_first(here, count, ir.Constant(vector, None))
            vectors.append(build_computed(build_allowed(source, start, count, loaded), source))
        for row, value in enumerate(_build_transpose(vectors), start=left):
            start, count = place(target, target_at, target_step, row, top, n_kept, kept_columns)
            value = build_allowed(target, start, count, build_stored(value, target))
            build_store_first(value, part_address(target, start, count, value.type), count)

    for top in range(0, count, side):
        for left in range(0, count, side):
            wanted = (number(n_columns) > left) & (number(kept_columns) > top)
            with builder().if_then(wanted.ir):
                build_block(top, left)


def _build_transpose(vectors):
    """Swap the off-diagonal halves of the block, then of its quarters, and so on."""
    count = len(vectors)
    vectors = list(vectors)
    distance = count // 2
    while distance:
        low = [lane if not lane & distance else count + lane - distance for lane in range(count)]
        high = [lane + distance if not lane & distance else count + lane for lane in range(count)]
        low, high = (ir.Constant(ir.VectorType(INT32, count), pick) for pick in (low, high))
        for i in range(count):
            if not i & distance:
                a, b = vectors[i], vectors[i + distance]
                vectors[i] = builder().shuffle_vector(a, b, low)
                vectors[i + distance] = builder().shuffle_vector(a, b, high)
        distance //= 2
    return vectors
