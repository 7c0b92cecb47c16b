"""Vectors of 64 bytes inside Numba kernels: 16 lanes of float32 or 8 of float64.

LLVM vectorises plain loops too, but then it chooses the order of a sum, so that the same row gives other bits in another
kernel; it needs fast-math for that, tests at run time whether arrays overlap (in place means the scalar loop), and
cannot store past the cache. Here each instruction is written down once and IEEE holds: the order of every sum is the
code's. Chips with narrower registers get the same operations in two or four pieces.

A vector is a value like a float: ``a + b``, ``a * b``, ``fma(a, b, c)``. Arrays are C-contiguous and addressed by
their flat element index.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

BYTES = 64

_BOOL = ir.IntType(1)
_INT32 = ir.IntType(32)
_INTEGER_OF = {types.float32: _INT32, types.float64: ir.IntType(64)}
_MANTISSA_BITS = {types.float32: 23, types.float64: 52}


class Lanes(types.Type):
    """The Numba type of a vector of `dtype` (float32 or float64)."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.count = BYTES * 8 // dtype.bitwidth
        super().__init__(f"Lanes({dtype} x {self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.count))


# Arithmetic ------------------------------------------------------------------------------------------------------


class _SameLanes(AbstractTemplate):
    """Both operands and the result are vectors of one type."""

    def generic(self, args, kws):
        if not kws and len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
            return signature(args[0], *args)
        return None


def _register_operator(operation, instruction):
    infer_global(operation)(type(f"_Lanes_{instruction}", (_SameLanes,), {"key": operation}))

    @lower_builtin(operation, Lanes, Lanes)
    def lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register_operator(_operation, _instruction)


def _constant(vector_type, value):
    return ir.Constant(vector_type, [value] * vector_type.count)


def _splat(builder, vector_type, scalar):
    lane0 = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, _INT32(0))
    zeros = ir.Constant(ir.VectorType(_INT32, vector_type.count), None)
    return builder.shuffle_vector(lane0, ir.Constant(vector_type, ir.Undefined), zeros)


def _numbers(lanes):
    """The lanes' own numbers, 0, 1, 2, …"""
    return ir.Constant(ir.VectorType(_INT32, lanes.count), list(range(lanes.count)))


def _splat_int(builder, lanes, value):
    return _splat(builder, ir.VectorType(_INT32, lanes.count), builder.trunc(value, _INT32))


def _fma(builder, a, b, c):
    bits = {"float": 32, "double": 64}[str(a.type.element)]
    function_type = ir.FunctionType(a.type, [a.type] * 3)
    name = f"llvm.fma.v{a.type.count}f{bits}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), [a, b, c])


def _vector_type(context, lanes):
    return context.get_value_type(lanes)


@intrinsic
def splat(typingctx, array, scalar):
    """Give every lane of a vector of the array's dtype the value `scalar`."""
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        value = context.cast(builder, args[1], sig.args[1], lanes.dtype)
        return _splat(builder, _vector_type(context, lanes), value)

    return lanes(array, scalar), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """Compute a·b + c, rounded once."""
    if not (isinstance(a, Lanes) and a == b == c):
        return None

    return a(a, b, c), lambda context, builder, sig, args: _fma(builder, *args)


@intrinsic
def greater(typingctx, a, b):
    """Take the greater of two; `b` where either is NaN (one instruction, where one that keeps NaN needs four)."""
    if not (isinstance(a, Lanes) and a == b):
        return None

    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), codegen


@intrinsic
def zero_below(typingctx, value, key, floor):
    """Replace `value` by zero in the lanes where key < floor; a NaN key keeps its value."""
    if not (isinstance(value, Lanes) and value == key == floor):
        return None

    def codegen(context, builder, sig, args):
        value, key, floor = args
        return builder.select(
            builder.fcmp_unordered(">=", key, floor), value, ir.Constant(value.type, None)
        )

    return value(value, key, floor), codegen


