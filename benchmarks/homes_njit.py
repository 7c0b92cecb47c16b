"""An epoch of the two-layer network in one compiled function, and in NumPy."""

import numpy as np

from benchmarks.dialects import Call
from benchmarks.homes import HomeCase


def _epoch(shape: tuple[int, ...]) -> tuple[Call, Call]:
    from examples import njit_trainer

    n_rows, n_inputs, n_hidden, n_classes = shape
    rng = np.random.default_rng(0)
    X, y = rng.random((n_rows, n_inputs), np.float32), rng.integers(0, n_classes, n_rows)
    order = rng.permutation(n_rows)

    def call(train: object) -> Call:
        parameters = njit_trainer.weights(n_inputs, n_hidden, n_classes, np.random.default_rng(0))
        return Call(lambda: train(X, y, *parameters, order))

    return call(njit_trainer.train_compiled), call(njit_trainer.train_numpy)


CASES = [HomeCase("@njit", "epoch, batches of 32", (1_440, 64, 128, 10), (), "NumPy", _epoch, 5)]
