"""A call from XLA as compiled code has it: its arrays and numbers, and how it fails.

What is written here is written as kernels are (see `kernels.compiling.staging`), on the addresses of what `abi` has.
"""

from ctypes import Structure, c_int64, c_void_p, sizeof
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from fastsoftmax.jax.handlers import abi
from fastsoftmax.kernels.compiling.library import KernelLibrary
from fastsoftmax.kernels.compiling.numbers import Number, number
from fastsoftmax.kernels.compiling.scopes import NO_MEMORY, OUT_OF_BOUNDS, Scope, with_leaves
from fastsoftmax.kernels.compiling.staging import run, staged
from fastsoftmax.kernels.compiling.values import BYTE, DOUBLE, INT, INT32, POINTER, Pointer, builder, scopes
from fastsoftmax.kernels.compiling.views import Array, leaves

_FAILED = max(NO_MEMORY, OUT_OF_BOUNDS) + 1  # the status of a function that has made its own error
_LONGEST_MESSAGE = 256
UNKNOWN = Number(ir.Constant(INT, 0))  # stands for an argument of a function that is to be written


class Frame(NamedTuple):
    """A call, by the addresses of an `abi.Call` and of its `Outcome`."""

    call: Number
    outcome: Number

    def operand(self, i):
        """Give the address of an operand."""
        return _item(read(self.call, abi.Call.operands, abi.Buffers.items), i)

    def result(self, i):
        """Give the address of a result."""
        return _item(read(self.call, abi.Call.results, abi.Buffers.items), i)

    def real(self, i):
        """Give an attribute that is a float64."""
        attribute = _item(read(self.call, abi.Call.attributes, abi.Attributes.items), i)
        return Number(builder().load(pointer(read(attribute, abi.Scalar.value)), typ=DOUBLE))


class Outcome(Structure):
    """What a call has come to so far: its error, and whether `pool` has admitted it."""

    _fields_ = (("error", c_void_p), ("admitted", c_int64))


# Structures -----------------------------------------------------------------------------------------------------------


def pointer(address):
    """Give an address as a pointer."""
    return builder().inttoptr(number(address).ir, POINTER)


def read(address, *fields):
    """Read a field of the structure at an address, or of one inside of it."""
    kind = INT32 if fields[-1].size == 4 else INT
    return Number(builder().sext(builder().load(_place(address, fields), typ=kind), INT))


def write(value, address, *fields):
    """Write a field likewise."""
    value = number(value).ir
    builder().store(builder().trunc(value, INT32) if fields[-1].size == 4 else value, _place(address, fields))


def _place(address, fields):
    return pointer(address + sum(field.offset for field in fields))


def _item(items, i):
    return Number(builder().load(pointer(items + 8 * i), typ=INT))


def room_for(structure, **values):
    """Make room for a structure of the interface on the stack, fill it, and give its address."""
    room = scopes[-1].place(ir.ArrayType(BYTE, sizeof(structure)), align=8)
    address = Number(builder().ptrtoint(room, INT))
    for name, value in ({"struct_size": sizeof(structure), "extensions": 0} | values).items():
        write(value, address, getattr(structure, name))
    return address


def call_address(address, result, *arguments):
    """Call a function of C by its address; what it takes is integers of 64 bits and addresses."""
    kind = ir.FunctionType(result, [INT] * len(arguments))
    function = builder().inttoptr(number(address).ir, ir.PointerType(kind))
    return builder().call(function, [number(argument).ir for argument in arguments])


# Arrays ---------------------------------------------------------------------------------------------------------------


@staged
def line(buffer, dtype):
    """View a buffer as one dimension."""
    return _view(buffer, dtype, (_size(buffer, 0),))


@staged
def rows(buffer, dtype):
    """View a buffer as rows of what its last axis has; all axes before it are one."""
    return _view(buffer, dtype, (_size(buffer, 1), _length(buffer, 1)))


def _view(buffer, dtype, shape):
    return Array(np.dtype(dtype), Pointer(pointer(read(buffer, abi.Buffer.data))), shape)


