"""Vectors of 64 bytes inside Numba kernels: 16 lanes of float32 or 8 of float64.

LLVM vectorises plain loops too, but then it chooses the order of a sum, so that the same row gets other bits in another
kernel; it needs fast-math for that, tests at run time whether arrays overlap (in place means the scalar loop), and
cannot store past the cache. Here each instruction is written down once and IEEE holds: the order of every sum is the
source's. Chips with narrower registers get the same operations in two or four pieces.

A vector is a value like a float: ``a + b``, ``a * b``, ``fma(a, b, c)``. `memory` loads and stores vectors, `sums`
combines their lanes.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

INT32 = ir.IntType(32)
_INT64 = ir.IntType(64)
INTEGER_OF = {types.float32: INT32, types.float64: _INT64}
MANTISSA_BITS = {types.float32: 23, types.float64: 52}


class Lanes(types.Type):
    """The Numba type of a vector of `dtype` (float32 or float64)."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.count = 512 // dtype.bitwidth
        super().__init__(f"Lanes({dtype} x {self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector_type(fe_type))


def vector_type(lanes):
    """Give the LLVM type of a vector."""
    element = ir.FloatType() if lanes.dtype == types.float32 else ir.DoubleType()
    return ir.VectorType(element, lanes.count)


def all_lanes(*args):
    """Whether the arguments of an intrinsic are vectors of one type."""
    return isinstance(args[0], Lanes) and all(arg == args[0] for arg in args)


def build_splat(builder, vector, scalar):
    """Build a vector with `scalar` in each lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    lane0 = builder.insert_element(undefined, scalar, INT32(0))
    return builder.shuffle_vector(lane0, undefined, ir.Constant(ir.VectorType(INT32, vector.count), None))


def build_halves(builder, vector):
    """Build the vectors of the lower and of the upper lanes."""
    size = vector.type.count // 2
    picks = [ir.Constant(ir.VectorType(INT32, size), list(range(s, s + size))) for s in (0, size)]
    return [builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), pick) for pick in picks]


def build_lane_numbers(lanes):
    """Build the vector of the lanes' own numbers, from 0; `lanes` is anything that has a count of them."""
    return ir.Constant(ir.VectorType(INT32, lanes.count), list(range(lanes.count)))


def build_int_splat(builder, lanes, value):
    """Build a vector with a 64-bit integer in each lane, to compare with lane numbers: cut to −1 ... count of lanes.

    Cut to its lowest 32 bits, a count of 2³¹ lanes would be negative, and lane 2³² be lane 0.
    """
    for comparison, bound in ((">", lanes.count), ("<", -1)):
        bound = value.type(bound)
        value = builder.select(builder.icmp_signed(comparison, value, bound), bound, value)
    return build_splat(builder, ir.VectorType(INT32, lanes.count), builder.trunc(value, INT32))


def build_constant(vector, value):
    """Build a vector with a Python number in each lane."""
    return ir.Constant(vector, [value] * vector.count)


@intrinsic
def lanes_of(typingctx, like):
    """Count the lanes of a vector of the dtype of the array or vector `like`: a constant to the compiler."""
    count = Lanes(like.dtype).count
    return types.intp(like), lambda context, builder, sig, args: context.get_constant(types.intp, count)


# Arithmetic ------------------------------------------------------------------------------------------------------


def _register_operator(operation, instruction):
    class LanesOperator(AbstractTemplate):
        key = operation

        def generic(self, args, kws):
            if len(args) == 2 and not kws and all_lanes(*args):
                return signature(args[0], *args)
            return None

    infer_global(operation)(LanesOperator)

    @lower_builtin(operation, Lanes, Lanes)
    def lower(context, builder, sig, args):
        return getattr(builder, instruction)(*args)


_register_operator(operator.add, "fadd")
_register_operator(operator.sub, "fsub")
_register_operator(operator.mul, "fmul")
_register_operator(operator.truediv, "fdiv")


def build_float_call(builder, name, *args):
    """Build a call of an LLVM function of vectors."""
    vector = args[0].type
    suffix = "f32" if vector.element == ir.FloatType() else "f64"
    function_type = ir.FunctionType(vector, [vector] * len(args))
    name = f"llvm.{name}.v{vector.count}{suffix}"
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def build_fma(builder, a, b, c):
    """Build a·b + c, rounded once."""
    return build_float_call(builder, "fma", a, b, c)


@intrinsic
def fma(typingctx, a, b, c):
    """Compute a·b + c, rounded once."""
    if not all_lanes(a, b, c):
        return None
    return a(a, b, c), lambda context, builder, sig, args: build_fma(builder, *args)


@intrinsic
def magnitude(typingctx, x):
    """Compute |x|."""
    if not all_lanes(x):
        return None
    return x(x), lambda context, builder, sig, args: build_float_call(builder, "fabs", *args)


@intrinsic
def splat(typingctx, like, scalar):
    """Give each lane of a vector, of the dtype of the array or vector `like`, the value `scalar`."""
    lanes = Lanes(like.dtype)

    def codegen(context, builder, sig, args):
        value = context.cast(builder, args[1], scalar, lanes.dtype)
        return build_splat(builder, vector_type(lanes), value)

    return lanes(like, scalar), codegen


@intrinsic
def wide(typingctx, scalar):
    """Give each lane of a float64 vector the value `scalar`."""
    lanes = Lanes(types.float64)

    def codegen(context, builder, sig, args):
        value = context.cast(builder, args[0], scalar, types.float64)
        return build_splat(builder, vector_type(lanes), value)

    return lanes(scalar), codegen


# Choices, lane by lane -------------------------------------------------------------------------------------------


def _extreme(comparison):
    @intrinsic
    def take(typingctx, a, b):
        if not all_lanes(a, b):
            return None
        return a(a, b), lambda context, builder, sig, args: builder.select(
            builder.fcmp_ordered(comparison, *args), *args
        )

    return take


# Take the greater or the less of two; the second where either is NaN (one instruction; to keep NaN takes four).
greater, less = _extreme(">"), _extreme("<")


def _choice(comparison):
    @intrinsic
    def choose(typingctx, a, b, then, otherwise):
        if not (all_lanes(a, b) and all_lanes(then, otherwise) and a.count == then.count):
            return None

        def codegen(context, builder, sig, args):
            return builder.select(builder.fcmp_ordered(comparison, args[0], args[1]), args[2], args[3])

        return then(a, b, then, otherwise), codegen

    return choose


# Choose the third vector in the lanes where a == b, or a > b, the fourth in the others; NaN is neither.
where_equal, where_greater = _choice("=="), _choice(">")


@intrinsic
def zero_below(typingctx, value, key, floor):
    """Replace `value` by zero in the lanes where key < floor; a NaN key keeps its value."""
    if not all_lanes(value, key, floor):
        return None

    def codegen(context, builder, sig, args):
        value, key, floor = args
        keep = builder.fcmp_unordered(">=", key, floor)
        return builder.select(keep, value, ir.Constant(value.type, None))

    return value(value, key, floor), codegen


@intrinsic
def drop_lane(typingctx, vector, lane):
    """Set one lane to zero; none where there is no such lane."""
    if not all_lanes(vector):
        return None

    def codegen(context, builder, sig, args):
        value, lane = args
        is_lane = builder.icmp_signed("==", build_lane_numbers(vector), build_int_splat(builder, vector, lane))
        return builder.select(is_lane, ir.Constant(value.type, None), value)

    return vector(vector, types.intp), codegen


# Constants and polynomials ---------------------------------------------------------------------------------------


def constant(float32, float64):
    """Make a function that gives every lane a constant, by the dtype of the array or vector it is called with."""
    values = {types.float32: float32, types.float64: float64}

    @intrinsic
    def in_every_lane(typingctx, like):
        lanes = Lanes(like.dtype)
        return lanes(like), lambda context, builder, sig, args: build_constant(vector_type(lanes), values[like.dtype])

    return in_every_lane


def polynomial(float32, float64):
    """Make a function that evaluates the polynomial with these coefficients, lowest first, by Horner's rule."""
    coefficients = {types.float32: float32, types.float64: float64}

    @intrinsic
    def horner(typingctx, x):
        if not all_lanes(x):
            return None

        def codegen(context, builder, sig, args):
            value, *others = (build_constant(args[0].type, c) for c in reversed(coefficients[x.dtype]))
            for coefficient in others:
                value = build_fma(builder, value, args[0], coefficient)
            return value

        return x(x), codegen

    return horner
