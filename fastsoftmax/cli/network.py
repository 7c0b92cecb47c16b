"""The two-layer network of the derivation and its training step, an equation a line.

X (N, D) inputs; y (N,) labels; z1, a1 (N, H) hidden layer; z2 (N, C) logits; dx stands for ∂L/∂x.

`ops` is the namespace that computes: `fastsoftmax` or `fastsoftmax.reference`. Everything else is shared, so two runs
that differ in `ops` alone differ in their rounding alone.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class Activation(NamedTuple):
    """An activation and its backward pass, both in place."""

    forward: Callable[[Array], Array]  # z1 becomes a1
    backward: Callable[[Array, Array], Array]  # (a1, da1): da1 becomes dz1
    gain: float  # initial weights of variance gain² / fan-in keep the size of the signal


def _relu(z: Array) -> Array:
    """Rectify, a = max(z, 0)."""
    return np.maximum(z, 0, out=z)


def _relu_backward(a: Array, da: Array) -> Array:
    """Pass the gradient where a > 0."""
    da *= a > 0
    return da


def _tanh(z: Array) -> Array:
    """Squash to (−1, 1), a = tanh z."""
    return np.tanh(z, out=z)


def _tanh_backward(a: Array, da: Array) -> Array:
    """Scale the gradient by 1 − a²."""
    slope = a * a
    np.subtract(1, slope, out=slope)
    da *= slope
    return da


def _sigmoid(z: Array) -> Array:
    """Squash to (0, 1), a = 1 / (1 + exp −z) = (1 + tanh(z / 2)) / 2: the second form cannot overflow."""
    z *= 0.5
    np.tanh(z, out=z)
    z += 1
    z *= 0.5
    return z


def _sigmoid_backward(a: Array, da: Array) -> Array:
    """Scale the gradient by a (1 − a)."""
    slope = np.subtract(1, a)
    slope *= a
    da *= slope
    return da


ACTIVATIONS = {
    "relu": Activation(_relu, _relu_backward, math.sqrt(2)),
    "tanh": Activation(_tanh, _tanh_backward, 1.0),
    "sigmoid": Activation(_sigmoid, _sigmoid_backward, 1.0),
}


class Parameters:
    """W1 (D, H), b1 (H,), W2 (H, C) and b2 (C,), or their gradients.

    They are views of one vector, `flat`, so that an update is a few operations on all of them at once.
    """

    def __init__(self, n_inputs: int, n_hidden: int, n_classes: int, dtype: npt.DTypeLike = np.float32) -> None:
        self.sizes = (n_inputs, n_hidden, n_classes)
        shapes = [(n_inputs, n_hidden), (n_hidden,), (n_hidden, n_classes), (n_classes,)]
        lengths = [math.prod(shape) for shape in shapes]
        self.flat: Array = np.zeros(sum(lengths), dtype)
        parts = np.split(self.flat, np.cumsum(lengths)[:-1])
        self.W1, self.b1, self.W2, self.b2 = (part.reshape(s) for part, s in zip(parts, shapes, strict=True))

    def copy(self, dtype: npt.DTypeLike | None = None) -> "Parameters":
        """Copy all of them, to another dtype if one is given."""
        copy = Parameters(*self.sizes, self.flat.dtype if dtype is None else dtype)
        copy.flat[...] = self.flat
        return copy


def initialise(parameters: Parameters, activation: Activation, rng: np.random.Generator) -> None:
    """Draw the weights, normal and scaled to their fan-in; the biases stay zero."""
    for weight, gain in ((parameters.W1, activation.gain), (parameters.W2, 1.0)):
        weight[...] = rng.normal(0, gain / math.sqrt(len(weight)), weight.shape)


def forward(ops: ModuleType, activation: Activation, p: Parameters, X: Array) -> tuple[Array, Array]:
    """Compute a1 and z2."""
    z1 = ops.linear(X, p.W1, p.b1)
    a1 = activation.forward(z1)
    z2 = ops.linear(a1, p.W2, p.b2)
    return a1, z2


def loss_and_grads(
    ops: ModuleType, activation: Activation, p: Parameters, X: Array, y: Array, grads: Parameters
) -> np.floating[Any]:
    """Compute the mean cross entropy of a batch, and write its gradients to `grads`."""
    a1 = activation.forward(ops.linear(X, p.W1, p.b1))
    loss: np.floating[Any]
    loss, (da1, dW2, db2) = ops.linear_cross_entropy_with_grad(a1, p.W2, p.b2, y)
    grads.W2[...], grads.b2[...] = dW2, db2
    dz1 = activation.backward(a1, da1)
    ops.weight_grad(X, dz1, out=grads.W1)
    ops.bias_grad(dz1, out=grads.b1)
    return loss


def sgd_step(p: Parameters, grads: Parameters, velocity: Array, lr: float, momentum: float) -> None:
    """Step by gradient descent with momentum, v ← μ·v + g, p ← p − η·v; `grads` is used up."""
    velocity *= momentum
    velocity += grads.flat
    np.multiply(velocity, lr, out=grads.flat)
    p.flat -= grads.flat
