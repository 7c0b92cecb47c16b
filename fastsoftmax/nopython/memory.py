"""Contiguous memory: new, seen in another way, and what of it arrays have in common."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

from .typing import is_none


@intrinsic
def room(typingctx, shape, dtype):
    """Make a new array: `numpy.empty`, which takes Numba long to compile."""
    kind = types.Array(dtype.dtype, len(shape), "C")

    def codegen(context, builder, signature, values):
        array = arrayobj._empty_nd_impl(context, builder, kind, _lengths(context, builder, shape, values[0]))
        return arrayobj.impl_ret_new_ref(context, builder, kind, array._getvalue())

    return kind(shape, dtype), codegen


@intrinsic
def view_as(typingctx, array, shape, dtype):
    """View contiguous memory with another shape, and of another dtype of the same size; Numba has no view of bools."""
    kind = types.Array(dtype.dtype, len(shape), "C")

    def codegen(context, builder, signature, values):
        given = context.make_array(array)(context, builder, values[0])
        view = context.make_array(kind)(context, builder)
        lengths = _lengths(context, builder, shape, values[1])
        itemsize = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        strides = [itemsize]
        for length in reversed(lengths[1:]):
            strides.insert(0, builder.mul(strides[0], length))
        arrayobj.populate_array(
            view,
            data=builder.bitcast(given.data, view.data.type),
            shape=lengths,
            strides=strides,
            itemsize=itemsize,
            meminfo=given.meminfo,
            parent=given.parent,
        )
        return arrayobj.impl_ret_borrowed(context, builder, kind, view._getvalue())

    return kind(array, shape, dtype), codegen


def _lengths(context, builder, kind, shape):
    lengths = zip(cgutils.unpack_tuple(builder, shape), kind.types, strict=True)
    return [context.cast(builder, length, own, types.intp) for length, own in lengths]


@intrinsic
def overlap(typingctx, result, arrays):
    """Whether contiguous memory has elements in common with some arrays; None has none."""

    def codegen(context, builder, signature, values):
        return any_meets(context, builder, (result, values[0]), elements_of(builder, arrays, values[1]))

    return types.boolean(result, arrays), codegen


@intrinsic
def clash(typingctx, result, arrays):
    """Whether they share memory without being the same elements: kernels read an element before they write it."""

    def codegen(context, builder, signature, values):
        others = elements_of(builder, arrays, values[1])
        return any_meets(context, builder, (result, values[0]), others, but_the_same=True)

    return types.boolean(result, arrays), codegen


def elements_of(builder, kinds, value):
    """Give the elements of a tuple, each with its type."""
    return list(zip(kinds.types, cgutils.unpack_tuple(builder, value), strict=True))


def any_meets(context, builder, result, others, but_the_same=False):
    """Build whether memory meets that of any other contiguous array."""
    start, stop = _span(context, builder, *result)
    found = cgutils.false_bit
    for kind, value in others:
        if is_none(kind):
            continue
        first, last = _span(context, builder, kind, value)
        meets = builder.and_(builder.icmp_unsigned("<", start, last), builder.icmp_unsigned("<", first, stop))
        if but_the_same:
            ends = builder.or_(builder.icmp_unsigned("!=", start, first), builder.icmp_unsigned("!=", stop, last))
            meets = builder.and_(meets, ends)
        found = builder.or_(found, meets)
    return found


def _span(context, builder, kind, value):
    """Build the addresses of the beginning and the end of contiguous memory."""
    array = context.make_array(kind)(context, builder, value)
    start = builder.ptrtoint(array.data, ir.IntType(64))
    return start, builder.add(start, builder.mul(array.nitems, array.itemsize))
