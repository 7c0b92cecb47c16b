"""Views of whole arrays whose references Numba does not count."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .memory import is_contiguous


def build_view(context, builder, flat, data, size):
    """Build a flat array over memory that it does not own."""
    view = context.make_array(flat)(context, builder)
    itemsize = context.get_constant(types.intp, flat.dtype.bitwidth // 8)
    view.data, view.nitems, view.itemsize = data, size, itemsize
    view.shape, view.strides = cgutils.pack_array(builder, [size]), cgutils.pack_array(builder, [itemsize])
    view.meminfo = view.parent = ir.Constant(view.meminfo.type, None)
    return view._getvalue()


@intrinsic
def flat_of(typingctx, array):
    """View an array as one dimension, without counting a reference: to an argument of the kernel, its caller has one.

    Numba counts references to the arrays that a loop hands on where the loop has branches, by calls, across which no
    vector stays in a register: 81,920 × 100 softmax took 4.8 ms on one thread, and takes 2.9. It does so too for what
    comes into the loop of a `prange` from outside, so the view is made inside. An array that was made inside must be
    `kept` until the view is no longer used.
    """
    if not is_contiguous(array):
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
