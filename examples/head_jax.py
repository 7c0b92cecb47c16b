"""Train a small model of words in JAX, with optax's optimiser, and optax's loss or that of fastsoftmax in its place.

The text is Python's own help, which comes with it. A word is predicted from those before it: their embeddings, a hidden
layer, and a linear head whose classes are all words. With so many classes the loss is much of a step on the CPU.

    python examples/head_jax.py --loss optax
    python examples/head_jax.py --loss fastsoftmax
    python examples/head_jax.py --loss head        (the linear layer and the loss in one)
"""

import argparse
import collections
import functools
import re
import time
from pydoc_data.topics import topics

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fastsoftmax.jax

CONTEXT, EMBEDDING, HIDDEN = 3, 64, 256


def loss_of(kind, hidden, weight, bias, labels):
    """Compute the mean loss of hidden activations; the one line that differs."""
    if kind == "optax":
        return optax.softmax_cross_entropy_with_integer_labels(hidden @ weight + bias, labels).mean()
    if kind == "fastsoftmax":
        return fastsoftmax.jax.softmax_cross_entropy_with_integer_labels(hidden @ weight + bias, labels).mean()
    return fastsoftmax.jax.linear_cross_entropy(hidden, weight, bias, labels)


def read_words(most):
    """Give the text as numbers of words, and how many words there are: the most frequent ones, and one for others."""
    words = [word for name in sorted(topics) for word in re.findall(r"\w+|[^\w\s]", topics[name].lower())]
    frequent = [word for word, _ in collections.Counter(words).most_common(most - 1)]
    numbers = {word: i for i, word in enumerate(frequent)}
    return np.array([numbers.get(word, len(frequent)) for word in words], np.int32), len(frequent) + 1


def initial(key, n_words):
    """Give the parameters to begin with."""
    keys = jax.random.split(key, 3)

    def matrix(key, rows, columns):
        return jax.random.normal(key, (rows, columns)) / np.sqrt(rows)

    return {
        "embedding": 0.1 * jax.random.normal(keys[0], (n_words, EMBEDDING)),
        "hidden": matrix(keys[1], CONTEXT * EMBEDDING, HIDDEN),
        "weight": matrix(keys[2], HIDDEN, n_words),
        "bias": jnp.zeros(n_words),
    }


def train(kind, steps, batch, most_words, report=print):
    """Train for some steps, and give the losses."""
    words, n_words = read_words(most_words)
    windows = np.lib.stride_tricks.sliding_window_view(words, CONTEXT + 1)
    parameters = initial(jax.random.key(0), n_words)
    optimizer = optax.adam(1e-2)
    state = optimizer.init(parameters)

    def loss(parameters, window):
        context, following = window[:, :-1], window[:, -1]
        inputs = parameters["embedding"][context].reshape(len(window), -1)
        hidden = jnp.tanh(inputs @ parameters["hidden"])
        return loss_of(kind, hidden, parameters["weight"], parameters["bias"], following)

    # The step before's parameters are donated: the new ones take their place in memory.
    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(parameters, state, window):
        value, gradient = jax.value_and_grad(loss)(parameters, window)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(parameters, updates), state, value

    rng, losses, times = np.random.default_rng(0), [], []
    for i in range(steps):
        start = time.perf_counter()
        parameters, state, value = step(parameters, state, windows[rng.integers(len(windows), size=batch)])
        losses.append(float(value))
        times.append(time.perf_counter() - start)
        if i % 10 == 0 or i == steps - 1:
            report(f"step {i:4}  loss {losses[-1]:.4f}  {1e3 * np.median(times[1:] or times):.1f} ms")
    return losses


def main():
    """Train as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", choices=["optax", "fastsoftmax", "head"], default="fastsoftmax")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch", type=int, default=512, help="rows of a step")
    parser.add_argument("--words", type=int, default=8000, help="classes, at most")
    asked = parser.parse_args()
    train(asked.loss, asked.steps, asked.batch, asked.words)


if __name__ == "__main__":
    main()
