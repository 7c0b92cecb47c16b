"""What several devices share: rows of operands, under `jit`, and what varies from one to another, under `shard_map`."""

import string
from collections.abc import Sequence
from typing import Any

import jax
from jax.interpreters import mlir

_FACTORS = string.ascii_lowercase[8:]  # as Shardy names axes


def attributes(operands: Sequence[Any], results: Sequence[Any]) -> dict[str, Any]:
    """Tell XLA's partitioner, old or new, that devices can share the rows of a call; else all would get all of them."""
    n_axes = len(operands[0].shape) - 1
    told: dict[str, Any] = {
        "mhlo.frontend_attributes": mlir.ir.DictAttr.get({"num_batch_dims": mlir.ir.StringAttr.get(str(n_axes))})
    }
    sizes: dict[str, int] = dict(zip(_FACTORS, operands[0].shape[:-1], strict=False))
    rows = list(sizes)

    def named(array: Any) -> str:
        others = []
        for length in array.shape[n_axes:]:
            others.append(_FACTORS[len(sizes)])
            sizes[others[-1]] = length
        return f"[{', '.join([*rows, *others])}]"

    arrays = [", ".join(map(named, each)) for each in (operands, results)]
    lengths = ", ".join(f"{name}={length}" for name, length in sizes.items())
    if getattr(jax.config, "jax_use_shardy_partitioner", True):
        rule = f"#sdy.op_sharding_rule<({arrays[0]})->({arrays[1]}) {{{lengths}}}, custom>"
        told["sdy.sharding_rule"] = mlir.ir.Attribute.parse(rule)
    return told


def varying_alike(operands: Sequence[jax.Array]) -> list[jax.Array]:
    """Have operands vary over the same axes of a mesh inside of `shard_map`: a handler's results vary with any."""
    axes = [_varying_axes(operand) for operand in operands]
    everywhere = frozenset().union(*axes)
    return [
        operand if own == everywhere else _vary(operand, tuple(everywhere - own))
        for operand, own in zip(operands, axes, strict=True)
    ]


def _vary(array: jax.Array, axes: tuple[Any, ...]) -> jax.Array:
    lax: Any = jax.lax
    return lax.pcast(array, axes, to="varying") if hasattr(lax, "pcast") else lax.pvary(array, axes)  # before JAX 0.9


def _varying_axes(array: jax.Array) -> frozenset[Any]:
    kind = jax.typeof(array)
    return kind.manual_axis_type.varying if hasattr(kind, "manual_axis_type") else kind.vma
