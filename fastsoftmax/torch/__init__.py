"""Losses and softmaxes of this library for PyTorch's tensors on the CPU, with PyTorch's own signatures.

``from fastsoftmax.torch import cross_entropy`` in place of ``from torch.nn.functional import cross_entropy``; `patch`
does so for code that one cannot edit. Where PyTorch is faster or the only one that can (small logits, other devices),
its own function is called.
"""

try:
    import ml_dtypes  # noqa: F401  # which has the bfloat16 that NumPy takes
    import torch  # noqa: F401
except ImportError as error:
    problem = "fastsoftmax.torch: expected PyTorch and ml_dtypes to be installed: pip install fastsoftmax[torch]"
    raise ImportError(problem, name=error.name) from error

from fastsoftmax.torch.functional import cross_entropy, linear_cross_entropy, log_softmax, logsumexp, softmax
from fastsoftmax.torch.modules import CrossEntropyLoss, patch

__all__ = [
    "CrossEntropyLoss",
    "cross_entropy",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "patch",
    "softmax",
]
