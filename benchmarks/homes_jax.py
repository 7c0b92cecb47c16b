"""Losses in JAX: optax's, and those of `fastsoftmax.jax` in their place; each a step that is compiled once."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.dialects import Call
from benchmarks.homes import HomeCase
from benchmarks.problems import Case, make

_LOSS = "softmax_cross_entropy_with_integer_labels"


def _modules() -> tuple[Any, Any, Any]:
    """Import JAX, optax, and our losses."""
    import jax
    import optax

    import fastsoftmax.jax as ours

    return jax, optax, ours


def _mean_loss(library: Any, z: Any, y: Any) -> Any:
    return getattr(library, _LOSS)(z, y).mean()


def _value_and_grad(shape: tuple[int, ...], *, donated: bool = False) -> tuple[Call, Call]:
    """Compare the loss and its gradient by logits that are an argument; donated ones become the gradient."""
    jax, optax, ours = _modules()
    z, y = make(Case("homes", "cross_entropy_with_grad", shape))
    z, y = jax.numpy.asarray(z), jax.numpy.asarray(y, np.int32)

    def call(library: Any) -> Call:
        loss = functools.partial(_mean_loss, library)
        step = jax.jit(jax.value_and_grad(loss), donate_argnums=0 if donated else ())
        logits = [z + 0]

        def run() -> Any:
            value, gradient = jax.block_until_ready(step(logits[0], y))
            if donated:
                logits[0] = gradient  # which are logits as good as any
            return value

        return Call(run)

    return call(ours), call(optax)


def _head(shape: tuple[int, ...]) -> tuple[Call, Call]:
    """Compare the loss and the gradients of a linear layer before it."""
    jax, optax, ours = _modules()
    x, w, b, y = map(jax.numpy.asarray, make(Case("homes", "linear_cross_entropy_with_grad", shape)))

    def call(loss: Callable[..., Any]) -> Call:
        step = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
        return Call(lambda: jax.block_until_ready(step(x, w, b)))

    return (
        call(lambda x, w, b: ours.linear_cross_entropy(x, w, b, y)),
        call(lambda x, w, b: _mean_loss(optax, x @ w + b, y)),
    )


def _case(name: str, shape: tuple[int, ...], setup: Callable[..., Any], *bars: float) -> HomeCase:
    return HomeCase("JAX", name, shape, ("jax", "optax"), f"optax.{_LOSS}", setup, *bars)


CASES = [
    _case("loss", (32, 10), _value_and_grad, 2.5),
    _case("loss", (1_024, 32_000), _value_and_grad),
    _case("loss, donated", (1_024, 32_000), functools.partial(_value_and_grad, donated=True), 4),
    _case("head", (2_048, 768, 32_000), _head, 1.3, 1 / 4),
]
