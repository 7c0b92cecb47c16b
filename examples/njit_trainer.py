"""Train the two-layer network on handwritten digits, the whole loop in one compiled function.

    python examples/njit_trainer.py [--epochs N]

Every line of the step is one of the mathematics: z1 = X·W1 + b1, a1 = max(z1, 0), and the loss of z2 = a1·W2 + b2 with
every gradient behind it. The same step in NumPy, by `fastsoftmax.reference`, runs beside it, from the same weights and
in the same order of batches; it prints both losses and times.
"""

import argparse
import time
from importlib.resources import files

import numpy as np
from numba import njit

import fastsoftmax as fs

N_HIDDEN, N_CLASSES, BATCH, RATE = 128, 10, 32, 0.1


@njit
def train_compiled(X, y, W1, b1, W2, b2, order):
    """Train for one epoch, and give the mean loss."""
    total, n_batches = 0.0, len(order) // BATCH
    batch, labels = np.empty((BATCH, X.shape[1]), X.dtype), np.empty(BATCH, np.int64)
    for first in range(0, n_batches * BATCH, BATCH):
        for i in range(BATCH):
            batch[i], labels[i] = X[order[first + i]], y[order[first + i]]
        a1 = fs.linear(batch, W1, b1)
        for i in range(a1.size):
            a1.flat[i] = max(a1.flat[i], 0)
        loss, grads = fs.linear_cross_entropy_with_grad(a1, W2, b2, labels)
        dz1 = grads.dinputs
        for i in range(dz1.size):
            dz1.flat[i] *= a1.flat[i] > 0
        W1 -= np.float32(RATE) * fs.weight_grad(batch, dz1)
        b1 -= np.float32(RATE) * fs.bias_grad(dz1)
        W2 -= np.float32(RATE) * grads.dweight
        b2 -= np.float32(RATE) * grads.dbias
        total += loss
    return total / n_batches


def train_numpy(X, y, W1, b1, W2, b2, order):
    """Do the same with NumPy."""
    total, n_batches = 0.0, len(order) // BATCH
    for first in range(0, n_batches * BATCH, BATCH):
        chosen = order[first : first + BATCH]
        batch, labels = X[chosen], y[chosen]
        a1 = np.maximum(fs.reference.linear(batch, W1, b1), 0)
        loss, grads = fs.reference.linear_cross_entropy_with_grad(a1, W2, b2, labels)
        dz1 = grads.dinputs * (a1 > 0)
        W1 -= np.float32(RATE) * fs.reference.weight_grad(batch, dz1)
        b1 -= np.float32(RATE) * fs.reference.bias_grad(dz1)
        W2 -= np.float32(RATE) * grads.dweight
        b2 -= np.float32(RATE) * grads.dbias
        total += loss
    return total / n_batches


def digits():
    """Give 1,440 of the images that come with the library, and their digits."""
    with np.load(files("fastsoftmax.cli.datasets") / "digits.npz") as data:
        X, y = data["X"][:1440].astype(np.float32), data["y"][:1440].astype(np.int64)
    return X / X.max(), y


def weights(n_inputs, n_hidden, n_classes, rng):
    """Draw weights of the size that keeps that of the signal; biases are zero."""
    W1 = rng.normal(0, np.sqrt(2 / n_inputs), (n_inputs, n_hidden)).astype(np.float32)
    W2 = rng.normal(0, np.sqrt(1 / n_hidden), (n_hidden, n_classes)).astype(np.float32)
    return W1, np.zeros(n_hidden, np.float32), W2, np.zeros(n_classes, np.float32)


def main(arguments=None):
    """Train twice, an epoch of each in turn, and give the ratio of their times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=20)
    epochs = parser.parse_args(arguments).epochs
    X, y = digits()
    rng = np.random.default_rng(0)
    start = weights(X.shape[1], N_HIDDEN, N_CLASSES, rng)
    ours, theirs = ([array.copy() for array in start] for _ in range(2))
    begin = time.perf_counter()
    train_compiled(X, y, *(array.copy() for array in start), rng.permutation(len(X)))
    print(f"compiled, or read from the cache, in {time.perf_counter() - begin:.1f} s")
    times = []
    for epoch in range(1, epochs + 1):
        order, losses = rng.permutation(len(X)), []
        for train, parameters in ((train_compiled, ours), (train_numpy, theirs)):
            begin = time.perf_counter()
            losses.append(train(X, y, *parameters, order))
            times.append(time.perf_counter() - begin)
        print(f"epoch {epoch}: loss {losses[0]:.6f} compiled, {losses[1]:.6f} in NumPy")
    compiled, numpy = np.median(times[::2]), np.median(times[1::2])
    print(f"an epoch: {1e3 * compiled:.2f} ms compiled, {1e3 * numpy:.2f} ms in NumPy, 1 / {numpy / compiled:.1f}")
    return losses, numpy / compiled


if __name__ == "__main__":
    main()
