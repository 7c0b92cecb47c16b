"""Losses in JAX: optax's, and fastsoftmax's in their place. `python -m benchmarks.homes_jax` prints a table.

Each case is a step of each kind, of the same arrays, timed in turns: medians of rounds, and how many times faster.
"""

import argparse
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fastsoftmax.jax as fj


class Case(NamedTuple):
    """A step that is compiled once: what it is, ours and the peer's, and how many times faster ours is to be."""

    name: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    bar: float | None = None
    rounds: int = 15
    memory: tuple[int, int] | None = None  # bytes beside arguments and results, ours and the peer's


def logits_and_labels(rows: int, classes: int, dtype: str = "float32") -> tuple[jax.Array, jax.Array]:
    """Give standard normal logits, and labels."""
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.standard_normal((rows, classes), np.float32), dtype)
    return z, jnp.asarray(rng.integers(classes, size=rows), jnp.int32)


def mean_loss(library: Any, z: jax.Array, y: jax.Array) -> jax.Array:
    """Compute the mean loss of rows."""
    return library.softmax_cross_entropy_with_integer_labels(z, y).mean()


def value_and_grad(rows: int, classes: int, *, donated: bool = False, bar: float | None = None, **about: Any) -> Case:
    """Give the loss and its gradient by logits that are an argument; donated ones become the gradient."""
    z, y = logits_and_labels(rows, classes, about.pop("dtype", "float32"))

    def runner(library: Any) -> Callable[[], Any]:
        step = jax.jit(jax.value_and_grad(functools.partial(mean_loss, library)), donate_argnums=0 if donated else ())
        logits = [z + 0]

        def run() -> Any:
            value, gradient = jax.block_until_ready(step(logits[0], y))
            if donated:
                logits[0] = gradient  # which are logits as good as any
            return value

        return run

    name = f"value_and_grad {rows:,} × {classes:,} {z.dtype}{', donated' if donated else ''}"
    return Case(name, runner(fj), runner(optax), bar, **about)


def behind_a_layer(rows: int, features: int, classes: int, bar: float | None = None, rounds: int = 5) -> list[Case]:
    """Give the loss and the gradients of a linear layer before it: with the loss swapped, and with the head."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((rows, features), np.float32))
    w = jnp.asarray(rng.standard_normal((features, classes), np.float32) / np.sqrt(features).astype(np.float32))
    b, y = jnp.zeros(classes, jnp.float32), jnp.asarray(rng.integers(classes, size=rows), jnp.int32)

    def compiled(loss: Callable[..., jax.Array]) -> Any:
        return jax.jit(jax.value_and_grad(loss, (0, 1, 2))).lower(x, w, b).compile()

    peer = compiled(lambda x, w, b: mean_loss(optax, x @ w + b, y))
    swapped = compiled(lambda x, w, b: mean_loss(fj, x @ w + b, y))
    head = compiled(lambda x, w, b: fj.linear_cross_entropy(x, w, b, y))

    def case(name: str, ours: Any, bar: float | None) -> Case:
        sizes = [each.memory_analysis().temp_size_in_bytes for each in (ours, peer)]
        runs = [lambda step=step: jax.block_until_ready(step(x, w, b)) for step in (ours, peer)]
        return Case(f"{name} {rows:,} × {features:,} × {classes:,}", *runs, bar, rounds, (sizes[0], sizes[1]))

    return [case("layer, loss swapped", swapped, None), case("layer and loss in one", head, bar)]


CASES: list[Callable[[], Case | list[Case]]] = [
    lambda: value_and_grad(32, 10, bar=2.5, rounds=2000),
    lambda: value_and_grad(256, 100, rounds=500),
    lambda: value_and_grad(1024, 1000, rounds=50),
    lambda: value_and_grad(1024, 32_000),
    lambda: value_and_grad(1024, 32_000, donated=True, bar=4.0),
    lambda: value_and_grad(1024, 32_000, donated=True, dtype="bfloat16"),
    lambda: behind_a_layer(2048, 768, 32_000, bar=1.3),
]


def medians(case: Case) -> tuple[float, float]:
    """Time both in turns, and give the median of each in seconds."""
    times: list[list[float]] = [[], []]
    for i in range(case.rounds + 2):
        for run, taken in zip((case.ours, case.peer), times, strict=True):
            start = time.perf_counter()
            run()
            if i >= 2:
                taken.append(time.perf_counter() - start)
    return float(np.median(times[0])), float(np.median(times[1]))


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", default="", help="cases whose names have this")
    wanted = parser.parse_args().k
    print(f"JAX {jax.__version__}, {jax.device_count()} device, on the CPU; medians, optax's and ours in turns")
    for make in CASES:
        made = make()
        for case in made if isinstance(made, list) else [made]:
            if wanted not in case.name:
                continue
            ours, peer = medians(case)
            line = f"{case.name:48} {1e3 * peer:10.3f} ms {1e3 * ours:10.3f} ms {peer / ours:6.2f} ×"
            line += "" if case.bar is None else f"  (bar {case.bar} ×)"
            if case.memory:
                line += "  memory {:.0f} of {:.0f} MiB".format(*(size / 2**20 for size in case.memory))
            print(line, flush=True)


if __name__ == "__main__":
    main()
