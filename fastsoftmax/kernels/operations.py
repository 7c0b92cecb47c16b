"""The registry: every operation with its kernels by regime.

The public functions run what stands here, `fastsoftmax warmup` compiles it, and the tests compare its routes.
"""

from collections.abc import Iterator
from typing import NamedTuple

from . import bias_grad, cross_entropy, labels, linear, linear_cross_entropy, pool, round_to_half, softmax, spatial
from . import softmax_backward as backward
from .compiling.jit import Kernel
from .regimes import ProductKernels, RowKernels

SOFTMAX = RowKernels(
    softmax.softmax_few,
    softmax.softmax,
    softmax.softmax_streamed,
    softmax.softmax_blocked,
    spatial.softmax_spatial,
    spatial.softmax_spatial_few,
)
LOG_SOFTMAX = RowKernels(
    softmax.log_softmax_few,
    softmax.log_softmax,
    softmax.log_softmax_streamed,
    softmax.log_softmax_blocked,
    spatial.log_softmax_spatial,
    spatial.log_softmax_spatial_few,
)
LOGSUMEXP = RowKernels(
    softmax.logsumexp_few,
    softmax.logsumexp,
    blocked=softmax.logsumexp_blocked,
    spatial=spatial.logsumexp_spatial,
    spatial_few=spatial.logsumexp_spatial_few,
)
SOFTMAX_BACKWARD = RowKernels(
    backward.softmax_backward,
    backward.softmax_backward,
    backward.softmax_backward_streamed,
    spatial=spatial.softmax_backward_spatial,
)
LOG_SOFTMAX_BACKWARD = RowKernels(
    backward.log_softmax_backward,
    backward.log_softmax_backward,
    backward.log_softmax_backward_streamed,
    spatial=spatial.log_softmax_backward_spatial,
)
CROSS_ENTROPY = RowKernels(
    cross_entropy.cross_entropy_few,
    cross_entropy.cross_entropy,
    blocked=cross_entropy.cross_entropy_blocked,
    spatial=spatial.cross_entropy_spatial,
    spatial_few=spatial.cross_entropy_spatial_few,
)
CROSS_ENTROPY_WITH_GRAD = RowKernels(
    cross_entropy.cross_entropy_with_grad_few,
    cross_entropy.cross_entropy_with_grad,
    cross_entropy.cross_entropy_with_grad_streamed,
    cross_entropy.cross_entropy_with_grad_blocked,
    spatial.cross_entropy_with_grad_spatial,
    spatial.cross_entropy_with_grad_spatial_few,
)
LINEAR = ProductKernels(linear.linear_few, linear.linear)
WEIGHT_GRAD = ProductKernels(linear.weight_grad_few, linear.weight_grad)
INPUT_GRAD = ProductKernels(linear.input_grad_few, linear.input_grad)


class _Head(NamedTuple):
    """The linear layer and its loss in one, for few classes; with more, its parts run on chunks of rows."""

    loss: Kernel
    with_grad: Kernel
    chunk_with_grad: Kernel


HEAD = _Head(
    linear_cross_entropy.linear_cross_entropy_few,
    linear_cross_entropy.linear_cross_entropy_with_grad_few,
    linear_cross_entropy.cross_entropy_with_grads,
)


class _Helpers(NamedTuple):
    """What several operations share: each has one kernel."""

    bias_grad: Kernel
    check_probs: Kernel
    count_labels: Kernel
    round_to_half: Kernel
    row_weights: Kernel
    total_class_weight: Kernel
    total_loss: Kernel
    thread_ids: Kernel


HELPERS = _Helpers(
    bias_grad.bias_grad,
    labels.check_probs,
    labels.count_labels,
    round_to_half.round_to_half,
    labels.row_weights,
    labels.total_class_weight,
    cross_entropy.total_loss,
    pool.thread_ids,
)

OPERATIONS = {
    "softmax": SOFTMAX,
    "log_softmax": LOG_SOFTMAX,
    "logsumexp": LOGSUMEXP,
    "softmax_backward": SOFTMAX_BACKWARD,
    "log_softmax_backward": LOG_SOFTMAX_BACKWARD,
    "cross_entropy": CROSS_ENTROPY,
    "cross_entropy_with_grad": CROSS_ENTROPY_WITH_GRAD,
    "linear": LINEAR,
    "weight_grad": WEIGHT_GRAD,
    "input_grad": INPUT_GRAD,
    "linear_cross_entropy": HEAD,
    "helpers": HELPERS,
}


def kernels() -> Iterator[Kernel]:
    """List every kernel of the registry, once."""
    yield from dict.fromkeys(kernel for routes in OPERATIONS.values() for kernel in routes if kernel is not None)
