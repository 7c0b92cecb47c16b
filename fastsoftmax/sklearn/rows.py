"""The rows that a classifier is fitted to: what a layer's parameters cost on them, and how that curves."""

from typing import Any, NamedTuple

import numpy as np

from fastsoftmax.activations import softmax
from fastsoftmax.conversions import Array
from fastsoftmax.head_rows import WORKSPACE, even_chunks
from fastsoftmax.layer import bias_grad, linear, weight_grad
from fastsoftmax.parts import LayerSums, Part, linear_cross_entropy_hvp_part, linear_cross_entropy_part, merge


class Layer(NamedTuple):
    """A linear layer's parameters in float64, or a direction among them."""

    weight: Array  # (D, C)
    bias: Array  # (C,)

    def astype(self, dtype: np.dtype[Any]) -> "Layer":
        """Round to a dtype."""
        return Layer(self.weight.astype(dtype, copy=False), self.bias.astype(dtype, copy=False))


class Rows(NamedTuple):
    """Rows in memory, C-contiguous, or a chunk of more than there is memory for."""

    inputs: Array  # (N, D)
    labels: Array  # (N,), class indices
    sample_weight: Array | None  # (N,)
    label_smoothing: float

    @property
    def total_weight(self) -> float:
        """What a mean over them divides by."""
        return float(len(self.labels) if self.sample_weight is None else self.sample_weight.sum())

    def loss_and_grad(self, layer: Layer) -> Part:
        """Sum up the rows' losses and gradients."""
        weight, bias = layer.astype(self.inputs.dtype)
        return linear_cross_entropy_part(self.inputs, weight, bias, self.labels, **self._options())

    def hvp(self, layer: Layer, vector: Layer) -> LayerSums:
        """Sum up the products of the rows' Hessians and a vector."""
        weight, bias = layer.astype(self.inputs.dtype)
        vector = vector.astype(self.inputs.dtype)
        return linear_cross_entropy_hvp_part(self.inputs, weight, bias, self.labels, vector, **self._options())

    def hessian_diagonal(self, layer: Layer) -> LayerSums:
        r"""Sum up the diagonals of the rows' Hessians, :math:`\Sigma_i s_i x_{id}^2 a_{ic} (1 - a_{ic})`."""
        weight, bias = layer.astype(self.inputs.dtype)
        sums = LayerSums(np.zeros(weight.shape), np.zeros(bias.shape))
        n_rows, row_bytes = len(self.inputs), sum(weight.shape) * weight.itemsize
        step = max(1, even_chunks(n_rows, row_bytes, WORKSPACE))
        for start in range(0, n_rows, step):
            x = self.inputs[start : start + step]
            a = softmax(linear(x, weight, bias))
            a *= 1 - a
            if self.sample_weight is not None:
                a *= self.sample_weight[start : start + step, None].astype(a.dtype)
            sums = merge(sums, LayerSums(weight_grad(x * x, a), bias_grad(a)))
        return sums

    def _options(self) -> dict[str, Any]:
        return {"sample_weight": self.sample_weight, "label_smoothing": self.label_smoothing}


def weights_of_rows(of_classes: Array, of_samples: Array | None) -> Array:
    """Weigh rows by their class and their sample; a class whose rows all weigh nothing has an infinite weight."""
    if of_samples is None:
        return of_classes
    return np.multiply(of_samples, of_classes, where=of_samples > 0, out=of_samples.copy())
