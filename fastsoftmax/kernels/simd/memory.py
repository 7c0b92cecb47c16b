"""Vectors to and from memory. Arrays are C-contiguous and addressed by their flat element index.

An array may be a view with a mask: what that leaves out is read as the view's `fill`, and written as it.

No bounds are checked, unless NUMBA_BOUNDSCHECK asks Numba to check those of its own indexing: then these are, too.
"""

from llvmlite import ir

from ..compiling.numbers import Number, maximum, minimum, number
from ..compiling.target import AVX512
from ..compiling.values import BYTE, DOUBLE, INT, INT32, SHORT, SIZE_OF, Vector, builder, call, scopes
from ..compiling.views import address, stored_number
from .vector import (
    build_computed,
    build_halves,
    build_int_splat,
    build_lane_numbers,
    build_splat,
    build_stored,
    vector_type,
)


def part_address(array, index, count, vector):
    """Build the address of the first `count` elements of a vector; of none if nothing is to be touched."""
    return address(array, index, minimum(count, vector.count))


def _first(count, vector):
    """Build the mask of the first `count` lanes."""
    return builder().icmp_signed("<", build_lane_numbers(vector), build_int_splat(vector, number(count).ir))


def _suffix(vector):
    return f"v{vector.count}{vector.element.intrinsic_name}.p0"


def build_load_first(place, count, fill):
    """Build the load of the first `count` lanes of a vector; the others are those of `fill`."""
    kind, align = fill.type, SIZE_OF[fill.type.element]
    if is_whole(count, kind):
        return builder().load(place, typ=kind, align=align)
    if kind.element == SHORT and not AVX512:
        return _build_load_parts(place, number(count).ir, fill)
    return call(f"llvm.masked.load.{_suffix(kind)}", kind, [place, INT32(align), _first(count, kind), fill])


def _build_load_parts(place, count, fill):
    """Build the same where no masked load has such elements: all of them, or a half, a quarter and so on."""
    build, kind = builder(), fill.type
    room = scopes[-1].place(kind, align=64)
    with build.if_else(build.icmp_signed(">=", count, INT(kind.count))) as (all_of_it, parts):
        with all_of_it:
            build.store(build.load(place, typ=kind, align=2), room)
        with parts:
            build.store(fill, room)
            count = number(maximum(Number(count), 0)).ir
            size, target = kind.count // 2, room
            while size:
                part = ir.VectorType(kind.element, size)
                wanted = build.icmp_signed("!=", build.and_(count, INT(size)), INT(0))
                with build.if_then(wanted):
                    build.store(build.load(place, typ=part, align=2), target, align=2)
                place, target = (
                    build.select(wanted, build.gep(each, [INT32(size)], source_etype=kind.element), each)
                    for each in (place, target)
                )
                size //= 2
    return build.load(room, typ=kind)


def is_whole(count, vector):
    """Whether it is known that all lanes of a vector are counted."""
    return not isinstance(count, Number) and count >= vector.count


def build_store_first(value, place, count):
    """Build the store of the first `count` lanes of a vector.

    Without AVX-512 they are stored whole, or a half, a quarter and so on: AMD processors with AVX2 alone take
    a dozen cycles for a masked store of 32 bytes. With them softmax of three classes took 2.6 times as long (M28).
    """
    align = SIZE_OF[value.type.element]
    if is_whole(count, value.type):
        builder().store(value, place, align=align)
    elif AVX512:
        name = f"llvm.masked.store.{_suffix(value.type)}"
        call(name, ir.VoidType(), [value, place, INT32(align), _first(count, value.type)])
    else:
        with builder().if_else((number(count) >= value.type.count).ir) as (all_of_it, parts):
            with all_of_it:
                builder().store(value, place, align=align)
            with parts:
                _build_store_parts(value, place, number(maximum(count, 0)).ir, align)


def _build_store_parts(value, place, count, align):
    build = builder()
    size = value.type.count // 2
    while size:
        low, high = build_halves(value)
        wanted = build.icmp_signed("!=", build.and_(count, INT(size)), INT(0))
        with build.if_then(wanted):
            build.store(low, place, align=align)
        after = build.gep(place, [INT32(size)], source_etype=value.type.element)
        place = build.select(wanted, after, place)
        value = build.select(wanted, high, low)
        size //= 2


def load(array, index, lanes=None):
    """Load a vector from array.flat[index:], of 64 bytes or of so many lanes."""
    kind = vector_type(array.dtype)
    stored = ir.VectorType(array.element, lanes or kind.count)
    place = address(array, index, stored.count)
    loaded = build_allowed(array, index, stored.count, builder().load(place, typ=stored, align=array.itemsize))
    return Vector(build_computed(loaded, array))


def load_first(array, index, count, fill, lanes=None):
    """Load `count` lanes from array.flat[index:]; the others hold `fill` and their memory is not touched."""
    kind = vector_type(array.dtype)
    stored = ir.VectorType(array.element, lanes or kind.count)
    place = part_address(array, index, count, stored)
    loaded = build_load_first(place, count, build_splat(stored, stored_number(array, fill)))
    loaded = build_allowed(array, index, count, loaded)
    return Vector(build_computed(loaded, array))


