"""Operations of a linear layer with its loss, whose logits are computed some rows at a time.

Operands are X, W, b, labels, a factor for each row where an operation takes that, and a weight for each class or none.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fastsoftmax.conversions import compute_dtype
from fastsoftmax.jax.handlers import head as handlers
from fastsoftmax.jax.handlers.labels import IGNORED
from fastsoftmax.jax.operations.base import Arrays, Operation, Steps, change_of, one_by_one
from fastsoftmax.jax.operations.rows import Activation, losses_of


class Options(NamedTuple):
    """Options of a head that are known when it is traced."""

    label_smoothing: float
    z_loss: float
    softcap: float | None
    scale: float | None
    chunk: int  # rows whose logits are computed at a time

    @property
    def numbers(self) -> dict[str, Any]:
        """Those that are on and kernels take."""
        named = self._asdict() | {"chunk": None}
        return {name: np.float64(value) for name, value in named.items() if value}


@dataclasses.dataclass(frozen=True)
class _Head(Operation):
    """What operations of a head have in common."""

    options: Options
    is_by_rows = False

    @property
    def attributes(self) -> dict[str, Any]:
        """Give the options that are numbers."""
        return self.options.numbers

    def _handler(self, operands: Arrays, n_others: int) -> str | None:
        """Give the handler for a layer with its labels and some others; none for a layer that is empty."""
        inputs, weight, _, labels, *others = operands
        names = [*self.options.numbers, *(["class_weight"] if len(others) > n_others else [])]
        if not inputs.size:
            return None
        return handlers.linear_cross_entropy(
            inputs.dtype, weight.shape[1], labels.dtype, tuple(names), with_grad=n_others > 0
        )

    def _room(self, operands: Arrays) -> Arrays:
        """Give the room for logits that handlers of many classes ask for."""
        inputs, weight, *_ = operands
        if handlers.is_narrow(weight.shape[1]):
            return []
        return [jnp.zeros((self.options.chunk, weight.shape[1]), compute_dtype(inputs.dtype))]


@dataclasses.dataclass(frozen=True)
class HeadLosses(_Head):
    """The losses of rows."""

    def formula(self, operands: Arrays) -> Arrays:
        """Compute them a chunk at a time."""
        return [row_losses(self.options, operands), *self._room(operands)]

    def target(self, operands: Arrays) -> str | None:
        """Give the handler."""
        return self._handler(operands, 0)

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Give what they change by; backwards each chunk of logits is computed once more."""
        return self(*operands), change_of(self.formula, operands, steps)

    def batched(self, size: int, operands: Arrays, is_batched: Sequence[bool]) -> Arrays:
        """Take what is batched for more rows, if only rows are."""
        inputs, weight, bias, labels, *others = operands
        if any((*is_batched[1:3], *is_batched[4:])):
            return one_by_one(self, operands, is_batched)
        inputs, labels = (
            each if batched else jnp.broadcast_to(each, (size, *each.shape))
            for each, batched in ((inputs, is_batched[0]), (labels, is_batched[3]))
        )
        rows = inputs.reshape(-1, inputs.shape[-1]), weight, bias, labels.reshape(-1)
        losses, *room = self(*rows, *others)
        return [losses.reshape(labels.shape), *(jnp.broadcast_to(each, (size, *each.shape)) for each in room)]


@dataclasses.dataclass(frozen=True)
class HeadGrads(_Head):
    """The losses of rows, and gradients of X, W and b that are theirs times a factor for each."""

    with_inputs: bool

    def formula(self, operands: Arrays) -> Arrays:
        """Compute them by those of `row_losses`."""
        *layer, labels, factors = operands[:5]
        others = operands[5:]
        losses, pull = jax.vjp(lambda *layer: row_losses(self.options, [*layer, labels, *others]), *layer)
        dinputs, *grads = pull(factors)
        found = [dinputs if self.with_inputs else dinputs[:0], *grads]
        inputs, weight = layer[:2]
        dtype = inputs.dtype if handlers.is_narrow(weight.shape[1]) else compute_dtype(inputs.dtype)
        return [losses, *(each.astype(dtype) for each in found), *self._room(operands)]

    def target(self, operands: Arrays) -> str | None:
        """Give the handler."""
        return self._handler(operands, 1)

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Give what they change by."""
        return self(*operands), change_of(self.formula, operands, steps)

    def batched(self, size: int, operands: Arrays, is_batched: Sequence[bool]) -> Arrays:
        """Give each its own gradients."""
        return one_by_one(self, operands, is_batched)


@dataclasses.dataclass(frozen=True)
class HeadTotal(_Head):
    """The sum of the losses of rows times a factor for each."""

    def formula(self, operands: Arrays) -> Arrays:
        """Add them up."""
        *layer, factors = operands[:5]
        return [jnp.sum(factors * HeadLosses(self.options)(*layer, *operands[5:])[0])]

    def target(self, operands: Arrays) -> None:
        """Give no handler: there is one of the losses."""

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Give what it changes by, with the gradients that the same visit of the logits gives."""
        factors, factor_step = operands[4], steps[4]
        losses, *grads = HeadGrads(self.options, with_inputs=steps[0] is not None)(*operands)
        change = jnp.zeros((), factors.dtype)
        for grad, step in zip(grads[:3], steps[:3], strict=True):
            if step is not None:
                change += jnp.sum(grad * step, dtype=change.dtype)
        if factor_step is not None:
            change += jnp.sum(losses * factor_step)
        if steps[5:] not in ([], [None]):
            change += change_of(self.formula, operands, [*[None] * 5, *steps[5:]])[0]
        return [jnp.sum(factors * losses)], [change]

    def batched(self, size: int, operands: Arrays, is_batched: Sequence[bool]) -> Arrays:
        """Give each its own sum."""
        axes = [0 if batched else None for batched in is_batched]
        return jax.vmap(lambda *one: self.formula(one), in_axes=axes)(*operands)


def row_losses(options: Options, operands: Arrays) -> jax.Array:
    """Compute the losses of rows by operations of JAX's, a chunk at a time, and once more for their gradients."""
    inputs, weight, bias, labels, *others = operands
    dtype = compute_dtype(inputs.dtype)

    def loss(row: tuple[jax.Array, jax.Array]) -> jax.Array:
        logits = jnp.matmul(row[0], weight, preferred_element_type=dtype) + bias.astype(dtype)
        return _loss_of_logits(options, logits, row[1], *others)

    return jax.lax.map(jax.checkpoint(loss), (inputs, labels), batch_size=options.chunk)


def _loss_of_logits(options: Options, logits: jax.Array, y: jax.Array, class_weight: Any = None) -> jax.Array:
    """Compute the loss of a row as `fastsoftmax.cross_entropy` has it."""
    q = logits if options.scale is None else options.scale * logits
    q = q if options.softcap is None else options.softcap * jnp.tanh(q / options.softcap)
    counts = y != IGNORED
    weights = jnp.ones(q.shape[-1:], q.dtype) if class_weight is None else class_weight
    loss = (1 - options.label_smoothing) * weights[jnp.where(counts, y, 0)] * losses_of(q, y)
    if options.label_smoothing or options.z_loss:
        (lse,) = Activation("logsumexp")(q)
        loss += options.label_smoothing * jnp.mean(weights * (lse - q)) + options.z_loss * lse**2
    return jnp.where(counts, loss, 0)
