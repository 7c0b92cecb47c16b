"""Kernels: functions over whole arrays, compiled by Numba from what `staging` writes."""

import functools
from collections.abc import Callable
from types import FunctionType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype, from_dtype

from .dispatchers import FLAGS, Compiled, kept_dispatcher, lazy
from .halves import STORED, is_half
from .library import KernelCompiler
from .numbers import Number
from .rounding import to_nearest
from .scopes import NO_MEMORY, OUT_OF_BOUNDS, unknown_leaves
from .staging import staged, write_kernel
from .values import BOOL, DOUBLE, INT, INT32, POINTER, Pointer
from .views import Array


class _Arrays(NamedTuple):
    """Which arrays a kernel takes: of so many dimensions, of a dtype, or of that it is compiled for, in which orders.

    Of order "F" is a matrix whose transpose is C-contiguous; when one comes, a kernel is compiled for it.
    """

    ndim: int
    dtype: types.Type | None = None
    computed: bool = False  # of the one that is computed in, which for half types is float32
    orders: str = "C"

    def type_for(self, stored, order):
        """Give Numba's type of it for the dtype, and the order of weights, that a kernel is compiled for."""
        own = types.float32 if self.computed and is_half(stored) else from_dtype(stored)
        return types.Array(self.dtype or own, self.ndim, order if order in self.orders else "C")


Matrix, Line = _Arrays(2), _Arrays(1)
ComputeMatrix, ComputeLine = _Arrays(2, computed=True), _Arrays(1, computed=True)
Weight, ComputeWeight = _Arrays(2, orders="CF"), _Arrays(2, computed=True, orders="CF")
Doubles, Labels, Mask = _Arrays(1, types.float64), _Arrays(1, types.int64), _Arrays(1, types.uint8)
_NUMBERS = {bool: types.boolean, int: types.int64, float: types.float64}


class Bound(NamedTuple):
    """A kernel whose first arguments are given."""

    serial: Callable
    parallel: Callable


