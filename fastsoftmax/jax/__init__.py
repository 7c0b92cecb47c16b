"""Losses and activations for JAX: the signatures of optax and `jax.nn`, computed by fastsoftmax's kernels on the CPU.

They work under `jit`, `grad`, `vmap`, `scan`, `checkpoint`, `shard_map`, `jvp`, and grad of grad. On other devices, and
for what no kernel does, the formulas of optax and JAX serve. See `docs/jax.md`.
"""

try:
    import jax as _jax  # noqa: F401
except ImportError as error:
    raise ImportError("fastsoftmax.jax needs JAX: pip install 'fastsoftmax[jax]'") from error

from fastsoftmax.jax.activations import log_softmax, logsumexp, softmax
from fastsoftmax.jax.head import linear_cross_entropy
from fastsoftmax.jax.losses import softmax_cross_entropy, softmax_cross_entropy_with_integer_labels

__all__ = [
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_with_integer_labels",
]
