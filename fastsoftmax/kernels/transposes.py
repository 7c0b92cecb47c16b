"""Tiles transposed between rows and lanes, in blocks that fit in registers.

A block has as many rows and columns as a register has lanes: 16 × 16 float32 with AVX-512, 8 × 8 in registers of 32
bytes, where a tile of 16 × 16 would need twice as many as there are: 65,536 × 10 softmax took 0.97 ms with such tiles,
and takes 0.45.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .lanes import INT32, Lanes
from .memory import build_address, build_load_first, build_store_first, is_contiguous
from .target import AVX512


def _side(dtype):
    return Lanes(dtype).count // (1 if AVX512 else 2)


@intrinsic
def side_of(typingctx, like):
    """Count the rows and columns of a block of the dtype of `like`: a constant to the compiler."""
    side = _side(like.dtype)
    return types.intp(like), lambda context, builder, sig, args: context.get_constant(types.intp, side)


@intrinsic
def transpose_block(typingctx, source, at, step, target, target_at, target_step):
    """Transpose a block: target[c, r] = source[r, c].

    Row r of the source starts at source.flat[at + r · step], row c of the target likewise.
    """
    if not (is_contiguous(source) and is_contiguous(target) and source.dtype == target.dtype):
        return None
    side = _side(source.dtype)

    def codegen(context, builder, sig, args):
        source_value, at, step, target_value, target_at, target_step = args
        vector, align = _vector(context, source.dtype), source.dtype.bitwidth // 8
        vectors = []
        for row in range(side):
            address = build_address(context, builder, source, source_value, _line(builder, at, step, row), vector)
            vectors.append(builder.load(address, align=align))
        for row, value in enumerate(_build_transpose(builder, vectors)):
            line = _line(builder, target_at, target_step, row)
            builder.store(value, build_address(context, builder, target, target_value, line, vector), align=align)
        return context.get_dummy_value()

    return types.void(source, *[types.intp] * 2, target, *[types.intp] * 2), codegen


@intrinsic
def transpose_part(
    typingctx, source, at, step, n_rows, n_columns, target, target_at, target_step, n_kept, kept_columns
):
    """Transpose part of a tile as large as a vector has lanes.

    `n_rows` of `n_columns` are read from the source, and `n_kept` rows of `kept_columns` written to the target: 0 where
    there was nothing to read, but whole blocks without a column of the source or of the target are left out.
    """
    if not (is_contiguous(source) and is_contiguous(target) and source.dtype == target.dtype):
        return None
    side, count = _side(source.dtype), Lanes(source.dtype).count

    def codegen(context, builder, sig, args):
        source_value, at, step, n_rows, n_columns, target_value, target_at, target_step, n_kept, kept_columns = args
        vector = _vector(context, source.dtype)

        def place(array_type, array, at, step, row, column, n_rows, count):
            index = builder.add(_line(builder, at, step, row), at.type(column))
            left = builder.sub(count, count.type(column))
            count = builder.select(builder.icmp_signed("<", n_rows.type(row), n_rows), left, count.type(0))
            return build_address(context, builder, array_type, array, index, vector, count), count

        def build_block(top, left):
            vectors = []
            for row in range(top, top + side):
                address, count = place(source, source_value, at, step, row, left, n_rows, n_columns)
                vectors.append(build_load_first(builder, address, count, ir.Constant(vector, None)))
            for row, value in enumerate(_build_transpose(builder, vectors), start=left):
                address, count = place(target, target_value, target_at, target_step, row, top, n_kept, kept_columns)
                build_store_first(builder, value, address, count)

        for top in range(0, count, side):
            for left in range(0, count, side):
                there = builder.icmp_signed(">", n_columns, n_columns.type(left))
                wanted = builder.icmp_signed(">", kept_columns, kept_columns.type(top))
                with builder.if_then(builder.and_(there, wanted)):
                    build_block(top, left)
        return context.get_dummy_value()

    return types.void(source, *[types.intp] * 4, target, *[types.intp] * 4), codegen


def _vector(context, dtype):
    return ir.VectorType(context.get_value_type(dtype), _side(dtype))


def _line(builder, at, step, row):
    return builder.add(at, builder.mul(step, step.type(row)))


def _build_transpose(builder, vectors):
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
                vectors[i] = builder.shuffle_vector(a, b, low)
                vectors[i + distance] = builder.shuffle_vector(a, b, high)
        distance //= 2
    return vectors
