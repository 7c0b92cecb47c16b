"""How nopython code finds kernels: by external symbols, which are bound whenever such code is compiled or loaded.

Code that Numba compiles for a user holds no kernel: it stays small, and is never stale. What it needs is a `Binding`,
which Numba keeps with it, and calls before it links it, from the user's own cache too. One that another version of this
package has left fails to be read with an OSError, which Numba takes for code that its cache does not have.
"""

import ctypes
import functools
import hashlib
import os
from dataclasses import dataclass
from importlib.resources import files
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.ufunc import parallel as pool

from fastsoftmax import kernels, regions, threads
from fastsoftmax._version import __version__
from fastsoftmax.kernels.compiling import sources

# Kernels ------------------------------------------------------------------------------------------------------------


class Key(NamedTuple):
    """Which kernel it is: of an operation, by its name there, for a stored dtype, an order of weights, and options."""

    operation: str
    name: str
    dtype: str
    order: str
    options: tuple[str, ...]

    @property
    def kernel(self):
        """The kernel itself."""
        return getattr(kernels.operations.OPERATIONS[self.operation], self.name).variant(self.options)

    @property
    def symbol(self):
        """What compiled code calls it."""
        return ".".join(("fastsoftmax", digest(), *self[:4], *self.options))


class Signature(NamedTuple):
    """The types of a kernel's result and arguments."""

    result: types.Type
    arguments: tuple[types.Type, ...]


@functools.cache
def digest():
    """Give a digest of all that compiled code relies on: implementations, what they take over, and the kernels."""
    folders = files(__package__), files(__package__.partition(".")[0])
    found = [file for folder in folders for file in folder.iterdir() if file.name.endswith(".py")]
    own = sorted((file.name, file.read_bytes()) for file in found)
    return hashlib.sha256(repr((__version__, own, sources.digest())).encode()).hexdigest()[:16]


@functools.cache
def bind(key):
    """Compile a kernel, or load it, and bind its symbol."""
    kernel = key.kernel
    arguments = kernel.signature(np.dtype(key.dtype), key.order)
    kernel.dispatcher.compile(arguments)
    compiled = kernel.dispatcher.overloads[arguments]
    address = compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)
    llvm.add_symbol(key.symbol, address)
    return Signature(compiled.signature.return_type, arguments)


@dataclass(frozen=True)
class Binding:
    """What Numba calls before it links code that calls a kernel; without one, code that asks for the state."""

    key: Key | None = None

    def __call__(self):
        """Bind it."""
        bind_state() if self.key is None else bind(self.key)

    def __reduce__(self):
        """Have it read by `_read`."""
        return _read, (digest(), self.key and tuple(self.key))


def _read(version, key):
    if version != digest():
        raise OSError("compiled for another version of fastsoftmax")
    return Binding(key and Key(*key))


def need(context, binding):
    """Bind what the code that is being compiled needs, and have Numba keep the binding with it."""
    binding()
    context.active_code_library._reload_init.add(binding)


# The state of the process, which code reads when it runs --------------------------------------------------------------


class _State(ctypes.Structure):
    """Where `kernels.pool.run_tasks` is, or 0 where no pool may run; and the mask of a `regions.Probe`, 0 without."""

    _fields_ = (("pool", ctypes.c_int64), ("region_mask", ctypes.c_int64))


_state = _State()


@functools.cache
def bind_state():
    """Launch the pool, unless this process must not, and bind what tells of it."""
    is_safe = threads.has_pool() and pool._threading_layer != "workqueue"
    probe = regions.probe_of(pool._threading_layer) if is_safe else None
    _state.pool, _state.region_mask = _pool_address() if is_safe else 0, probe.mask if probe else 0
    thread_state = ctypes.cast(ctypes.pythonapi.PyGILState_GetThisThreadState, ctypes.c_void_p).value
    count = ctypes.cast(pool._get_num_threads, ctypes.c_void_p).value if is_safe else thread_state
    llvm.add_symbol(_POOL, ctypes.addressof(_state))
    llvm.add_symbol(_REGION_MASK, ctypes.addressof(_state) + _State.region_mask.offset)
    llvm.add_symbol(_REGION, probe.address if probe else thread_state)  # any address, where it is not called
    llvm.add_symbol(_NUM_THREADS, count)
    llvm.add_symbol(_THREAD_STATE, thread_state)


def _pool_address():
    return kernels.operations.pool.address()


def _in_child():
    _state.pool = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)

_POOL, _REGION_MASK = "fastsoftmax.pool", "fastsoftmax.region_mask"
_REGION, _NUM_THREADS, _THREAD_STATE = (
    "fastsoftmax.region",
    "fastsoftmax.num_threads",
    "fastsoftmax.thread_state",
)
_INT, _INT32 = ir.IntType(64), ir.IntType(32)


@intrinsic
def is_in_region(typingctx):
    """Whether this thread does a part of someone's parallel region, from which Numba loses exceptions."""
    return types.boolean(), lambda context, builder, *given: build_is_in_region(context, builder)


def build_is_in_region(context, builder):
    """Build it: a thread that Python does not know is someone's worker, and the pool knows of its own regions."""
    found = cgutils.alloca_once_value(builder, cgutils.true_bit)
    is_known = _is_set(builder, _call(_THREAD_STATE, _INT, context, builder))
    with cgutils.if_likely(builder, is_known):
        builder.store(cgutils.false_bit, found)
        mask = _load(_REGION_MASK, context, builder)
        with builder.if_then(_is_set(builder, mask)):
            region = builder.and_(_call(_REGION, _INT, context, builder), mask)
            builder.store(_is_set(builder, region), found)
    return builder.load(found)


def build_pool(context, builder, elements):
    """Build the pool for so much work: 0, this thread, for little, inside a parallel region, and where it is unsafe."""
    pool_for_work = cgutils.alloca_once_value(builder, _INT(0))
    with builder.if_then(builder.icmp_signed(">=", elements, _INT(threads.SERIAL_BELOW))):
        address = _load(_POOL, context, builder)
        with builder.if_then(_is_set(builder, address)):
            in_region = build_is_in_region(context, builder)
            builder.store(builder.select(in_region, _INT(0), address), pool_for_work)
    return builder.load(pool_for_work)


def build_num_threads(context, builder, pool_for_work):
    """Build how many threads Numba would share a loop out to: 1 without a pool."""
    count = cgutils.alloca_once_value(builder, _INT(1))
    with builder.if_then(_is_set(builder, pool_for_work)):
        builder.store(builder.sext(_call(_NUM_THREADS, _INT32, context, builder), _INT), count)
    return builder.load(count)


def _is_set(builder, value):
    return builder.icmp_signed("!=", value, value.type(0))


def _load(name, context, builder):
    need(context, Binding())
    module = builder.module
    place = module.globals.get(name) or cgutils.add_global_variable(module, _INT, name)
    place.linkage = "external"
    return builder.load(place)


def _call(name, result, context, builder):
    need(context, Binding())
    return builder.call(cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, []), name), [])
