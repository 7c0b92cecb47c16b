"""Tiles of sums that stay in registers, for products of narrow matrices.

A BLAS is made for wide matrices. Where one side has a few columns it moves more than it computes; a tile of 4 × 5
vectors does 20 fused multiply-adds for 9 loads, and reads the long side once for five columns. Five, not four: ten
classes are two tiles, and 49 vectors, 784 features, all but fill ten.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inline
from .lanes import INT32, Lanes, all_lanes, build_fma, vector_type
from .memory import (
    build_address,
    build_broadcast,
    build_load_first,
    build_store_first,
    is_contiguous,
)
from .target import AVX512

# With AVX-512 there are 32 registers of a vector, without 16 of half a vector, and larger tiles spill: with tiles of
# 4 × 5 there 65,536 × 784 × 10 took 48 ms for ∂L/∂W, 70 for ∂L/∂X, 37 for z and its losses, and takes 30, 18 and 26.
WEIGHT_VECTORS, WEIGHT_COLUMNS = (4, 5) if AVX512 else (1, 5)  # ∂L/∂W: vectors of features × columns
INPUT_ROWS, INPUT_VECTORS = (4, 5) if AVX512 else (4, 1)  # ∂L/∂X: rows × vectors of features
OUTPUT_ROWS, OUTPUT_COLUMNS = (4, 5) if AVX512 else (2, 2)  # z: rows × columns
# Wide matrices: rows × vectors of columns. A tile must be as large as the registers allow, and wait for no addition.
PRODUCT_ROWS, PRODUCT_VECTORS = (12, 2) if AVX512 else (6, 1)


@inline
def round_up(length, side):
    """Round a length up to whole tiles."""
    return -(-length // side) * side


@intrinsic(prefer_literal=True)
def empty_tile(typingctx, like, rows, columns):
    """Begin a tile of zeros: a tuple of rows × columns vectors, row by row."""
    lanes = Lanes(like.dtype)
    tile = types.UniTuple(lanes, rows.literal_value * columns.literal_value)

    def codegen(context, builder, sig, args):
        return context.make_tuple(builder, tile, [ir.Constant(vector_type(lanes), None)] * tile.count)

    return tile(like, rows, columns), codegen


@intrinsic
def add_products(typingctx, tile, rows, columns):
    """Add the outer product of some vectors and others: tile[i · columns + j] + rows[i] · columns[j]."""
    if not (isinstance(tile, types.UniTuple) and all_lanes(tile.dtype, rows.dtype, columns.dtype)):
        return None

    def codegen(context, builder, sig, args):
        sums, rows, columns = (cgutils.unpack_tuple(builder, arg) for arg in args)
        pairs = [(row, column) for row in rows for column in columns]
        new = [build_fma(builder, row, column, total) for (row, column), total in zip(pairs, sums, strict=True)]
        return context.make_tuple(builder, tile, new)

    return tile(tile, rows, columns), codegen


@intrinsic
def add_tiles(typingctx, a, b):
    """Add two tiles."""
    if not (isinstance(a, types.UniTuple) and a == b and all_lanes(a.dtype)):
        return None

    def codegen(context, builder, sig, args):
        pairs = zip(*(cgutils.unpack_tuple(builder, arg) for arg in args), strict=True)
        return context.make_tuple(builder, a, [builder.fadd(*pair) for pair in pairs])

    return a(a, b), codegen


@intrinsic(prefer_literal=True)
def load_several(typingctx, array, at, step, left, shrink, count):
    """Load `count` vectors, one every `step` elements: `left` elements of the first, `shrink` less of each further."""
    if not is_contiguous(array):
        return None
    lanes, integer = Lanes(array.dtype), types.intp
    result = types.UniTuple(lanes, count.literal_value)

    def codegen(context, builder, sig, args):
        array_value, at, step, left, shrink, _ = args
        zeros, vectors = ir.Constant(vector_type(lanes), None), []
        for _ in range(result.count):
            address = build_address(context, builder, array, array_value, at, zeros.type, left)
            vectors.append(build_load_first(builder, address, left, zeros))
            at, left = builder.add(at, step), builder.sub(left, shrink)
        return context.make_tuple(builder, result, vectors)

    return result(array, integer, integer, integer, integer, count), codegen


@intrinsic(prefer_literal=True)
def broadcast_several(typingctx, array, at, step, count):
    """Load `count` elements, each `step` after the one before, into every lane of a vector each."""
    if not is_contiguous(array):
        return None
    result = types.UniTuple(Lanes(array.dtype), count.literal_value)

    def codegen(context, builder, sig, args):
        array_value, at, step, _ = args
        vectors = []
        for _ in range(result.count):
            vectors.append(build_broadcast(context, builder, array, array_value, at))
            at = builder.add(at, step)
        return context.make_tuple(builder, result, vectors)

    return result(array, types.intp, types.intp, count), codegen


def _places(context, builder, array_type, args, n_vectors):
    """Give (address, how many lanes count) of each vector of a tile in an array; see `load_tile`."""
    array, at, step, n_rows, left = args
    vector = vector_type(Lanes(array_type.dtype))
    while True:
        there = builder.icmp_signed(">", n_rows, n_rows.type(0))
        for k in range(n_vectors):
            shift = at.type(k * vector.count)
            count = builder.select(there, builder.sub(left, shift), shift.type(0))
            yield build_address(context, builder, array_type, array, builder.add(at, shift), vector, count), count
        at, n_rows = builder.add(at, step), builder.sub(n_rows, n_rows.type(1))


@intrinsic(prefer_literal=True)
def load_tile(typingctx, array, at, step, n_rows, left, tile, n_vectors):
    """Load a tile as large as `tile`, of rows of `n_vectors` vectors, each `step` elements after the one before it.

    `left` elements of the first `n_rows` rows are loaded; the others are 0, and their memory is not touched.
    """
    if not (is_contiguous(array) and isinstance(tile, types.UniTuple) and tile.dtype == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        zeros = ir.Constant(vector_type(tile.dtype), None)
        places = _places(context, builder, array, args[:5], n_vectors.literal_value)
        vectors = [build_load_first(builder, *next(places), zeros) for _ in range(tile.count)]
        return context.make_tuple(builder, tile, vectors)

    return tile(array, *[types.intp] * 4, tile, n_vectors), codegen


@intrinsic(prefer_literal=True)
def store_tile(typingctx, array, at, step, n_rows, left, tile, n_vectors):
    """Store a tile where `load_tile` would load one."""
    if not (is_contiguous(array) and isinstance(tile, types.UniTuple) and tile.dtype == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        places = _places(context, builder, array, args[:5], n_vectors.literal_value)
        for vector, place in zip(cgutils.unpack_tuple(builder, args[5]), places, strict=False):
            build_store_first(builder, vector, *place)
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 4, tile, n_vectors), codegen


@intrinsic(prefer_literal=True)
def store_lane_sums(typingctx, array, at, step, left, tile, n_columns, addends, first):
    """Store the sum over the lanes of each vector of a tile, plus an addend a column: of `left` of its `n_columns`.

    Row r begins at array.flat[at + r · step], the addends at addends.flat[first].
    """
    if not (is_contiguous(array) and isinstance(tile, types.UniTuple) and tile.dtype == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, at, step, left, tile_value, _, addends_value, first = args
        element = vector_type(tile.dtype).element
        sums = _build_lane_sums(builder, cgutils.unpack_tuple(builder, tile_value))
        for column in range(n_columns.literal_value):
            with builder.if_then(builder.icmp_signed(">", left, left.type(column))):
                index = builder.add(first, first.type(column))
                addend = builder.load(build_address(context, builder, addends, addends_value, index, element))
                for row in range(tile.count // n_columns.literal_value):
                    index = builder.add(builder.add(at, builder.mul(step, step.type(row))), at.type(column))
                    value = builder.fadd(sums[row * n_columns.literal_value + column], addend)
                    builder.store(value, build_address(context, builder, array, array_value, index, element))
        return context.get_dummy_value()

    return types.void(array, *[types.intp] * 3, tile, n_columns, addends, types.intp), codegen


def _build_lane_sums(builder, vectors):
    """Build the sums over the lanes of vectors: lane i plus lane i + count/2, and so on, two vectors becoming one.

    So 16 sums take 15 additions, where one takes four: losses of 4,096 × 256 × 20 took 0.19 ms, and take 0.135.
    """
    zeros, count, sums = ir.Constant(vectors[0].type, None), vectors[0].type.count, []
    for start in range(0, len(vectors), count):
        level, size = vectors[start : start + count], count
        while size > 1:
            level += [zeros] * (len(level) % 2)
            level = [_build_folded(builder, a, b, size) for a, b in zip(level[::2], level[1::2], strict=True)]
            size //= 2
        sums += [builder.extract_element(level[0], INT32(lane)) for lane in range(count)]
    return sums[: len(vectors)]


def _build_folded(builder, a, b, size):
    """Build the sum of the lower and the upper half of each `size` lanes of a, then of b."""
    count = a.type.count
    low = [lane for lane in range(2 * count) if lane % size < size // 2]
    picks = ([lane + shift for lane in low] for shift in (0, size // 2))
    indices = (ir.Constant(ir.VectorType(INT32, count), pick) for pick in picks)
    return builder.fadd(*(builder.shuffle_vector(a, b, index) for index in indices))
