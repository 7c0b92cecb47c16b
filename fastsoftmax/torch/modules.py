"""The module that stands in for `torch.nn.CrossEntropyLoss`, and the swap in code that one cannot edit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from fastsoftmax.torch.functional import cross_entropy


class CrossEntropyLoss(torch.nn.CrossEntropyLoss):
    """The cross entropy as a module, `torch.nn.CrossEntropyLoss` by `cross_entropy` of this package.

    Parameters
    ----------
    weight, size_average, ignore_index, reduce, reduction, label_smoothing, inplace_backward
        As in `cross_entropy`.

    Examples
    --------
    >>> loss = CrossEntropyLoss(reduction="none")
    >>> loss(torch.tensor([[1.0, 3.0], [4.0, 1.0]]).log(), torch.tensor([1, 0])).neg().exp()
    tensor([0.7500, 0.8000])
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        size_average: bool | None = None,
        ignore_index: int = -100,
        reduce: bool | None = None,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
        *,
        inplace_backward: bool = False,
    ) -> None:
        super().__init__(weight, size_average, ignore_index, reduce, reduction, label_smoothing)
        self.inplace_backward = inplace_backward

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss."""
        return cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
            inplace_backward=self.inplace_backward,
        )


@contextmanager
def patch() -> Iterator[None]:
    """Put `cross_entropy` in the place of `torch.nn.functional.cross_entropy`, for code that one cannot edit.

    That is what `torch.nn.CrossEntropyLoss` calls, and everyone who looks the name up in its module; a function that
    was imported by its name before stays what it was. It holds in all threads, until the context ends.

    Examples
    --------
    >>> with patch():
    ...     torch.nn.functional.cross_entropy is cross_entropy
    True
    """
    replaced = functional.cross_entropy
    functional.cross_entropy = cross_entropy
    try:
        yield
    finally:
        functional.cross_entropy = replaced
