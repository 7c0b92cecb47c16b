"""Numbers of a kernel while it is compiled, and what Python's operators and functions do with them.

They follow Numba's rules: integers have 64 bits, and the result of a float32 with anything but a float32 is a float64.
"""

import math

import numpy as np
from llvmlite import ir

from .values import BOOL, DOUBLE, FLOAT, INT, INT32, Value, builder, call, call_llvm, operators_by


def number(value):
    """Make a number of one that is known; leave others as they are."""
    if isinstance(value, Number):
        return value
    if isinstance(value, (bool, np.bool_)):
        return Number(ir.Constant(BOOL, int(value)))
    if isinstance(value, (int, np.integer)):
        return Number(ir.Constant(INT, int(value)))
    if isinstance(value, np.float32):
        return Number(ir.Constant(FLOAT, float(value)))
    if isinstance(value, float):
        return Number(ir.Constant(DOUBLE, value))
    raise TypeError(f"expected a number, got {value!r}")


def convert(value, kind):
    """Give a number as an LLVM value of a type."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and kind in (FLOAT, DOUBLE):
        return ir.Constant(kind, float(value))
    value = number(value).ir
    if value.type == kind:
        return value
    if kind == BOOL:
        return truth(Number(value)).ir
    if value.type == BOOL:
        value = builder().zext(value, INT)
    if value.type == INT and kind in (FLOAT, DOUBLE):
        return builder().sitofp(value, kind)
    if kind == DOUBLE and value.type == FLOAT:
        return builder().fpext(value, kind)
    if kind == FLOAT and value.type == DOUBLE:
        return builder().fptrunc(value, kind)
    return value if value.type == kind else _no_way(value.type, kind)


def _no_way(have, want):
    raise TypeError(f"cannot make a {want} of a {have}")


def truth(value):
    """Give a number as a truth value."""
    if value.ir.type == BOOL:
        return value
    zero = value.ir.type(0)
    compare = builder().icmp_signed if value.ir.type == INT else builder().fcmp_unordered
    return Number(compare("!=", value.ir, zero))


def _common(a, b, *, real=False):
    """Give two numbers the type that arithmetic on them has."""
    a, b = number(a), number(b)
    kinds = {a.ir.type, b.ir.type}
    kind = FLOAT if kinds == {FLOAT} else DOUBLE if real or kinds & {FLOAT, DOUBLE} else INT
    return convert(a, kind), convert(b, kind)


def _arithmetic(on_integers, on_floats):
    def rule(a, b):
        a, b = _common(a, b)
        if a.type == INT:
            return Number(getattr(builder(), on_integers)(a, b, flags=("nsw",)))
        return Number(getattr(builder(), on_floats)(a, b))

    return rule


def _divide(a, b):
    return Number(builder().fdiv(*_common(a, b, real=True)))


def _floor_divide(a, b):
    a, b = _integers(a, b)
    power = _power_of_two(b)
    if power is not None:
        return Number(builder().ashr(a, INT(power)))
    divisor = _not_zero(b)
    quotient = builder().sdiv(a, divisor)
    rest = builder().sub(a, builder().mul(quotient, divisor))
    rounded = builder().add(quotient, builder().sext(_is_inexact(rest, divisor), INT))
    return Number(builder().select(builder().icmp_signed("==", b, INT(0)), INT(0), rounded))


def _modulo(a, b):
    a, b = _integers(a, b)
    if _power_of_two(b) is not None:
        return Number(builder().and_(a, INT(b.constant - 1)))
    divisor = _not_zero(b)
    rest = builder().srem(a, divisor)
    return Number(builder().select(_is_inexact(rest, divisor), builder().add(rest, divisor), rest))


def _not_zero(b):
    """Give a divisor that ends no process: NumPy's integers divided by 0 are 0, and so are these."""
    return builder().select(builder().icmp_signed("==", b, INT(0)), INT(1), b)


