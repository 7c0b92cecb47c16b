"""Vectors to and from memory. Arrays are C-contiguous and addressed by their flat element index.

No bounds are checked, unless NUMBA_BOUNDSCHECK asks Numba to check those of its own indexing: then these are, too.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inline
from .lanes import (
    INT32,
    Lanes,
    all_lanes,
    build_halves,
    build_int_splat,
    build_lane_numbers,
    build_splat,
    vector_type,
)
from .target import AVX512


def is_contiguous(array):
    """Whether an array is one that vectors come from: C-contiguous, of float32 or float64."""
    return isinstance(array, types.Array) and array.layout == "C" and array.dtype in (types.float32, types.float64)


def build_address(context, builder, array_type, array, index, vector, count=None):
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


def _itemsize(vector):
    return int(vector.element.intrinsic_name[1:]) // 8


def _call(builder, name, result, args):
    function_type = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _first(builder, count, vector):
    """Build the mask of the first `count` lanes."""
    return builder.icmp_signed("<", build_lane_numbers(vector), build_int_splat(builder, vector, count))


def _suffix(vector):
    return f"v{vector.count}{vector.element.intrinsic_name}.p0"


def build_load_first(builder, address, count, fill):
    """Build the load of the first `count` lanes of a vector; the others are those of `fill`."""
    name, align = f"llvm.masked.load.{_suffix(fill.type)}", INT32(_itemsize(fill.type))
    return _call(builder, name, fill.type, [address, align, _first(builder, count, fill.type), fill])


def build_broadcast(context, builder, array_type, array, index):
    """Build the load of one element into every lane of a vector."""
    vector = vector_type(Lanes(array_type.dtype))
    address = build_address(context, builder, array_type, array, index, vector.element)
    return build_splat(builder, vector, builder.load(address))


def build_store_first(builder, value, address, count):
    """Build the store of the first `count` lanes of a vector.

    Without AVX-512 they are stored whole, or a half, a quarter and so on: AMD processors with AVX2 alone take
    a dozen cycles for a masked store of 32 bytes. 65,536 × 3 softmax took 0.63 ms with them, and takes 0.24.
    """
    if AVX512:
        name, align = f"llvm.masked.store.{_suffix(value.type)}", INT32(_itemsize(value.type))
        _call(builder, name, ir.VoidType(), [value, address, align, _first(builder, count, value.type)])
        return
    size = value.type.count
    with builder.if_else(builder.icmp_signed(">=", count, count.type(size))) as (all_of_it, parts):
        with all_of_it:
            builder.store(value, address, align=_itemsize(value.type))
        with parts:
            _build_store_parts(builder, value, address, count)


def _build_store_parts(builder, value, address, count):
    zero, element = count.type(0), value.type.element.as_pointer()
    count = builder.select(builder.icmp_signed("<", count, zero), zero, count)
    size, align = value.type.count // 2, _itemsize(value.type)
    while size:
        low, high = build_halves(builder, value)
        wanted = builder.icmp_signed("!=", builder.and_(count, count.type(size)), zero)
        with builder.if_then(wanted):
            builder.store(low, builder.bitcast(address, low.type.as_pointer()), align=align)
        after = builder.gep(builder.bitcast(address, element), [INT32(size)])
        address = builder.select(wanted, after, builder.bitcast(address, element))
        value = builder.select(wanted, high, low)
        size //= 2


@intrinsic
def load(typingctx, array, index):
    """Load a vector from array.flat[index:]."""
    if not is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        address = build_address(context, builder, array, *args, vector_type(lanes))
        return builder.load(address, align=lanes.dtype.bitwidth // 8)

    return lanes(array, types.intp), codegen


@intrinsic
def load_first(typingctx, array, index, count, fill):
    """Load `count` lanes from array.flat[index:]; the others hold `fill` and their memory is not touched."""
    if not is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        array_value, index, count, fill_value = args
        vector = vector_type(lanes)
        address = build_address(context, builder, array, array_value, index, vector, count)
        fill_value = build_splat(builder, vector, context.cast(builder, fill_value, fill, lanes.dtype))
        return build_load_first(builder, address, count, fill_value)

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
        address = build_address(context, builder, array, array_value, index, integers, count)
        loaded = build_load_first(builder, address, count, ir.Constant(integers, None))
        return builder.sitofp(loaded, vector_type(lanes))

    return lanes(array, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Store a vector to array.flat[index:]."""
    if not (is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, value = args
        address = build_address(context, builder, array, array_value, index, value.type)
        builder.store(value, address, align=vector.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def store_first(typingctx, array, index, count, vector):
    """Store the first `count` lanes to array.flat[index:]."""
    if not (is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, count, value = args
        address = build_address(context, builder, array, array_value, index, value.type, count)
        build_store_first(builder, value, address, count)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


@intrinsic
def stream(typingctx, array, index, vector):
    """Store a vector past the caches, to an address that is a multiple of 64 bytes (see `unaligned`)."""
    if not (is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, value = args
        address = build_address(context, builder, array, array_value, index, value.type)
        instruction = builder.store(value, address, align=64)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([INT32(1)]))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def unaligned(typingctx, array, index):
    """Count the elements from array.flat[index] to the next address that is a multiple of 64 bytes."""
    if not is_contiguous(array):
        return None

    def codegen(context, builder, sig, args):
        address = build_address(context, builder, array, *args, ir.IntType(8), args[1].type(0))
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
    if not is_contiguous(array):
        return None

    def codegen(context, builder, sig, args):
        address = build_address(context, builder, array, *args, ir.IntType(8), args[1].type(0))
        read, second_level, data = INT32(0), INT32(2), INT32(1)
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [address, read, second_level, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def add_wide(typingctx, sums, index, vector):
    """Add a vector to as many elements of the float64 array sums.flat[index:]."""
    if not (is_contiguous(sums) and sums.dtype == types.float64 and all_lanes(vector)):
        return None

    def codegen(context, builder, sig, args):
        sums_value, index, value = args
        wide = ir.VectorType(ir.DoubleType(), vector.count)
        address = build_address(context, builder, sums, sums_value, index, wide)
        value = value if vector.dtype == types.float64 else builder.fpext(value, wide)
        builder.store(builder.fadd(builder.load(address, align=8), value), address, align=8)
        return context.get_dummy_value()

    return types.void(sums, types.intp, vector), codegen


@inline
def overlap(one, other):
    """Whether two contiguous arrays share memory."""
    here, there = one.ctypes.data, other.ctypes.data
    return here < there + other.nbytes and there < here + one.nbytes