class Kernel(Compiled):
    """A function over whole arrays; if it has tasks, its first argument is the pool that calls them, or 0 for none.

    The machine code is the same for one thread and for many: loops over `prange` call a task's function, or have the
    pool call it (see `pool`).

    A parameter whose annotation is a NamedTuple stands for arguments, one for each of its fields. A field with a
    default is an option: it is an argument, before all others, of the `variant` that is given it, and its default,
    which costs nothing, in the kernel itself.
    """

    __name__: str

    def __init__(self, function, *, kept=True, options=()):
        functools.update_wrapper(self, staged(function))
        self.parameters = _Parameters(function, options)
        self.has_tasks = self.parameters.has_tasks
        self._kept = kept
        self._variants = {}

    def known(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """List those of some options that there is a variant for."""
        return tuple(option for option in options if option in self.parameters.known)

    def variant(self, options: tuple[str, ...]) -> "Kernel":
        """Give the kernel that takes some options, by their names in order."""
        found = self._variants.get(options) if options else self
        if found is None:
            function = self.__wrapped__
            name = "_with_".join([function.__name__, *options])
            named = FunctionType(function.__code__, function.__globals__, name, None, function.__closure__)
            named.__module__, named.__annotations__ = function.__module__, function.__annotations__
            named.__qualname__ = name  # by which the cache tells variants of one signature apart
            # Another thread may have been faster.
            found = self._variants.setdefault(options, Kernel(named, kept=self._kept, options=options))
        return found

    def bound(self, options: dict[str, object]) -> Bound:
        """Give the variant that takes some options, with their values."""
        kernel = self.variant(tuple(options))
        return Bound(*(functools.partial(run, *options.values()) for run in (kernel.serial, kernel.parallel)))

    def make_dispatcher(self):
        """Make it: see `Compiled.dispatcher`."""
        function = self.__wrapped__
        options = {"pipeline_class": KernelCompiler, "no_cfunc_wrapper": True}
        if self._kept:
            return kept_dispatcher(_entry(function, self.parameters), function, **options)
        return njit(_entry(function, self.parameters), **FLAGS, **options)

    @property
    def orders(self) -> str:
        """The orders of weights that it is compiled for, or that of all other arrays."""
        return "CF" if {Weight, ComputeWeight} & {*self.parameters.kinds.values()} else "C"

    def signature(self, dtype: npt.DTypeLike, order: str = "C") -> tuple[types.Type, ...]:
        """Give the types of all arguments for a dtype, which of a half type is its name or the dtype of its bits."""
        kinds, stored = self.parameters.kinds.values(), np.dtype(STORED.get(dtype, dtype))
        given = [_NUMBERS.get(kind) or kind.type_for(stored, order) for kind in kinds]
        return (types.int64, *given) if self.has_tasks else tuple(given)

    def written(self, dtype, order="C"):
        """Write it down for a dtype, and give LLVM's text of it: what is compiled, without the call from Python."""
        module, arguments = ir.Module(), []
        for kind in self.signature(dtype, order):
            if isinstance(kind, types.Array):
                shape = (Number(ir.Constant(INT, ir.Undefined)),) * kind.ndim
                data = Pointer(ir.Constant(POINTER, None))
                arguments.append(Array(as_dtype(kind.dtype), data, shape, kind.layout))
            else:
                value = {types.boolean: BOOL, types.float64: DOUBLE}.get(kind, INT)
                arguments.append(Number(ir.Constant(value, ir.Undefined)))
        pool = arguments.pop(0) if self.has_tasks else _NO_POOL
        result = {int: INT, float: DOUBLE}.get(self.__annotations__.get("return"))
        arguments = self.parameters.group(arguments)
        write_kernel(module, self.__name__, self.__wrapped__, arguments, pool, result, checks_bounds=False)
        return str(module)

    @lazy
    def serial(self):
        """Give what runs on this thread."""
        return functools.partial(self.dispatcher, 0) if self.has_tasks else self.dispatcher

    @lazy
    def parallel(self):
        """Give what runs on Numba's pool."""
        return functools.partial(self.dispatcher, _pool_address()) if self.has_tasks else self.dispatcher


_NO_POOL = Number(INT(0))


class _Parameters:
    """The arguments that a kernel takes, by their names, and the parameters of the function that they are for."""

    def __init__(self, function, options):
        code = function.__code__
        self.has_tasks = "prange" in code.co_names
        self._function, self._names = function, code.co_varnames[: code.co_argcount]
        own = {name: function.__annotations__.get(name) for name in self._names}
        groups = {
            name: kind for name, kind in own.items() if hasattr(kind, "_field_defaults") and isinstance(kind, type)
        }
        fields = {field: kind for group in groups.values() for field, kind in group.__annotations__.items()}
        self.known = {field for group in groups.values() for field in group._field_defaults}
        # Options come first, so that they can be bound before the call.
        self.kinds = {field: fields[field] for field in options}
        for name, kind in own.items():
            if name in groups:
                always = [field for field in kind._fields if field not in kind._field_defaults]
                self.kinds |= {field: fields[field] for field in always}
            else:
                self.kinds[name] = kind
        self._groups = groups

    def group(self, arguments):
        """Give the parameters that arguments are for."""
        found = dict(zip(self.kinds, arguments, strict=True))
        for name, kind in self._groups.items():
            found[name] = kind(**{field: found[field] for field in kind._fields if field in found})
        return tuple(found[name] for name in self._names)


_pool_address = None


def use_pool(address):
    """Have the tasks of kernels done by a pool: the function gives the address of its `run_tasks`."""
    global _pool_address
    _pool_address = address


def kernel(function):
    """Compile a function over whole arrays."""
    return _NotCompiled(function) if config.DISABLE_JIT else Kernel(function)


def probe(function):
    """Compile one that is not the library's own, and that no cache keeps."""
    return _NotCompiled(function) if config.DISABLE_JIT else Kernel(function, kept=False)


class _NotCompiled:
    """What a kernel is under NUMBA_DISABLE_JIT."""

    def __init__(self, function):
        functools.update_wrapper(self, function)

    def serial(self, *args):
        """Say that there is none."""
        raise RuntimeError(
            "NUMBA_DISABLE_JIT is set, but vector instructions exist in compiled code only; "
            "fastsoftmax.reference has the same functions in NumPy"
        )

    parallel = serial


_RESULTS = {None: types.void, int: types.int64, float: types.float64}


def _entry(function, parameters):
    """Make the function that Numba compiles: of the same arguments, it calls what `staging` makes of this one."""
    result = _RESULTS[function.__annotations__.get("return")]

    @intrinsic
    def call(typingctx, *args):
        def codegen(context, builder, signature, values):
            return _call_kernel(context, builder, signature, values, function, parameters)

        return result(types.StarArgTuple(args)), codegen

    names = ", ".join(["pool"] * parameters.has_tasks + [*parameters.kinds])
    entry = eval(f"lambda {names}: call({names})", {"call": call})  # which Numba reads the names of arguments from
    entry.__name__ = entry.__qualname__ = function.__name__
    entry.__module__ = function.__module__
    return entry


def _call_kernel(context, builder, signature, values, function, parameters):
    """Build the call of a kernel, and raise what its status says."""
    (kinds,), values = signature.args, cgutils.unpack_tuple(builder, values[0])
    wanted = [None] * parameters.has_tasks + [*parameters.kinds.values()]
    arguments = [_argument(context, builder, *given) for given in zip(wanted, kinds, values, strict=True)]
    pool = arguments.pop(0) if parameters.has_tasks else _NO_POOL
    arguments = parameters.group(arguments)
    result = None if signature.return_type == types.void else context.get_value_type(signature.return_type)
    name = builder.module.get_unique_name(function.__name__)
    scope = write_kernel(
        builder.module, name, function, arguments, pool, result, checks_bounds=context.enable_boundscheck
    )
    place = cgutils.alloca_once(builder, result or INT)
    with to_nearest(builder):
        status = builder.call(
            scope.function, [*(leaf.ir for leaf in unknown_leaves(arguments)), pool.ir, builder.bitcast(place, POINTER)]
        )
    for value, error, message in ((NO_MEMORY, MemoryError, ()), (OUT_OF_BOUNDS, IndexError, ("vector out of bounds",))):
        with cgutils.if_unlikely(builder, builder.icmp_unsigned("==", status, INT32(value))):
            context.call_conv.return_user_exc(builder, error, message)
    return context.get_dummy_value() if result is None else builder.load(place)


def _argument(context, builder, wanted, kind, value):
    """Give an argument of a compiled function as `values` has it."""
    if isinstance(kind, types.Array):
        orders = getattr(wanted, "orders", "C")
        if kind.layout not in orders:
            raise TypeError(f"expected an array of order {' or '.join(orders)}, got {kind}")
        array = context.make_array(kind)(context, builder, value)
        shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
        return Array(as_dtype(kind.dtype), Pointer(array.data), tuple(Number(length) for length in shape), kind.layout)
    return Number(value if kind != types.boolean else builder.trunc(value, BOOL))