def _is_inexact(rest, b):
    """Whether a quotient that was cut must be one less: Python's rounds down."""
    other_sign = builder().icmp_signed("<", builder().xor(rest, b), INT(0))
    return builder().and_(builder().icmp_signed("!=", rest, INT(0)), other_sign)


def _power_of_two(value):
    known = getattr(value, "constant", None)
    return known.bit_length() - 1 if known and known > 0 and known & (known - 1) == 0 else None


def _integers(a, b):
    a, b = _common(a, b)
    return (a, b) if a.type == INT else _no_way(a.type, INT)


def _on_bits(name):
    def rule(a, b):
        a, b = number(a), number(b)
        if not a.ir.type == b.ir.type == BOOL:
            a, b = (Number(value) for value in _integers(a, b))
        return Number(getattr(builder(), name)(a.ir, b.ir))

    return rule


def _shift(name):
    return lambda a, b: Number(getattr(builder(), name)(*_integers(a, b)))


def _comparison(sign):
    def rule(a, b):
        a, b = _common(a, b)
        if a.type == INT:
            return Number(builder().icmp_signed(sign, a, b))
        # NaN is equal to nothing, and unequal to all.
        return Number((builder().fcmp_unordered if sign == "!=" else builder().fcmp_ordered)(sign, a, b))

    return rule


@operators_by(
    {
        "add": _arithmetic("add", "fadd"),
        "sub": _arithmetic("sub", "fsub"),
        "mul": _arithmetic("mul", "fmul"),
        "truediv": _divide,
        "floordiv": _floor_divide,
        "mod": _modulo,
        "and": _on_bits("and_"),
        "or": _on_bits("or_"),
        "xor": _on_bits("xor"),
        "lshift": _shift("shl"),
        "rshift": _shift("ashr"),
        "lt": _comparison("<"),
        "le": _comparison("<="),
        "gt": _comparison(">"),
        "ge": _comparison(">="),
        "eq": _comparison("=="),
        "ne": _comparison("!="),
    }
)
class Number(Value):
    """An integer of 64 bits, a truth value, a float32 or a float64."""

    __slots__ = ()

    def __neg__(self):
        if self.ir.type in (FLOAT, DOUBLE):
            return Number(builder().fneg(self.ir))
        return 0 - self

    def __abs__(self):
        if self.ir.type in (FLOAT, DOUBLE):
            return Number(call_llvm("fabs", self.ir))
        return where(self < 0, -self, self)


def where(condition, then, otherwise):
    """Choose one of two numbers, both of which are computed."""
    return Number(builder().select(condition.ir, *_common(then, otherwise)))


def opposite(value):
    """Give `not value`."""
    return Number(builder().not_(truth(value).ir)) if isinstance(value, Value) else not value


def minimum(a, b):
    """Choose the lesser, as `min` does."""
    return where(b < a, b, a) if _any_unknown(a, b) else min(a, b)


def maximum(a, b):
    """Choose the greater, as `max` does."""
    return where(b > a, b, a) if _any_unknown(a, b) else max(a, b)


def is_nan(x):
    """Whether a number is NaN."""
    return x != x if isinstance(x, Number) else math.isnan(x)


def is_inf(x):
    """Whether a number is infinite."""
    return abs(x) == math.inf if isinstance(x, Number) else math.isinf(x)


def integer(x):
    """Make an integer, cut towards zero."""
    if isinstance(x, Number):
        return x if x.ir.type == INT else Number(builder().fptosi(x.ir, INT))
    return int(x)


def real(kind, dtype):
    """Make a conversion to float32 or float64."""
    return lambda x: Number(convert(x, kind)) if isinstance(x, Number) else dtype(x)


def ldexp(x, exponent):
    """Compute x · 2^exponent in float64, by the function that Numba has for it."""
    return Number(call("numba_ldexp", DOUBLE, [convert(x, DOUBLE), builder().trunc(exponent.ir, INT32)]))


def _any_unknown(*values):
    return any(isinstance(value, Value) for value in values)
