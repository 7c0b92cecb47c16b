"""Operations on rows of logits z, and their derivatives, which are made of such operations again."""

import dataclasses

import jax
import jax.numpy as jnp

from fastsoftmax.conversions import compute_dtype
from fastsoftmax.jax import formulas
from fastsoftmax.jax.handlers import rows as handlers
from fastsoftmax.jax.operations.base import Arrays, Operation, Steps
from fastsoftmax.jax.operations.linear import LogSoftmaxForward, RowDot, SoftmaxBackward

DTYPES = ("float32", "float64", "float16", "bfloat16")


def takes(logits: jax.Array) -> bool:
    """Whether there are kernels for rows of logits, by their dtype and their classes."""
    n_classes = logits.shape[-1] if logits.ndim else 0
    return logits.dtype.name in DTYPES and isinstance(n_classes, int) and n_classes > 0


@dataclasses.dataclass(frozen=True)
class Activation(Operation):
    """Softmax, log_softmax or logsumexp, by its name in `jax.nn`."""

    name: str

    @property
    def aliases(self) -> dict[int, int]:
        """Probabilities are written over logits."""
        return {} if self.name == "logsumexp" else {0: 0}

    def formula(self, operands: Arrays) -> Arrays:
        """Compute it by JAX's own."""
        return [getattr(jax.nn, self.name)(operands[0], axis=-1)]

    def target(self, operands: Arrays) -> str:
        """Give its handler."""
        return handlers.activation(self.name, operands[0].dtype, operands[0].shape[-1])

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Give what it changes by."""
        (logits,), (step,) = operands, steps
        (result,) = self(logits)
        if self.name == "logsumexp":
            return [result], [jnp.sum(jnp.exp(logits - result[..., None]) * step, -1)]
        change = SoftmaxBackward() if self.name == "softmax" else LogSoftmaxForward()
        return [result], change(result, step)


@dataclasses.dataclass(frozen=True)
class CrossEntropy(Operation):
    """Losses of rows, and with their gradients by logits, ∂L/∂z = T·a − target.

    Targets are labels, or class probabilities in the dtype that logits are computed in, which is that of losses too.
    """

    with_grad: bool = False

    @property
    def aliases(self) -> dict[int, int]:
        """The gradient is written over the logits."""
        return {0: 1} if self.with_grad else {}

    def formula(self, operands: Arrays) -> Arrays:
        """Compute them as optax does."""
        logits, targets = operands
        losses = formulas.cross_entropy(logits, targets).astype(compute_dtype(logits.dtype))
        return [losses, formulas.gradient(logits, targets)] if self.with_grad else [losses]

    def target(self, operands: Arrays) -> str:
        """Give the handler."""
        logits, targets = operands
        return handlers.cross_entropy(logits.dtype, logits.shape[-1], targets.dtype, self.with_grad)

    def derivative(self, operands: Arrays, steps: Steps) -> tuple[Arrays, Arrays]:
        """Give what losses change by, Σ ∂L/∂z · step, and the gradient."""
        (logits, targets), (step, target_step) = operands, steps
        if not self.with_grad:
            losses, *grad = _LOSSES(logits, targets) if step is None else _LOSSES_WITH_GRAD(logits, targets)
            return [losses], [_change_of_losses(logits, losses, grad, steps)]
        losses, dlogits = self(logits, targets)
        (probs,), change = Activation("softmax")(logits), jnp.zeros_like(dlogits)
        if step is not None:
            change += formulas.total_target(targets).astype(logits.dtype) * SoftmaxBackward()(probs, step)[0]
        if target_step is not None:
            change += (target_step.sum(-1, keepdims=True) * probs - target_step).astype(logits.dtype)
        return [losses, dlogits], [_change_of_losses(logits, losses, [dlogits], steps), change]


def _change_of_losses(logits: jax.Array, losses: jax.Array, grad: Arrays, steps: Steps) -> jax.Array:
    step, target_step = steps
    change = jnp.zeros_like(losses)
    if step is not None:
        change += RowDot()(grad[0], step)[0]
    if target_step is not None:
        change -= jnp.sum(target_step * Activation("log_softmax")(logits)[0], -1)
    return change


_LOSSES, _LOSSES_WITH_GRAD = CrossEntropy(), CrossEntropy(with_grad=True)


def losses_of(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Compute losses of rows in the dtype of logits."""
    return _LOSSES(logits, targets)[0].astype(logits.dtype)
