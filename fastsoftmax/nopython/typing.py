"""What implementations know of Numba's types, and how they are compiled."""

import functools

import numpy as np
from numba import types
from numba.core import errors
from numba.extending import overload, register_jitable
from numba.np.numpy_support import as_dtype

# Numba would have them inherit the user's fast-math, and how the user's code divides by zero.
FLAGS = {"error_model": "numpy", "fastmath": False, "no_cfunc_wrapper": True}

jitable = register_jitable(**FLAGS)


def by_literals(function):
    """Have nopython code call a function that asks the types of its arguments for constants."""
    overload(function, jit_options=FLAGS, strict=False, prefer_literal=True)(lambda *args, **kwargs: function)
    return function


def by_type(function):
    """Make a function that nopython code calls of one that gives its implementation for the types of its arguments."""

    @functools.wraps(function)
    def stub(*args):
        raise NotImplementedError(f"{function.__name__} exists in nopython code only")

    overload(stub, jit_options=FLAGS, strict=False, prefer_literal=True)(function)
    return stub


def is_none(given):
    """Whether an argument is None, or left out where that is the default."""
    given = given.value if isinstance(given, types.Omitted) else given
    return given is None or isinstance(given, types.NoneType)


def literal(given, default=None):
    """Give the value of an argument that is a literal or was left out; the default of one that is known later only."""
    if isinstance(given, types.Type):
        return getattr(given, "literal_value", getattr(given, "value", default))
    return given


def is_integer(given):
    """Whether an argument is an integer, and no truth value."""
    kind = types.unliteral(given) if isinstance(given, types.Type) else given
    return isinstance(kind, types.Integer) or type(kind) is int


def is_number(given):
    """Whether an argument is a real number."""
    if isinstance(given, types.Omitted):
        given = given.value
    return is_integer(given) or isinstance(given, (types.Float, float))


def refuse(name, expected, given):
    """Refuse an argument for its type."""
    raise errors.NumbaTypeError(f"{name}: expected {expected}, got {given}")


def stored_dtype(array):
    """Give the name of the dtype that the elements of an array have in memory."""
    return as_dtype(array.dtype).name


def compute_dtype(array):
    """Give the dtype that an array is computed in: float32 for the bits of half types."""
    return np.float64 if array.dtype == types.float64 else np.float32


def take_floats(name, given, ndims=(1, 2)):
    """Require an array of float32 or float64 of one of some numbers of dimensions."""
    if not isinstance(given, types.Array):
        refuse(name, "an array", given)
    if given.dtype in (types.float16, types.int16, types.uint16):
        refuse(name, "float32 or float64 (half types are for calls from Python)", given)
    if given.dtype not in (types.float32, types.float64):
        refuse(name, "float32 or float64", given)
    if given.ndim not in ndims:
        refuse(name, f"{' or '.join(map(str, ndims))} dimensions", given)
