"""What several devices share: rows of operands, under `jit`, and what varies from one to another, under `shard_map`."""

import string
from collections.abc import Sequence
from typing import Any

import jax
from jax.interpreters import mlir

_FACTORS = string.ascii_lowercase[8:]  # as Shardy names the axes of a rule


def attributes(operands: Sequence[Any], results: Sequence[Any]) -> dict[str, Any]:
    """Tell XLA's partitioner, old or new, that devices can share the rows of a call; else all would get all of them."""
    lengths = operands[0].shape[:-1]
    if not lengths or len(lengths) > len(_FACTORS) // 2 or not all(isinstance(length, int) for length in lengths):
        return {}
    n_rows_axes = mlir.ir.StringAttr.get(str(len(lengths)))
    told: dict[str, Any] = {"mhlo.frontend_attributes": mlir.ir.DictAttr.get({"num_batch_dims": n_rows_axes})}
    if getattr(jax.config, "jax_use_shardy_partitioner", True):
        told["sdy.sharding_rule"] = mlir.ir.Attribute.parse(_rule(lengths, operands, results))
    return told


def _rule(lengths: tuple[int, ...], operands: Sequence[Any], results: Sequence[Any]) -> str:
    """Write that the axes of rows are the same for all arrays, and each other axis is nobody else's."""
    factors = dict(zip(_FACTORS, lengths, strict=False))
    rows = list(factors)

    def axes(array: Any) -> str:
        others = []
        for length in array.shape[len(rows) :]:
            others.append(_FACTORS[len(factors)])
            factors[others[-1]] = length
        return f"[{', '.join([*rows, *others])}]"

    taken, given = (", ".join(axes(array) for array in arrays) for arrays in (operands, results))
    sizes = ", ".join(f"{name}={length}" for name, length in factors.items())
    return f"#sdy.op_sharding_rule<({taken})->({given}) {{{sizes}}}, custom>"


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