def load_integers(array, index, count, lanes):
    """Load `count` int64 from array.flat[index:] as so many float64 lanes; the others hold 0."""
    integers = ir.VectorType(INT, lanes)
    loaded = build_load_first(part_address(array, index, count, integers), count, ir.Constant(integers, None))
    return Vector(builder().sitofp(loaded, ir.VectorType(DOUBLE, lanes)))


def store_integers(array, index, count, vector):
    """Store the first `count` float64 lanes to array.flat[index:], as int64."""
    value = builder().fptosi(vector.ir, ir.VectorType(INT, vector.ir.type.count))
    build_store_first(value, part_address(array, index, count, value.type), count)


def store(array, index, vector):
    """Store a vector to array.flat[index:]."""
    value = _stored(array, index, vector)
    builder().store(value, address(array, index, value.type.count), align=array.itemsize)


def store_first(array, index, count, vector):
    """Store the first `count` lanes to array.flat[index:]."""
    value = _stored(array, index, vector, count)
    build_store_first(value, part_address(array, index, count, value.type), count)


def store_parts(array, index, count, vector):
    """Store the first `count` lanes, fewer than all, without a store that reaches into the line behind them."""
    value = _stored(array, index, vector, count)
    place = part_address(array, index, count, value.type)
    _build_store_parts(value, place, number(count).ir, array.itemsize)


def stream(array, index, vector):
    """Store a vector past the caches, to an address that is a multiple of its bytes (see `unaligned`)."""
    value = _stored(array, index, vector)
    align = value.type.count * array.itemsize
    instruction = builder().store(value, address(array, index, value.type.count), align=align)
    instruction.set_metadata("nontemporal", builder().module.add_metadata([INT32(1)]))


def build_allowed(array, index, count, vector):
    """Build a vector whose first `count` lanes belong to an array's index on, `fill` where its mask leaves them out."""
    mask = getattr(array, "mask", None)
    if mask is None:
        return vector
    fill = build_splat(vector.type, stored_number(array, array.fill))
    if array.kept is not None:
        vector = build_splat(vector.type, stored_number(array, array.kept))
    return builder().select(_build_mask(mask, index, count, vector.type.count), vector, fill)


def _build_mask(mask, index, count, lanes, beyond=1):
    """Build which of so many lanes a mask of bytes allows; those from `count` on are as the byte `beyond` says."""
    kind = ir.VectorType(BYTE, lanes)
    place = part_address(mask, index, count, kind)
    loaded = build_load_first(place, count, ir.Constant(kind, [beyond] * lanes))
    return builder().icmp_unsigned("!=", loaded, ir.Constant(kind, None))


def load_allowed(mask, index, count, like):
    """Load 1 for what a mask of bytes allows, and 0 for what it leaves out and from `count` lanes on."""
    kind = vector_type(like.dtype)
    allowed = _build_mask(mask, index, count, kind.count, beyond=0)
    return Vector(builder().select(allowed, build_splat(kind, kind.element(1.0)), ir.Constant(kind, None)))


def first_ones(like, count):
    """Give a vector with 1 in the first `count` lanes and 0 in the others.

    To multiply by, not to choose by: of what is loaded by the same mask LLVM 20 would load all lanes then.
    """
    kind = vector_type(like.dtype)
    one = build_splat(kind, kind.element(1.0))
    return Vector(builder().select(_first(count, kind), one, ir.Constant(kind, None)))


def _stored(array, index, vector, count=None):
    """Build what an array holds of a vector that is computed from its dtype."""
    if vector.ir.type.element != vector_type(array.dtype).element:
        raise TypeError(f"expected a vector of {array.dtype}, got {vector.ir.type}")
    value = build_stored(vector.ir, array)
    return build_allowed(array, index, value.type.count if count is None else count, value)


def unaligned(array, index):
    """Count the elements from array.flat[index] to the next address that is a multiple of what a vector stores."""
    bits = builder().ptrtoint(address(array, index), INT)
    left = builder().and_(builder().neg(bits), INT(vector_type(array.dtype).count * array.itemsize - 1))
    return Number(builder().udiv(left, INT(array.itemsize)))


def finish_streams():
    """Wait until what `stream` stored can be seen by other threads."""
    builder().fence("seq_cst")


def prefetch(array, index):
    """Ask for array.flat[index] to be in the second-level cache soon; any index may be asked for."""
    read, second_level, data = INT32(0), INT32(2), INT32(1)
    for each in (array, getattr(array, "mask", None)):
        if each is not None:
            call("llvm.prefetch.p0", ir.VoidType(), [address(each, index), read, second_level, data])


def overlap(one, other):
    """Whether two arrays share memory."""
    here, there = (Number(builder().ptrtoint(array.data.ir, INT)) for array in (one, other))
    return (here < there + other.size * other.itemsize) & (there < here + one.size * one.itemsize)
