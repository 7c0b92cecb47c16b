"""Tiles of sums that stay in registers, for products of narrow matrices.

A BLAS is made for wide matrices. Where one side has a few columns it moves more than it computes; a tile of 4 × 5
vectors does 20 fused multiply-adds for 9 loads, and reads the long side once for five columns. Five, not four: ten
classes are two tiles, and 49 vectors, 784 features, all but fill ten.
"""

from itertools import count as count_from

from llvmlite import ir

from ..compiling.numbers import Number, number, where
from ..compiling.values import INT32, Vector, builder
from ..simd.memory import load_first, store_first
from ..simd.vector import build_splat, fma, vector_type


def round_up(length, side):
    """Round a length up to whole tiles."""
    return -(-length // side) * side


def empty_tile(like, rows, columns):
    """Begin a tile of zeros: a tuple of rows × columns vectors, row by row."""
    return (Vector(ir.Constant(vector_type(like.dtype), None)),) * (rows * columns)


def add_products(tile, rows, columns):
    """Add the outer product of some vectors and others: tile[i · columns + j] + rows[i] · columns[j]."""
    pairs = [(row, column) for row in rows for column in columns]
    return tuple(fma(row, column, total) for (row, column), total in zip(pairs, tile, strict=True))


def add_tiles(a, b):
    """Add two tiles."""
    return tuple(one + other for one, other in zip(a, b, strict=True))


def load_several(array, at, step, left, shrink, count):
    """Load `count` vectors, one every `step` elements: `left` elements of the first, `shrink` less of each further."""
    vectors = []
    for _ in range(count):
        vectors.append(load_first(array, at, left, 0.0))
        at, left = at + step, left - shrink
    return tuple(vectors)


def broadcast_several(array, at, step, count):
    """Load `count` elements, each `step` after the one before, into every lane of a vector each."""
    kind, vectors = vector_type(array.dtype), []
    for _ in range(count):
        vectors.append(Vector(build_splat(kind, array[at].ir)))
        at = at + step
    return tuple(vectors)


def _places(array, at, step, n_rows, left, n_vectors):
    """Give (index, how many lanes count) of each vector of a tile in an array; see `load_tile`."""
    width = vector_type(array.dtype).count
    for row in count_from():
        for k in range(n_vectors):
            count = left - k * width
            if not isinstance(n_rows, int) or row >= n_rows:
                count = where(number(n_rows) > row, count, 0)
            yield at + k * width, count
        at = at + step


def load_tile(array, at, step, n_rows, left, tile, n_vectors):
    """Load a tile as large as `tile`, of rows of `n_vectors` vectors, each `step` elements after the one before it.

    `left` elements of the first `n_rows` rows are loaded; the others are 0, and their memory is not touched.
    """
    places = _places(array, at, step, n_rows, left, n_vectors)
    return tuple(load_first(array, *next(places), 0.0) for _ in tile)


def store_tile(array, at, step, n_rows, left, tile, n_vectors):
    """Store a tile where `load_tile` would load one."""
    places = _places(array, at, step, n_rows, left, n_vectors)
    for vector, place in zip(tile, places, strict=False):
        store_first(array, *place, vector)


def store_lane_sums(array, at, step, left, tile, n_columns, addends, first):
    """Store the sum over the lanes of each vector of a tile, plus an addend per column: of `left` of its `n_columns`.

    Row r begins at array.flat[at + r · step], the addends at addends.flat[first].
    """
    sums = _lane_sums(tile)
    for column in range(n_columns):
        with builder().if_then((left > column).ir):
            addend = addends.flat[first + column]
            for row in range(len(tile) // n_columns):
                array.flat[at + step * row + column] = sums[row * n_columns + column] + addend


def _lane_sums(tile):
    """Give the sums over the lanes of vectors: lane i plus lane i + count/2, and so on, two vectors becoming one.

    So 16 sums take 15 additions, where one takes four: losses of 20 columns take almost a third less (M37).
    """
    zeros, count, sums = empty_tile(tile[0], 1, 1), tile[0].ir.type.count, []
    for start in range(0, len(tile), count):
        level, size = list(tile[start : start + count]), count
        while size > 1:
            level += zeros * (len(level) % 2)
            level = [_folded(a, b, size) for a, b in zip(level[::2], level[1::2], strict=True)]
            size //= 2
        sums += [Number(builder().extract_element(level[0].ir, INT32(lane))) for lane in range(count)]
    return sums[: len(tile)]


def _folded(a, b, size):
    """Give the sum of the lower and the upper half of each `size` lanes of a, then of b."""
    count = a.ir.type.count
    low = [lane for lane in range(2 * count) if lane % size < size // 2]
    picks = ([lane + shift for lane in low] for shift in (0, size // 2))
    indices = [ir.Constant(ir.VectorType(INT32, count), pick) for pick in picks]
    low, high = (Vector(builder().shuffle_vector(a.ir, b.ir, index)) for index in indices)
    return low + high
