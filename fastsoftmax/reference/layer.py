"""The linear layer and its gradients."""

import numpy as np

from fastsoftmax.reference.types import Array, LinearGrads, quiet


def linear(inputs: Array, weight: Array, bias: Array | None = None, *, out: Array | None = None) -> Array:
    """Linear layer, z = X·W + b: (N, C) = (N, D)·(D, C) + (C,).

    >>> linear(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]]), np.array([0.5, 0.0])).tolist()
    [[1.5, 6.0]]
    """
    with quiet():
        outputs: Array = np.matmul(inputs, weight, out=out)
        if bias is not None:
            outputs += bias
    return outputs


def weight_grad(inputs: Array, doutputs: Array, *, out: Array | None = None) -> Array:
    """Gradient of the weight, ∂L/∂W = Xᵀ·∂L/∂z: (D, C) = (D, N)·(N, C).

    >>> weight_grad(np.array([[1.0, 2.0]]), np.array([[3.0, 0.0]])).tolist()
    [[3.0, 0.0], [6.0, 0.0]]
    """
    with quiet():
        return np.matmul(inputs.T, doutputs, out=out)


def bias_grad(doutputs: Array, *, out: Array | None = None) -> Array:
    """Gradient of the bias, ∂L/∂b = Σ_i ∂L/∂z_i: (C,) from (N, C).

    >>> bias_grad(np.array([[3.0, 0.0], [1.0, 2.0]])).tolist()
    [4.0, 2.0]
    """
    with quiet():
        return np.sum(doutputs, axis=0, out=out)


def input_grad(doutputs: Array, weight: Array, *, out: Array | None = None) -> Array:
    """Gradient of the inputs, ∂L/∂X = ∂L/∂z·Wᵀ: (N, D) = (N, C)·(C, D).

    >>> input_grad(np.array([[1.0, 2.0]]), np.array([[1.0, 0.0], [0.0, 3.0]])).tolist()
    [[1.0, 6.0]]
    """
    with quiet():
        return np.matmul(doutputs, weight.T, out=out)


def linear_backward(inputs: Array, weight: Array, doutputs: Array) -> LinearGrads:
    """All three gradients of `linear`, from ∂L/∂z (N, C).

    >>> grads = linear_backward(np.array([[1.0, 2.0]]), np.array([[1.0], [3.0]]), np.array([[2.0]]))
    >>> [grad.tolist() for grad in grads]
    [[[2.0, 6.0]], [[2.0], [4.0]], [2.0]]
    """
    return LinearGrads(input_grad(doutputs, weight), weight_grad(inputs, doutputs), bias_grad(doutputs))
