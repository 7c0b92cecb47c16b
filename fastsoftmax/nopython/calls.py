"""Which kernel nopython code runs, and on which threads."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from fastsoftmax import kernels, threads

from .memory import any_meets, elements_of
from .symbols import Binding, Key, bind, build_num_threads, build_pool, need
from .typing import is_none, stored_dtype

# Options, in the order in which kernels take them: that of the tuples that `run_rows` is given.
OPTIONS = tuple(kernels.rows.options.LossOptions._field_defaults)

_INT = ir.IntType(64)

# Rows -----------------------------------------------------------------------------------------------------------------

_REGIMES = ("few", "cached", "streamed", "blocked")


@intrinsic(prefer_literal=True)
def run_rows(typingctx, operation, rows, results, options, args):
    """Run an operation on rows, by the kernel for their regime; `options` are those of `OPTIONS`, or None."""
    name = operation.literal_value
    routes = kernels.operations.OPERATIONS[name]
    keys = [_key(name, each if getattr(routes, each) else "cached", rows, options) for each in _REGIMES]
    bound = [bind(key) for key in keys]

    def codegen(context, builder, signature, values):
        array = context.make_array(rows)(context, builder, values[1])
        regime = _build_regime(context, builder, routes, (rows, values[1]), (results, values[2]))
        functions = [_function(context, builder, *each) for each in zip(keys, bound, strict=True)]
        chosen = functions[0]
        for index, function in enumerate(functions[1:], 1):
            chosen = builder.select(builder.icmp_signed("==", regime, _INT(index)), function, chosen)
        pool = types.int64, build_pool(context, builder, array.nitems)
        given = [pool, *_present(builder, options, values[3]), *elements_of(builder, args, values[4])]
        _call(context, builder, chosen, bound[0], given)
        return context.get_dummy_value()

    return types.void(operation, rows, results, options, args), codegen


def _build_regime(context, builder, routes, rows, results):
    """Build the choice of a regime as `kernels.regimes.RowKernels.choose` makes it."""
    given, result = (context.make_array(kind)(context, builder, value) for kind, value in (rows, results))
    dtype = np.dtype(stored_dtype(rows[0]))
    n_classes = cgutils.unpack_tuple(builder, given.shape, 2)[1]
    few, cached, streamed, blocked = (_INT(index) for index in range(len(_REGIMES)))

    def at_least(number, least):
        return builder.icmp_signed(">=", number, _INT(least))

    regime = cached
    if routes.streamed:
        size = builder.mul(result.nitems, result.itemsize)
        is_large = builder.and_(
            at_least(n_classes, kernels.tuning.STREAM_CLASSES), at_least(size, kernels.tuning.STREAM_BYTES)
        )
        is_apart = builder.not_(any_meets(context, builder, results, [rows]))
        regime = builder.select(builder.and_(is_large, is_apart), streamed, regime)
    if routes.blocked:
        blocked_classes = -(-kernels.tuning.BLOCKED_BYTES // max(dtype.itemsize, 4))
        regime = builder.select(at_least(n_classes, blocked_classes), blocked, regime)
    return builder.select(at_least(n_classes, kernels.tuning.FEW_CLASSES[dtype]), regime, few)


# Other kernels --------------------------------------------------------------------------------------------------------


@intrinsic(prefer_literal=True)
def run(typingctx, operation, name, like, elements, options, args):
    """Run a kernel by its name, for the dtype of an array and for work of a size."""
    return _run(operation, name, like, elements, options, args, False)


@intrinsic(prefer_literal=True)
def multiply(typingctx, operation, name, like, products, options, args):
    """Run a kernel that multiplies matrices by `gemm`, whose last argument is how many threads there are."""
    return _run(operation, name, like, products, options, args, True)


def _run(operation, name, like, work, options, args, multiplies):
    order = "F" if any(isinstance(each, types.Array) and each.layout == "F" for each in args.types) else "C"
    key = _key(operation.literal_value, name.literal_value, like, options, order)
    bound, has_tasks = bind(key), key.kernel.has_tasks

    def codegen(context, builder, signature, values):
        given = [*_present(builder, options, values[4]), *elements_of(builder, args, values[5])]
        if has_tasks:
            elements = context.cast(builder, values[3], work, types.int64)
            if multiplies:
                elements = builder.sdiv(elements, _INT(threads.PRODUCTS_PER_ELEMENT))
            pool = build_pool(context, builder, elements)
            given.insert(0, (types.int64, pool))
            if multiplies:
                given.append((types.int64, build_num_threads(context, builder, pool)))
        return _call(context, builder, _function(context, builder, key, bound), bound, given)

    return bound.result(operation, name, like, work, options, args), codegen


def _key(operation, name, like, options, order="C"):
    present = tuple(option for option, kind in zip(OPTIONS, options, strict=False) if not is_none(kind))
    return Key(operation, name, "float32" if is_none(like) else stored_dtype(like), order, present)


def _present(builder, options, value):
    return [each for each in elements_of(builder, options, value) if not is_none(each[0])]


def _function(context, builder, key, bound):
    """Declare what a key stands for."""
    need(context, Binding(key))
    kind = context.call_conv.get_function_type(bound.result, bound.arguments)
    return cgutils.get_or_insert_function(builder.module, kind, key.symbol)


def _call(context, builder, function, bound, given):
    """Build the call of a kernel, and raise what its status says."""
    arguments = [
        value if isinstance(to, types.Array) else context.cast(builder, value, kind, to)
        for (kind, value), to in zip(given, bound.arguments, strict=True)
    ]
    status, result = context.call_conv.call_function(builder, function, bound.result, bound.arguments, arguments)
    with cgutils.if_unlikely(builder, status.is_error):
        context.call_conv.return_status_propagate(builder, status)
    return result if bound.result != types.none else context.get_dummy_value()