@staged
def _size(buffer, left_out):
    """Multiply the lengths of all axes but some of the last."""
    size = 1
    for axis in range(left_out, read(buffer, abi.Buffer.rank)):
        size = size * _length(buffer, axis + 1)
    return size


def _length(buffer, from_the_end):
    """Give the length of an axis."""
    axis = read(buffer, abi.Buffer.rank) - from_the_end
    return _item(read(buffer, abi.Buffer.lengths), axis)


# Errors ---------------------------------------------------------------------------------------------------------------


def fail(frame, code, message, *numbers):
    """End a call with an error; the message is a format of C's for integers of 64 bits."""
    _set_error(frame, code, message, *numbers)
    scopes[-1].end(INT32(_FAILED))
    builder().position_at_end(builder().append_basic_block())  # of what nothing reaches


def _set_error(frame, code, message, *numbers):
    text = cgutils.snprintf_stackbuffer(builder(), _LONGEST_MESSAGE, message, *(number(each).ir for each in numbers))
    given = room_for(abi.CreateError, message=Number(builder().ptrtoint(text, INT)), code=code)
    create = read(read(frame.call, abi.Call.api), abi.Api.create_error)
    write(Number(call_address(create, INT, given)), frame.outcome, Outcome.error)


def _no_memory(frame):
    _set_error(frame, abi.RESOURCE_EXHAUSTED, "fastsoftmax: no memory")


# Functions ------------------------------------------------------------------------------------------------------------


def compiled(write_functions, name):
    """Compile what a function writes into a module, and give the address of the function of this name."""
    with global_compiler_lock:
        library = KernelLibrary(cpu_target.target_context.codegen(), name)
        module = library.create_ir_module(name)
        write_functions(module, name)
        library.add_ir_module(module)
        library.finalize()
    _kept.append(library)
    return library.get_pointer_to_function(name)


_kept = []  # libraries, whose code is freed when nobody has them


def write_function(module, name, function, arguments):
    """Write a function of values like some, which returns a status."""
    scope = Scope(module, name, [leaf for argument in arguments for leaf in leaves(argument)])
    scopes.append(scope)
    try:
        given = iter(scope.function.args)
        run(function, [with_leaves(argument, [next(given) for _ in leaves(argument)]) for argument in arguments])
        scope.end()
    finally:
        scopes.pop()
    return scope.function


def write_handler(module, name, body, after):
    """Write a function that XLA calls: its body, and what is done after it in any case. Both take a frame."""

    @staged
    def answer_or_do(frame):
        if not _was_question(frame):
            body(frame)

    frame = Frame(UNKNOWN, UNKNOWN)
    answer_or_do, no_memory, after = (
        write_function(module, f"{name}.{each.__name__}", each, [frame]) for each in (answer_or_do, _no_memory, after)
    )
    entry = ir.Function(module, ir.FunctionType(POINTER, [POINTER]), name)
    build = ir.IRBuilder(entry.append_basic_block())
    outcome = cgutils.alloca_once_value(build, ir.Constant(ir.ArrayType(INT, 2), [0, 0]))
    frame = [build.ptrtoint(place, INT) for place in (entry.args[0], outcome)]
    status = build.call(answer_or_do, frame)
    is_short = [build.icmp_unsigned("==", status, INT32(each)) for each in (NO_MEMORY, OUT_OF_BOUNDS)]
    with cgutils.if_unlikely(build, build.or_(*is_short)):
        build.call(no_memory, frame)
    build.call(after, frame)
    build.ret(build.load(build.inttoptr(frame[1], POINTER), typ=POINTER))


@staged
def _was_question(frame):
    """Answer what version a handler was made for, if that is what was asked."""
    extension, answered = read(frame.call, abi.Call.extensions), False
    while extension != 0:
        if read(extension, abi.Extension.kind) == abi.METADATA:
            _answer(read(extension, abi.MetadataExtension.metadata))
            answered = True
        extension = read(extension, abi.Extension.next)
    return answered


def _answer(metadata):
    write(abi.MAJOR, metadata, abi.Metadata.version, abi.Version.major)
    write(abi.MINOR, metadata, abi.Metadata.version, abi.Version.minor)
