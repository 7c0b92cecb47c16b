"""Values of a kernel while it is compiled: numbers and vectors, each with the LLVM value that will hold it.

Whatever is no such value is a Python object and known already: `+` of two Python numbers is Python's, and of a number
that is known and one that is not, an instruction.
"""

import numpy as np
from llvmlite import ir

INT, BOOL, BYTE, INT32, SHORT = (ir.IntType(bits) for bits in (64, 1, 8, 32, 16))
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
POINTER = ir.PointerType()
# What kernels take half types as: see `halves`.
FLOAT16, BFLOAT16 = np.dtype(np.int16), np.dtype(np.uint16)
ELEMENT_OF = {
    np.dtype(np.float32): FLOAT,
    np.dtype(np.float64): DOUBLE,
    np.dtype(np.int64): INT,
    np.dtype(np.uint8): BYTE,
    FLOAT16: SHORT,
    BFLOAT16: SHORT,
}
DTYPE_OF = {FLOAT: np.dtype(np.float32), DOUBLE: np.dtype(np.float64)}
SIZE_OF = {FLOAT: 4, DOUBLE: 8, INT: 8, INT32: 4, SHORT: 2, BYTE: 1}

# The LLVM functions that are being written, the innermost last: see `scopes.Scope`.
scopes = []


def builder():
    """Give the builder of the function that is being written."""
    return scopes[-1].builder


class Value:
    """A value that is known when the kernel runs, not before."""

    __slots__ = ("ir",)
    __hash__ = None

    def __init__(self, value):
        self.ir = value

    def like(self, value):
        """Give another value of this kind."""
        return type(self)(value)

    def __bool__(self):
        raise TypeError("a branch on a value that is not known yet, in a function that is not staged")


class Pointer(Value):
    """Where an array begins."""

    __slots__ = ()


def operators_by(rules):
    """Define the operators of a class by a rule each, which takes both operands in their order."""

    def define(cls):
        for name, rule in rules.items():
            setattr(cls, f"__{name}__", lambda a, b, rule=rule: rule(a, b))
            if name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift"):
                setattr(cls, f"__r{name}__", lambda a, b, rule=rule: rule(b, a))
        return cls

    return define


def call_llvm(name, *args):
    """Call an LLVM function that has a version for each type."""
    kind = args[0].type
    element = getattr(kind, "element", kind)
    suffix = {FLOAT: "f32", DOUBLE: "f64", INT: "i64"}[element]
    suffix = f"v{kind.count}{suffix}" if element is not kind else suffix
    return call(f"llvm.{name}.{suffix}", kind, args)


def call(name, result, args):
    """Call a function by its name."""
    module = scopes[-1].module
    function = module.globals.get(name)
    if function is None:
        function = ir.Function(module, ir.FunctionType(result, [arg.type for arg in args]), name)
    return builder().call(function, args)


# Vectors -----------------------------------------------------------------------------------------------------------


def _on_vectors(instruction):
    def rule(a, b):
        if not all_vectors(a, b):
            raise TypeError(f"expected two vectors of one type, got {a!r} and {b!r}")
        return a.like(getattr(builder(), instruction)(a.ir, b.ir))

    return rule


def all_vectors(*values):
    """Whether values are vectors of one type."""
    return all(isinstance(value, Vector) and value.ir.type == values[0].ir.type for value in values)


@operators_by(
    {
        "add": _on_vectors("fadd"),
        "sub": _on_vectors("fsub"),
        "mul": _on_vectors("fmul"),
        "truediv": _on_vectors("fdiv"),
    }
)
class Vector(Value):
    """A vector of floats: see `simd.vector`."""

    __slots__ = ()

    @property
    def dtype(self):
        """The dtype of its lanes."""
        return DTYPE_OF[self.ir.type.element]

    def __neg__(self):
        return Vector(builder().fneg(self.ir))