@intrinsic
def power_of_two(typingctx, shifted):
    """Compute 2ᵏ, where the lowest mantissa bits of each lane hold k plus the exponent bias.

    Such a float is an integer shifted by 1.5 · 2ᵐ (m mantissa bits). Neither overflow nor subnormal powers are handled:
    the caller keeps k within bounds or discards the lane.
    """
    if not isinstance(shifted, Lanes):
        return None

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(_INTEGER_OF[shifted.dtype], shifted.count)
        bits = builder.shl(builder.bitcast(args[0], integers), _constant(integers, _MANTISSA_BITS[shifted.dtype]))
        return builder.bitcast(bits, args[0].type)

    return shifted(shifted), codegen


@intrinsic
def drop_lane(typingctx, vector, lane):
    """Set one lane to zero; none where there is no such lane."""
    if not isinstance(vector, Lanes):
        return None

    def codegen(context, builder, sig, args):
        value, lane = args
        is_lane = builder.icmp_signed("==", _numbers(vector), _splat_int(builder, vector, lane))
        return builder.select(is_lane, ir.Constant(value.type, None), value)

    return vector(vector, types.intp), codegen


# Constants and polynomials ---------------------------------------------------------------------------------------


def constant(float32, float64):
    """Make a function that gives every lane a constant, by the dtype of the vector or array it is called with."""
    values = {types.float32: float32, types.float64: float64}

    @intrinsic
    def in_every_lane(typingctx, like):
        lanes = Lanes(like.dtype)

        def codegen(context, builder, sig, args):
            return _constant(_vector_type(context, lanes), values[lanes.dtype])

        return lanes(like), codegen

    return in_every_lane


def polynomial(float32, float64):
    """Make a function that evaluates the polynomial with these coefficients, lowest first, by Horner's rule."""
    coefficients = {types.float32: float32, types.float64: float64}

    @intrinsic
    def horner(typingctx, x):
        if not isinstance(x, Lanes):
            return None

        def codegen(context, builder, sig, args):
            highest, *others = (_constant(args[0].type, c) for c in reversed(coefficients[x.dtype]))
            value = highest
            for coefficient in others:
                value = _fma(builder, value, args[0], coefficient)
            return value

        return x(x), codegen

    return horner


# Across lanes ----------------------------------------------------------------------------------------------------


def _halves(builder, vector):
    count = vector.type.count // 2
    picks = [ir.Constant(ir.VectorType(_INT32, count), list(range(s, s + count))) for s in (0, count)]
    return [builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), pick) for pick in picks]


def _fold(builder, vector, combine):
    """Combine lane i with lane i + count/2 until one is left: a fixed order."""
    while vector.type.count > 1:
        vector = combine(*_halves(builder, vector))
    return builder.extract_element(vector, _INT32(0))


@intrinsic
def sum_lanes(typingctx, vector):
    """Add the lanes pairwise, always in the same order."""
    if not isinstance(vector, Lanes):
        return None

    def codegen(context, builder, sig, args):
        return _fold(builder, args[0], builder.fadd)

    return vector.dtype(vector), codegen


@intrinsic
def greatest_lane(typingctx, vector):
    """Take the greatest lane (see `greater` for NaN)."""
    if not isinstance(vector, Lanes):
        return None

    def codegen(context, builder, sig, args):
        return _fold(builder, args[0], lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))

    return vector.dtype(vector), codegen


@intrinsic
def first_lane(typingctx, vector):
    """Take lane 0."""
    if not isinstance(vector, Lanes):
        return None

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], _INT32(0))

    return vector.dtype(vector), codegen


# Sums that lose nothing on the way: float32 adds up in float64 lanes, float64 keeps what each addition rounded off.


@intrinsic
def empty_sum(typingctx, like):
    """Begin a sum of vectors."""
    total = types.UniTuple(Lanes(types.float64), 2)

    def codegen(context, builder, sig, args):
        zero = ir.Constant(_vector_type(context, total.dtype), None)
        return context.make_tuple(builder, total, [zero, zero])

    return total(like), codegen


@intrinsic
def add_to_sum(typingctx, total, vector):
    """Add a vector to a sum."""
    if not isinstance(vector, Lanes):
        return None

    def codegen(context, builder, sig, args):
        first, second = cgutils.unpack_tuple(builder, args[0])
        if vector.dtype == types.float32:
            low, high = (_widen(builder, half) for half in _halves(builder, args[1]))
            parts = [builder.fadd(first, low), builder.fadd(second, high)]
        else:
            parts = _two_sum(builder, first, args[1], second)
        return context.make_tuple(builder, total, parts)

    return total(total, vector), codegen


