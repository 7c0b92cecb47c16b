"""Handlers by their names: compiled when a computation that calls them is first lowered, and registered with XLA.

A name says all that its handler depends on, for JAX keeps computations on disk: another process, which lowers such a
computation too before it looks there, has a handler of that name that does the same.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from numba.core.compiler_lock import global_compiler_lock

from fastsoftmax.jax.handlers.frames import compiled, write_handler
from fastsoftmax.jax.handlers.pool import leave

_ABI = 1  # of what handlers take: operands, results and attributes

_registered: set[str] = set()


def target(parts: Sequence[Any], body: Callable[..., Any]) -> str:
    """Give the name of a handler, of strings and dtypes, once it is registered; its body takes a frame."""
    name = ".".join(["fastsoftmax", str(_ABI), *(getattr(part, "name", part) for part in parts)])
    with global_compiler_lock:
        if name not in _registered:
            address = compiled(lambda module, name: write_handler(module, name, body, leave), name)
            jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(address), platform="cpu")
            jax.ffi.register_ffi_target_as_batch_partitionable(name)
            _registered.add(name)
    return name
