"""The linear layer and the loss together."""

from typing import Any

import numpy.typing as npt

from fastsoftmax.reference.layer import linear, linear_backward
from fastsoftmax.reference.losses import cross_entropy, cross_entropy_with_grad
from fastsoftmax.reference.types import Array, Labels, Reduction


def linear_cross_entropy(
    inputs: Array,
    weight: Array,
    bias: Array | None,
    labels: Labels | Array,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
) -> Any:
    """Cross entropy of a linear layer, L(X·W + b, y); the options are those of `cross_entropy`.

    >>> import numpy as np
    >>> float(linear_cross_entropy(np.zeros((3, 2)), np.ones((2, 1)), None, np.zeros(3, int)))
    0.0
    """
    return cross_entropy(
        linear(inputs, weight, bias),
        labels,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        scale=scale,
        reduction=reduction,
        return_stats=return_stats,
    )


def linear_cross_entropy_with_grad(
    inputs: Array,
    weight: Array,
    bias: Array | None,
    labels: Labels | Array,
    *,
    class_weight: Array | None = None,
    sample_weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    return_stats: bool = False,
    dloss: npt.ArrayLike | None = None,
) -> Any:
    """Cross entropy of a linear layer and the gradients of X, W and b; `dloss` as in `cross_entropy_with_grad`.

    >>> import numpy as np
    >>> inputs, weight, labels = np.ones((1, 1)), np.log([[1.0, 3.0]]), np.array([0])
    >>> loss, grads = linear_cross_entropy_with_grad(inputs, weight, None, labels)
    >>> grads.dweight.round(6).tolist(), grads.dbias
    ([[-0.75, 0.75]], None)
    """
    z = linear(inputs, weight, bias)
    loss, dz, *stats = cross_entropy_with_grad(
        z,
        labels,
        class_weight=class_weight,
        sample_weight=sample_weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        scale=scale,
        reduction=reduction,
        return_stats=return_stats,
        dloss=dloss,
        out=z,
    )
    grads = linear_backward(inputs, weight, dz)
    return loss, grads if bias is not None else grads._replace(dbias=None), *stats
