"""Operations that a handler does where a computation runs on the CPU, and a formula of JAX's own elsewhere.

They are one primitive of JAX's with derivatives of its own. A `jax.custom_jvp` of a call would not do: JAX forgets the
rule of such a function inside a loop that it has differentiated once, and could not do so again.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from numba.core import config

from fastsoftmax.jax.operations import sharing

Arrays = Sequence[jax.Array]
Steps = Sequence[Any]  # arrays, and None for an operand that does not change

# Bytes from which on results are written over operands. So much memory comes from the system each time, which takes
# longer than to compute them; where less is needed it costs more that XLA copies operands which others need, too.
_LARGE = 2**25


class Operation:
    """An operation on arrays, which JAX can hash and compare with others."""

    # Whether all axes but the last of the first operand are rows, which devices can share, and others begin with them.
    is_by_rows = True

    @property
    def aliases(self) -> dict[int, int]:
        """Which operands results are written over where they are large, by their places.

        That costs nothing where nobody needs the operand any more, as when it was computed for this or donated; else
        XLA copies it first.
        """
        return {}

    @property
    def attributes(self) -> dict[str, Any]:
        """The numbers that the handler takes."""
        return {}

    def __call__(self, *operands: jax.Array) -> list[jax.Array]:
        """Give the results for operands."""
        return _primitive.bind(*sharing.varying_alike(operands), operation=self)

    def formula(self, operands: Arrays) -> Arrays:
        """Compute the results; this says their shapes and dtypes, too."""
        raise NotImplementedError

    def target(self, operands: Arrays) -> str | None:
        """Give the name of the handler for operands; None where the formula does it anywhere."""
        raise NotImplementedError

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Give the results, and what they change by to first order when operands do; None is one that does not."""
        raise NotImplementedError

    def transposed(self, gradient: jax.Array, operands: Arrays) -> jax.Array:
        """Give the gradient of the last operand, in which this is linear, from that of the result and the others."""
        raise NotImplementedError

    def batched(self, size: int, operands: Arrays, is_batched: Sequence[bool]) -> Arrays:
        """Give results for more rows at once: along the first axis of the operands that are batched, and of results."""
        every = zip(operands, is_batched, strict=True)
        return self(*(each if batched else jnp.broadcast_to(each, (size, *each.shape)) for each, batched in every))


def change_of(function: Callable[[Arrays], Arrays], operands: Arrays, steps: Steps) -> Arrays:
    """Give what the results of a function of JAX's operations change by when its operands do."""
    places = [i for i, step in enumerate(steps) if step is not None]

    def of_moved(*moved: jax.Array) -> Arrays:
        return function(_with(operands, places, moved))

    return jax.jvp(of_moved, [operands[i] for i in places], [steps[i] for i in places])[1]


def one_by_one(operation: Operation, operands: Arrays, is_batched: Sequence[bool]) -> Arrays:
    """Give results along the first axis of operands that are batched, each by itself."""
    places = [i for i, batched in enumerate(is_batched) if batched]
    batch = tuple(operands[i] for i in places)
    return jax.lax.map(lambda one: operation(*_with(operands, places, one)), batch)


def _with(operands: Arrays, places: Sequence[int], others: Arrays) -> Arrays:
    """Give operands, others in some places."""
    found = list(operands)
    for place, other in zip(places, others, strict=True):
        found[place] = other
    return found


# The primitive --------------------------------------------------------------------------------------------------------

_primitive = Primitive("fastsoftmax")
_primitive.multiple_results = True


@_primitive.def_impl
def _run(*operands: jax.Array, operation: Operation) -> Arrays:
    return _jitted(operation)(*operands)


@functools.cache
def _jitted(operation: Operation) -> Any:
    return jax.jit(lambda *operands: operation(*operands))


@_primitive.def_abstract_eval
def _describe(*kinds: Any, operation: Operation) -> Any:
    return jax.make_jaxpr(lambda *operands: operation.formula(operands))(*kinds).out_avals


def _differentiate(operands: Arrays, steps: Sequence[Any], *, operation: Operation) -> tuple[Arrays, Arrays]:
    return operation.derivative(operands, [None if isinstance(step, ad.Zero) else step for step in steps])


def _transpose(gradients: Sequence[Any], *operands: Any, operation: Operation) -> Sequence[jax.Array | None]:
    *others, _ = operands
    return [*(None for _ in others), operation.transposed(ad.instantiate_zeros(gradients[0]), others)]


def _batch(operands: Arrays, axes: Sequence[int | None], *, operation: Operation) -> tuple[Arrays, Sequence[int]]:
    size = next(operand.shape[axis] for operand, axis in zip(operands, axes, strict=True) if axis is not None)
    moved = [each if axis is None else jnp.moveaxis(each, axis, 0) for each, axis in zip(operands, axes, strict=True)]
    results = operation.batched(size, moved, [axis is not None for axis in axes])
    return results, [0] * len(results)


def _compute(*operands: jax.Array, operation: Operation) -> Arrays:
    return operation.formula(operands)


def _call_handler(context: Any, *operands: Any, operation: Operation) -> Any:
    kinds = context.avals_in
    target = None if config.DISABLE_JIT else operation.target(kinds)  # type: ignore[attr-defined]
    if target is None:
        return _lower_formula(context, *operands, operation=operation)
    aliases = {i: j for i, j in operation.aliases.items() if _is_large(kinds[i])}
    shared = sharing.attributes(kinds, context.avals_out) if operation.is_by_rows else {}
    call = jax.ffi.ffi_lowering(target, operand_output_aliases=aliases, extra_attributes=shared)
    return call(context, *operands, **operation.attributes)


def _is_large(array: jax.Array) -> bool:
    """Whether an array has many bytes, or may have: its shape need not be known when it is traced."""
    known = all(isinstance(length, int) for length in array.shape)
    return not known or array.size * array.dtype.itemsize >= _LARGE


ad.primitive_jvps[_primitive] = _differentiate
ad.primitive_transposes[_primitive] = _transpose
batching.primitive_batchers[_primitive] = _batch
_lower_formula = mlir.lower_fun(_compute, multiple_results=True)
mlir.register_lowering(_primitive, _lower_formula)
mlir.register_lowering(_primitive, _call_handler, platform="cpu")
