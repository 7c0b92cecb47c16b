"""The inputs of each operation, and what they are called in a report."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# The arrays that an operation takes, in its order. Shapes are (rows, classes) or (rows, features, classes); where rows
# lie along several axes, the classes are on the second, as in PyTorch.
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
    dtype: str = "float32"

    def __str__(self):
        dtype = "" if self.dtype == "float32" else self.dtype
        parts = (self.suite, self.operation, dtype, "x".join(map(str, self.shape)), self.values, self.option)
        return " ".join(filter(None, parts)).replace(" ", "-")

    def small(self) -> "Case":
        """Give the case in a size that takes no time, and that no other case gets."""
        return self._replace(shape=tuple(math.isqrt(size) + 1 for size in self.shape))


def dtype_named(name: str) -> np.dtype:
    """Give a dtype by its name, which NumPy alone knows no bfloat16 by."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def has_features(operation: str) -> bool:
    """Whether an operation has the layer before the logits in it."""
    return not {"inputs", "weight"}.isdisjoint(INPUTS[operation])


def make(case: Case) -> list[np.ndarray]:
    """Make the arrays of a case: the same ones every time; those of a half type are rounded from float32."""
    rng, final = np.random.default_rng(0), dtype_named(case.dtype)
    dtype = np.float64 if final == np.float64 else np.float32
    features = case.shape[1] if has_features(case.operation) else None
    *outer, classes = case.shape[::2] if features else (case.shape[0], *case.shape[2:], case.shape[1])
    rows = math.prod(outer)

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
    arrays = [_along(outer, makers[name]()) for name in INPUTS[case.operation]]
    return [array if array.dtype.kind == "i" else array.astype(final, copy=False) for array in arrays]


def _along(outer: list[int], array: np.ndarray) -> np.ndarray:
    """Let rows, or their labels, lie along several axes, with the classes on the second."""
    if len(outer) == 1:
        return array
    array = array.reshape(*outer, *array.shape[1:])
    return np.ascontiguousarray(np.moveaxis(array, -1, 1)) if array.ndim > len(outer) else array


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
