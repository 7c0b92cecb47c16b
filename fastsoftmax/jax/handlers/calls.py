"""Kernels, called by what a handler has, and arrays in another width than they take."""

import numpy as np
from llvmlite import ir
from numba import types

from fastsoftmax.jax.handlers.frames import line
from fastsoftmax.kernels.compiling.numbers import Number, convert
from fastsoftmax.kernels.compiling.scopes import NO_MEMORY, empty
from fastsoftmax.kernels.compiling.staging import staged
from fastsoftmax.kernels.compiling.values import DOUBLE, INT, INT32, builder, scopes

_LANES = 8


def run_kernel(kernel, stored, *arguments, pool=0):
    """Run a kernel compiled for a dtype, whose tasks the pool calls; end with `NO_MEMORY` where it finds none."""
    signature = kernel.signature(stored)
    kernel.dispatcher.compile(signature)
    compiled = kernel.dispatcher.overloads[signature]
    context, build, result = compiled.target_context, builder(), compiled.signature.return_type
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    kind = ir.PointerType(context.call_conv.get_function_type(result, signature))
    function = build.inttoptr(INT(address), kind)
    given = [pool, *arguments] if kernel.has_tasks else arguments
    values = [_argument(context, *each) for each in zip(signature, given, strict=True)]
    status, value = context.call_conv.call_function(build, function, result, signature, values)
    scopes[-1].fail_if(status.is_error, INT32(NO_MEMORY))
    return Number(value)


def _argument(context, kind, value):
    """Give an argument as Numba has it: of an array the structure that it makes of one, which nobody owns."""
    if not isinstance(kind, types.Array):
        return convert(value, context.get_value_type(kind))
    build, model = builder(), context.data_model_manager[kind]
    shape = [convert(length, INT) for length in value.shape]
    steps = [INT(value.itemsize)]
    for length in shape[:0:-1]:
        steps.insert(0, build.mul(steps[0], length))
    places = [("data", value.data.ir), ("itemsize", INT(value.itemsize)), ("nitems", convert(value.size, INT))]
    places += [(("shape", i), length) for i, length in enumerate(shape)]
    places += [(("strides", i), step) for i, step in enumerate(steps)]
    structure = ir.Constant(model.get_value_type(), None)
    for place, part in places:
        name, *index = place if isinstance(place, tuple) else (place,)
        structure = build.insert_value(structure, part, [model.get_field_position(name), *index])
    return structure


# Arrays in another width ----------------------------------------------------------------------------------------------


@staged
def integers(buffer, dtype):
    """Give integers of 32 or 64 bits as int64."""
    given = line(buffer, np.int64)
    if np.dtype(dtype).itemsize == 8:
        return given
    wide = empty(given.size, np.int64)
    _convert(given, "sext", INT32, wide)
    return wide


@staged
def float64_for(result):
    """Give float64 to compute a result in: its own, if it has them; see `round_off`."""
    return result if result.itemsize == 8 else empty(result.size)


@staged
def round_off(values, result):
    """Round them to what the result has."""
    if result.itemsize == 4:
        _convert(values, "fptrunc", DOUBLE, result)


@staged
def _convert(source, instruction, kind, target):
    """Convert all elements of an array, which are of a kind, by an instruction of LLVM's."""
    i = 0
    while i + _LANES <= target.size:
        _convert_lanes(source, instruction, kind, target, i, _LANES)
        i += _LANES
    while i < target.size:
        _convert_lanes(source, instruction, kind, target, i, 1)
        i += 1


def _convert_lanes(source, instruction, kind, target, i, count):
    build = builder()
    have, want = (ir.VectorType(each, count) if count > 1 else each for each in (kind, target.element))
    source, place = (
        build.gep(array.data.ir, [i.ir], source_etype=each)
        for array, each in ((source, kind), (target, target.element))
    )
    build.store(getattr(build, instruction)(build.load(source, typ=have, align=4), want), place, align=4)
