"""Softmax cross entropy and its gradients as fused CPU kernels."""

from fastsoftmax import njit  # noqa: F401, which registers what nopython code may call
from fastsoftmax._version import __version__
from fastsoftmax.activation_grads import log_softmax_backward, softmax_backward, softmax_jacobian
from fastsoftmax.activations import log_softmax, logsumexp, softmax
from fastsoftmax.curvature import cross_entropy_hvp
from fastsoftmax.head import linear_cross_entropy, linear_cross_entropy_with_grad
from fastsoftmax.layer import bias_grad, input_grad, linear, linear_backward, weight_grad
from fastsoftmax.losses import cross_entropy, cross_entropy_with_grad
from fastsoftmax.reference import LinearGrads, RowStats

__all__ = [
    "LinearGrads",
    "RowStats",
    "__version__",
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