def _widen(builder, half):
    return builder.fpext(half, ir.VectorType(ir.DoubleType(), half.type.count))


def _two_sum(builder, total, addend, error):
    """Knuth's exact addition: the rounded sum, and its rounding added to `error`."""
    new = builder.fadd(total, addend)
    back = builder.fsub(new, total)
    lost = builder.fadd(
        builder.fsub(total, builder.fsub(new, back)),
        builder.fsub(addend, back),
    )
    return [new, builder.fadd(error, lost)]


# Memory ----------------------------------------------------------------------------------------------------------


def _address(context, builder, array_type, array, index, lanes):
    struct = context.make_array(array_type)(context, builder, array)
    pointer = builder.gep(struct.data, [index])
    return builder.bitcast(pointer, _vector_type(context, lanes).as_pointer())


def _first(builder, count, lanes):
    """Mask of the first `count` lanes."""
    return builder.icmp_signed("<", _numbers(lanes), _splat_int(builder, lanes, count))


def _is_contiguous(array):
    return isinstance(array, types.Array) and array.layout == "C" and array.dtype in _INTEGER_OF


@intrinsic
def lanes_of(typingctx, array):
    """Count the lanes of a vector of the array's dtype: a constant to the compiler."""
    count = Lanes(array.dtype).count
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, count)


@intrinsic
def load(typingctx, array, index):
    """Load a vector from array.flat[index:]."""
    if not _is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        address = _address(context, builder, array, *args, lanes)
        return builder.load(address, align=lanes.dtype.bitwidth // 8)

    return lanes(array, types.intp), codegen


@intrinsic
def load_first(typingctx, array, index, count, fill):
    """Load `count` lanes from array.flat[index:]; the others hold `fill` and their memory is not touched."""
    if not _is_contiguous(array):
        return None
    lanes = Lanes(array.dtype)

    def codegen(context, builder, sig, args):
        array_value, index, count, fill = args
        vector = _vector_type(context, lanes)
        address = _address(context, builder, array, array_value, index, lanes)
        fill = context.cast(builder, fill, sig.args[3], lanes.dtype)
        name = f"llvm.masked.load.v{lanes.count}f{lanes.dtype.bitwidth}.p0"
        mask = ir.VectorType(_BOOL, lanes.count)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [address.type, _INT32, mask, vector]), name
        )
        align = _INT32(lanes.dtype.bitwidth // 8)
        fill = _splat(builder, vector, fill)
        return builder.call(function, [address, align, _first(builder, count, lanes), fill])

    return lanes(array, types.intp, types.intp, fill), codegen


@intrinsic
def store(typingctx, array, index, vector):
    """Store a vector to array.flat[index:]."""
    if not (_is_contiguous(array) and vector == Lanes(array.dtype)):
        return None

    def codegen(context, builder, sig, args):
        array_value, index, value = args
        address = _address(context, builder, array, array_value, index, vector)
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
        address = _address(context, builder, array, array_value, index, vector)
        name = f"llvm.masked.store.v{vector.count}f{vector.dtype.bitwidth}.p0"
        mask = ir.VectorType(_BOOL, vector.count)
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [value.type, address.type, _INT32, mask]), name
        )
        align = _INT32(vector.dtype.bitwidth // 8)
        builder.call(function, [value, address, align, _first(builder, count, vector)])
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, vector), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for array.flat[index] to be in the second-level cache soon; any address may be asked for."""
    if not _is_contiguous(array):
        return None

    def codegen(context, builder, sig, args):
        struct = context.make_array(array)(context, builder, args[0])
        address = builder.bitcast(builder.gep(struct.data, [args[1]]), cgutils.voidptr_t)
        function_type = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, _INT32, _INT32, _INT32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [address, _INT32(0), _INT32(2), _INT32(1)])
        return context.get_dummy_value()

    return types.void(array, types.intp), codegen


@intrinsic
def smallest_normal(typingctx, array):
    """Give the smallest normal number of the array's dtype, as float64."""
    value = {types.float32: 2.0**-126, types.float64: 2.0**-1022}[array.dtype]
    return types.float64(array), lambda context, builder, sig, args: context.get_constant(types.float64, value)
