"""The inputs of each operation, and what they are called in a report."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# The arrays that an operation takes, in its order. Shapes are (rows, classes) or (rows, features, classes).
INPUTS = {
    "softmax": ("logits",),
    "log_softmax": ("logits",),
    "logsumexp": ("logits",),
    "softmax_backward": ("probs", "dprobs"),
    "log_softmax_backward": ("log_probs", "dlog_probs"),
    "cross_entropy_of_rows": ("logits", "labels"),
    "cross_entropy": ("logits", "labels"),
    "cross_entropy_with_grad": ("logits", "labels"),
    "weight_grad": ("inputs", "doutputs"),
    "bias_grad": ("doutputs",),
    "input_grad": ("doutputs", "weight"),
    "linear_cross_entropy": ("inputs", "weight", "bias", "labels"),
    "linear_cross_entropy_with_grad": ("inputs", "weight", "bias", "labels"),
}


class Case(NamedTuple):
    """One problem: all that its contenders have in common."""

    suite: str
    operation: str
    shape: tuple[int, ...]
    values: str = "spread 3"
    option: str = ""  # see `options`

    def __str__(self):
        shape = "x".join(map(str, self.shape))
        return f"{self.suite} {self.operation} {shape} {self.values} {self.option}".rstrip().replace(" ", "-")

    def small(self) -> "Case":
        """Give the case in a size that takes no time, and that no other case gets."""
        return self._replace(shape=tuple(math.isqrt(size) + 1 for size in self.shape))


def make(case: Case, dtype: type = np.float32) -> list[np.ndarray]:
    """Make the arrays of a case: the same ones every time."""
    rng = np.random.default_rng(0)
    rows, classes = case.shape[0], case.shape[-1]
    features = case.shape[1] if len(case.shape) == 3 else None

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=dtype)

    labels = rng.integers(classes, size=rows)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "labels": lambda: labels,
        "logits": lambda: VALUES[case.values](normal(rows, classes), labels),
        "probs": lambda: softmax(3 * normal(rows, classes)),
        "log_probs": lambda: np.log(softmax(3 * normal(rows, classes))),
        "dprobs": lambda: normal(rows, classes),
        "dlog_probs": lambda: normal(rows, classes),
        "inputs": lambda: normal(rows, features),
        "doutputs": lambda: normal(rows, classes),
        "weight": lambda: normal(features, classes) * dtype(3 / features**0.5),  # logits of spread 3
        "bias": lambda: normal(classes),
    }
    return [makers[name]() for name in INPUTS[case.operation]]


def softmax(z: np.ndarray) -> np.ndarray:
    """Give the probabilities of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _spread(width):
    return lambda z, labels: np.multiply(z, width, out=z)


def _ahead(lead):
    def put_ahead(z, labels):
        rows = np.arange(len(z))
        z[rows, labels] = 0
        z[rows, labels] = z.max(axis=1) + z.dtype.type(lead)
        return z

    return put_ahead


def _masked(z, labels):
    # Every other class is impossible, the label is not.
    z *= 3
    kept = z[np.arange(len(z)), labels].copy()
    z[:, ::2] = -np.inf
    z[np.arange(len(z)), labels] = kept
    return z


def _tied(z, labels):
    # A few distinct values: most rows have several maxima.
    return np.clip(np.rint(z), -1, 1, out=z)


def _constant(z, labels):
    z[:] = z[:, :1]
    return z


def _all_but_label(z, labels):
    kept = z[np.arange(len(z)), labels].copy()
    z[:] = -np.inf
    z[np.arange(len(z)), labels] = kept
    return z


# What logits look like: made from standard normal ones, which they may overwrite, and the labels.
VALUES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    **{f"spread {width:g}": _spread(width) for width in (0.1, 1, 3, 20, 30, 80)},
    **{f"label ahead by {lead}": _ahead(lead) for lead in (1, 20, 60)},
    "half -inf": _masked,
    "all -inf but the label": _all_but_label,
    "ties": _tied,
    "constant rows": _constant,
    "spread 1e30": _spread(1e30),
}
