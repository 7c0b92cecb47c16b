"""Losses of rows by formulas of JAX alone, as optax has them: for other devices, and for what no kernel does."""

import jax
import jax.numpy as jnp

from fastsoftmax.jax.axes import Axis
from fastsoftmax.jax.handlers.labels import IGNORED


def loss_of_labels(logits: jax.Array, labels: jax.Array, where: jax.Array | None = None) -> jax.Array:
    """Compute −log softmax at each row's label; 0 for rows of which `where` leaves nothing."""
    own = jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(logits, axis=-1, where=where) - own
    return losses if where is None else jnp.where(jnp.any(where, -1), losses, 0.0)


def loss_of_probs(logits: jax.Array, probs: jax.Array, axis: Axis = -1, where: jax.Array | None = None) -> jax.Array:
    """Compute −Σ p · log softmax along some axes."""
    return -(probs * jax.nn.log_softmax(logits, axis, where)).sum(axis, where=where)


# What handlers compute ------------------------------------------------------------------------------------------------


def cross_entropy(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Compute the losses of rows, by labels, of which some may be ignored, or class probabilities."""
    if not is_labels(targets):
        return loss_of_probs(logits, targets.astype(logits.dtype))
    counts = targets != IGNORED
    return jnp.where(counts, loss_of_labels(logits, jnp.where(counts, targets, 0)), 0)


def gradient(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """Compute the gradient of each by its logits, T · softmax − target."""
    n_classes, dtype = logits.shape[-1], logits.dtype
    own = jax.nn.one_hot(targets, n_classes, dtype=dtype) if is_labels(targets) else targets.astype(dtype)
    return total_target(targets).astype(dtype) * jax.nn.softmax(logits) - own


def total_target(targets: jax.Array) -> jax.Array:
    """Give T, the sum of a row's target; 0 for one that is ignored."""
    return (targets != IGNORED)[..., None] if is_labels(targets) else targets.sum(-1, keepdims=True)


def is_labels(targets: jax.Array) -> bool:
    """Whether targets are labels, and not class probabilities."""
    return bool(jnp.issubdtype(targets.dtype, jnp.integer))
