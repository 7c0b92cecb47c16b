"""The mathematics of the softmax classifier head in plain NumPy, an equation per function.

X (N, D) inputs; W (D, C) weight; b (C,) bias; z (N, C) logits; a (N, C) probs; y (N,) labels.

Arrays are float32 or float64, and every function computes and returns in the dtype it is given. Unless a
function says otherwise its result has the shape of its first argument. ``axis`` is the class axis, in the
softmax family also a tuple of axes whose classes are one list, or None for all of them. ``out`` receives
the result and is returned; it may be an input of that shape (in place), and nothing else is written to.
Input is taken as valid: nothing is checked.
"""

from fastsoftmax.reference.activations import (
    log_softmax,
    log_softmax_backward,
    logsumexp,
    softmax,
    softmax_backward,
    softmax_jacobian,
)
from fastsoftmax.reference.head import linear_cross_entropy, linear_cross_entropy_with_grad
from fastsoftmax.reference.layer import bias_grad, input_grad, linear, linear_backward, weight_grad
from fastsoftmax.reference.losses import cross_entropy, cross_entropy_hvp, cross_entropy_with_grad
from fastsoftmax.reference.types import LinearGrads, RowStats

__all__ = [
    "LinearGrads",
    "RowStats",
    "bias_grad",
    "cross_entropy",
    "cross_entropy_hvp",
    "cross_entropy_with_grad",
    "input_grad",
    "linear",
    "linear_backward",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
    "log_softmax",
    "log_softmax_backward",
    "logsumexp",
    "softmax",
    "softmax_backward",
    "softmax_jacobian",
    "weight_grad",
]
