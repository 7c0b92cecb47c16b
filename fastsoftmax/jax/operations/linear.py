"""Operations that are linear in their last operand: the derivatives of those on rows, forwards and backwards."""

import dataclasses

import jax
import jax.numpy as jnp

from fastsoftmax.conversions import compute_dtype
from fastsoftmax.jax.handlers import rows as handlers
from fastsoftmax.jax.operations.base import Arrays, Operation, Steps, change_of


class _Linear(Operation):
    """What they have in common."""

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Add up what a change of each operand makes: that of the last makes what it itself does."""
        first, _ = operands
        changes = [] if steps[1] is None else self(first, steps[1])
        if steps[0] is not None:
            changes = [*changes, *change_of(self.formula, operands, [steps[0], None])]
        return self(*operands), [sum(changes[1:], changes[0])]


@dataclasses.dataclass(frozen=True)
class RowDot(_Linear):
    """Σ_j g_j · step_j of each row, in the dtype that rows are computed in."""

    def formula(self, operands: Arrays) -> Arrays:
        """Compute it."""
        gradient, step = operands
        return [jnp.sum(gradient * step, -1, dtype=compute_dtype(gradient.dtype))]

    def target(self, operands: Arrays) -> None:
        """Give no handler: few differentiate forwards."""

    def transposed(self, gradient: jax.Array, operands: Arrays) -> jax.Array:
        """Give g times a factor for each row."""
        return RowScale()(operands[0], gradient)[0]


@dataclasses.dataclass(frozen=True)
class RowScale(_Linear):
    """Rows g times a factor for each, of the dtype that rows are computed in.

    XLA would share a multiplication out to its threads, which takes longer than to do it where rows are few.
    """

    @property
    def aliases(self) -> dict[int, int]:
        """They are written over the rows."""
        return {0: 0}

    def formula(self, operands: Arrays) -> Arrays:
        """Compute them."""
        rows, factors = operands
        return [(rows * factors[..., None]).astype(rows.dtype)]

    def target(self, operands: Arrays) -> str:
        """Give the handler."""
        return handlers.scale_rows(operands[0].dtype)

    def transposed(self, gradient: jax.Array, operands: Arrays) -> jax.Array:
        """Give a number for each row."""
        return RowDot()(operands[0], gradient)[0]


@dataclasses.dataclass(frozen=True)
class SoftmaxBackward(_Linear):
    """a_j (g_j − Σ_s a_s g_s) from probabilities a: forwards and backwards the same."""

    @property
    def aliases(self) -> dict[int, int]:
        """It is written over g."""
        return {1: 0}

    def formula(self, operands: Arrays) -> Arrays:
        """Compute it."""
        probs, gradient = operands
        return [probs * (gradient - jnp.sum(probs * gradient, -1, keepdims=True))]

    def target(self, operands: Arrays) -> str:
        """Give the handler."""
        return handlers.backward("softmax_backward", operands[0].dtype, operands[0].shape[-1])

    def transposed(self, gradient: jax.Array, operands: Arrays) -> jax.Array:
        """Give the same of a gradient."""
        return self(operands[0], gradient)[0]


@dataclasses.dataclass(frozen=True)
class LogSoftmaxForward(_Linear):
    """step_j − Σ_s a_s step_s from log-probabilities log a."""

    def formula(self, operands: Arrays) -> Arrays:
        """Compute it."""
        log_probs, step = operands
        return [step - jnp.sum(jnp.exp(log_probs) * step, -1, keepdims=True)]

    def target(self, operands: Arrays) -> None:
        """Give no handler: few differentiate forwards."""

    def transposed(self, gradient: jax.Array, operands: Arrays) -> jax.Array:
        """Give what follows."""
        return LogSoftmaxBackward()(operands[0], gradient)[0]


@dataclasses.dataclass(frozen=True)
class LogSoftmaxBackward(_Linear):
    """g_j − a_j Σ_s g_s from log-probabilities log a."""

    @property
    def aliases(self) -> dict[int, int]:
        """It is written over g."""
        return {1: 0}

    def formula(self, operands: Arrays) -> Arrays:
        """Compute it."""
        log_probs, gradient = operands
        return [gradient - jnp.exp(log_probs) * jnp.sum(gradient, -1, keepdims=True)]

    def target(self, operands: Arrays) -> str:
        """Give the handler."""
        return handlers.backward("log_softmax_backward", operands[0].dtype, operands[0].shape[-1])

    def transposed(self, gradient: jax.Array, operands: Arrays) -> jax.Array:
        """Give what goes before."""
        return LogSoftmaxForward()(operands[0], gradient)[0]
