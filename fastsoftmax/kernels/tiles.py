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
from .lanes import Lanes, all_lanes, build_fma, vector_type
from .memory import (
    build_address,
    build_broadcast,
    build_load_first,
    is_contiguous,
)
from .target import AVX512

# With AVX-512 there are 32 registers of a vector, without 16 of half a vector, and larger tiles spill: with tiles of
# 4 × 5 there 65,536 × 784 × 10 took 48 ms for ∂L/∂W, 70 for ∂L/∂X, 37 for z and its losses, and takes 30, 18 and 26.
WEIGHT_VECTORS, WEIGHT_COLUMNS = (4, 5) if AVX512 else (1, 5)  # ∂L/∂W: vectors of features × columns
INPUT_ROWS, INPUT_VECTORS = (4, 5) if AVX512 else (4, 1)  # ∂L/∂X: rows × vectors of features
OUTPUT_ROWS, OUTPUT_COLUMNS = (4, 5) if AVX512 else (2, 2)  # z: rows × columns


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
