"""Vectors to and from memory. Arrays are C-contiguous and addressed by their flat element index.

No bounds are checked, unless NUMBA_BOUNDSCHECK asks Numba to check those of its own indexing: then these are, too.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inline
from .lanes import INT32, Lanes, all_lanes, build_int_splat, build_lane_numbers, build_splat, vector_type


def build_view(context, builder, flat, data, size):
    """Build a flat array over memory that it does not own."""
    view = context.make_array(flat)(context, builder)
    itemsize = context.get_constant(types.intp, flat.dtype.bitwidth // 8)
    view.data, view.nitems, view.itemsize = data, size, itemsize
    view.shape, view.strides = cgutils.pack_array(builder, [size]), cgutils.pack_array(builder, [itemsize])
    view.meminfo = view.parent = ir.Constant(view.meminfo.type, None)
    return view._getvalue()


def _is_contiguous(array):
    return isinstance(array, types.Array) and array.layout == "C" and array.dtype in (types.float32, types.float64)


def _address(context, builder, array_type, array, index, vector, count=None):
    """Build the address of a vector, of its first `count` elements (none if nothing is to be touched), or of one."""
    struct = context.make_array(array_type)(context, builder, array)
    if context.enable_boundscheck:
        whole = index.type(getattr(vector, "count", 1))
        count = whole if count is None else builder.select(builder.icmp_signed("<", count, whole), count, whole)
        _check_bounds(context, builder, index, count, struct.nitems)
    return builder.bitcast(builder.gep(struct.data, [index]), vector.as_pointer())


def _check_bounds(context, builder, index, count, size):
    """Raise IndexError unless `count` elements from `index` are elements of an array."""
    some = builder.icmp_signed(">", count, count.type(0))
    before = builder.icmp_signed("<", index, index.type(0))
    beyond = builder.icmp_signed(">", builder.add(index, count), size)
    with cgutils.if_unlikely(builder, builder.and_(some, builder.or_(before, beyond))):
        context.call_conv.return_user_exc(builder, IndexError, ("vector out of bounds",))


def _call(builder, name, result, args):
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _first(builder, count, lanes):
    """Build the mask of the first `count` lanes."""
    return builder.icmp_signed("<", build_lane_numbers(lanes), build_int_splat(builder, lanes, count))


@intrinsic
def flat_of(typingctx, array):
    """View an array as one dimension, without counting a reference: to an argument of the kernel, its caller has one.

    Numba counts references to the arrays that a loop hands on where the loop has branches, by calls, across which no
    vector stays in a register: 81,920 × 100 softmax took 4.8 ms on one thread, and takes 2.9. It does so too for what
    comes into the loop of a `prange` from outside, so the view is made inside. An array that was made inside must be
    `kept` until the view is no longer used.
    """
    if not _is_contiguous(array):
        return None
    flat = types.Array(array.dtype, 1, "C", aligned=array.aligned)

    def codegen(context, builder, sig, args):
        argument = context.make_array(array)(context, builder, args[0])
        return build_view(context, builder, flat, argument.data, argument.nitems)

    return flat(array), codegen


@intrinsic
def kept(typingctx, array):
    """Give 1, and keep an array alive until here, for the sake of its `flat_of`."""
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, 1)


@intrinsic
def load(typingctx, array, index):
    """Load a vector from array.flat[index:]."""
    if not _is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        address = _address(context, builder, array, *args, vector_type(lanes))
        return builder.load(address, align=lanes.dtype.bitwidth // 8)

    return lanes(array, types.intp), codegen


@intrinsic
def broadcast(typingctx, array, index):
    """Load array.flat[index] into every lane."""
    if not _is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        vector = vector_type(lanes)
        return build_splat(builder, vector, builder.load(_address(context, builder, array, *args, vector.element)))

    return lanes(array, types.intp), codegen


@intrinsic
def load_first(typingctx, array, index, count, fill):
    """Load `count` lanes from array.flat[index:]; the others hold `fill` and their memory is not touched."""
    if not _is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        array_value, index, count, fill_value = args
        vector = vector_type(lanes)
        address = _address(context, builder, array, array_value, index, vector, count)
        fill_value = build_splat(builder, vector, context.cast(builder, fill_value, fill, lanes.dtype))
        align = INT32(lanes.dtype.bitwidth // 8)
        name = f"llvm.masked.load.v{lanes.count}f{lanes.dtype.bitwidth}.p0"
        return _call(builder, name, vector, [address, align, _first(builder, count, lanes), fill_value])

    return lanes(array, types.intp, types.intp, fill), codegen


@intrinsic
def load_integers(typingctx, array, index, count):
    """Load `count` of 8 int64 from array.flat[index:] as float64 lanes; the others hold 0."""
    if not (isinstance(array, types.Array) and array.layout == "C" and array.dtype == types.int64):
        return None
    lanes = Lanes(types.float64)

    def codegen(context, builder, sig, args):
        array_value, index, count = args
        integers = ir.VectorType(ir.IntType(64), lanes.count)
        address = _address(context, builder, array, array_value, index, integers, count)
        zeros = ir.Constant(integers, None)
        arguments = [address, INT32(8), _first(builder, count, lanes), zeros]
        loaded = _call(builder, "llvm.masked.load.v8i64.p0", integers, arguments)
        return builder.sitofp(loaded, vector_type(lanes))

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Store a vector to array.flat[index:]."""
    if not (_is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, value = args
        address = _address(context, builder, array, array_value, index, value.type)
        builder.store(value, address, align=vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def store_first(typingctx, array, index, count, vector):
    """Store the first `count` lanes to array.flat[index:]."""
    if not (_is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, count, value = args
        address = _address(context, builder, array, array_value, index, value.type, count)
        align = INT32(vector.dtype.bitwidth // 8)
        name = f"llvm.masked.store.v{vector.count}f{vector.dtype.bitwidth}.p0"
        _call(builder, name, ir.VoidType(), [value, address, align, _first(builder, count, vector)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


@intrinsic
def stream(typingctx, array, index, vector):
    """Store a vector past the caches, to an address that is a multiple of 64 bytes (see `unaligned`)."""
    if not (_is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, value = args
        address = _address(context, builder, array, array_value, index, value.type)
        instruction = builder.store(value, address, align=64)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def unaligned(typingctx, array, index):
    """Count the elements from array.flat[index] to the next address that is a multiple of 64 bytes."""
    if not _is_contiguous(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, array, *args, ir.IntType(8), args[1].type(0))
        bits = builder.ptrtoint(address, ir.IntType(64))
        left = builder.and_(builder.neg(bits), bits.type(63))
        return builder.udiv(left, bits.type(array.dtype.bitwidth // 8))

    return types.intp(array, types.intp), codegen


@intrinsic
def finish_streams(typingctx):
    """Wait until what `stream` stored can be seen by other threads."""

    def codegen(context, builder, sig, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for array.flat[index] to be in the second-level cache soon; any index may be asked for."""
    if not _is_contiguous(array):
        return None

    def codegen(context, builder, sig, args):
        address = _address(context, builder, array, *args, ir.IntType(8), args[1].type(0))
        read, second_level, data = INT32(0), INT32(2), INT32(1)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [address, read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def add_wide(typingctx, sums, index, vector):
    """Add a vector to as many elements of the float64 array sums.flat[index:]."""
    if not (_is_contiguous(sums) and sums.dtype == types.float64 and all_lanes(vector)):
        return None

    def codegen(context, builder, sig, args):
        sums_value, index, value = args
        wide = ir.VectorType(ir.DoubleType(), vector.count)
        address = _address(context, builder, sums, sums_value, index, wide)
        value = value if vector.dtype == types.float64 else builder.fpext(value, wide)
        builder.store(builder.fadd(builder.load(address, align=8), value), address, align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, vector), codegen


@intrinsic
def transpose(typingctx, source, at, step, n_rows, n_columns, target, target_at, target_step, n_kept, kept_columns):
    """Transpose a tile as large as a vector has lanes: target[c, r] = source[r, c].

    Row r of the source starts at source.flat[at + r · step]; `n_rows` of `n_columns` are read, the rest is 0. Row c of
    the target starts likewise; `n_kept` rows of `kept_columns` are written.
    """
    if not (_is_contiguous(source) and _is_contiguous(target) and source.dtype == target.dtype):
        return None
    lanes = Lanes(source.dtype)

    def codegen(context, builder, sig, args):
        source_value, at, step, n_rows, n_columns, target_value, target_at, target_step, n_kept, kept_columns = args
        vector = vector_type(lanes)
        numbers = range(lanes.count)

        def place(array_type, array, at, step, row, n_rows, count):
            index = builder.add(at, builder.mul(step, step.type(row)))
            count = builder.select(builder.icmp_signed("<", n_rows.type(row), n_rows), count, count.type(0))
            address = _address(context, builder, array_type, array, index, vector, count)
            return address, _first(builder, count, lanes)

        align, zeros = INT32(lanes.dtype.bitwidth // 8), ir.Constant(vector, None)
        suffix = f"v{lanes.count}f{lanes.dtype.bitwidth}.p0"
        vectors = []
        for row in numbers:
            address, mask = place(source, source_value, at, step, row, n_rows, n_columns)
            arguments = [address, align, mask, zeros]
            vectors.append(_call(builder, f"llvm.masked.load.{suffix}", vector, arguments))
        vectors = _build_transpose(builder, vectors)
        for row in numbers:
            address, mask = place(target, target_value, target_at, target_step, row, n_kept, kept_columns)
            arguments = [vectors[row], address, align, mask]
            _call(builder, f"llvm.masked.store.{suffix}", ir.VoidType(), arguments)
        return context.get_dummy_value()

    return types.void(source, *[types.intp] * 4, target, *[types.intp] * 4), codegen


def _build_transpose(builder, vectors):
    """Swap the off-diagonal halves of the tile, then of its quarters, and so on."""
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


@inline
def overlap(one, other):
    """Whether two contiguous arrays share memory."""
    here, there = one.ctypes.data, other.ctypes.data
    return here < there + other.nbytes and there < here + one.nbytes
