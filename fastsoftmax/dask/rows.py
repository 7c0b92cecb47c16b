"""The rows that a classifier is fitted to, in chunks that no process has to hold together."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from dask.delayed import Delayed

from fastsoftmax.conversions import Array
from fastsoftmax.dask.survey import weights_of
from fastsoftmax.dask.tasks import mapped, of_chunk, sent, tree
from fastsoftmax.parts import LayerSums, Part, merge
from fastsoftmax.sklearn.rows import Layer, Rows, weights_of_rows


class Problem(NamedTuple):
    """What each task needs to make `Rows` of a chunk."""

    dtype: np.dtype[Any]
    classes: Array
    class_weight: Array | None
    label_smoothing: float


class ChunkedRows(NamedTuple):
    """Rows, and sums over them, each by a task for every chunk: see `fastsoftmax.sklearn.objective.SumsOverRows`.

    Nothing of a chunk is kept: it is read anew for each sum, unless Dask has it in memory.
    """

    chunks: list[tuple[object, ...]]  # its number, X, y, and sample weights, if there are any
    problem: Delayed
    total_weight: float

    def loss_and_grad(self, layer: Layer) -> Part:
        """Sum up the rows' losses and gradients."""
        part: Part = self._sum("loss_and_grad", layer)
        return part

    def hvp(self, layer: Layer, vector: Layer) -> LayerSums:
        """Sum up the products of the rows' Hessians and a vector."""
        sums: LayerSums = self._sum("hvp", layer, vector)
        return sums

    def hessian_diagonal(self, layer: Layer) -> LayerSums:
        """Sum up the diagonals of the rows' Hessians."""
        sums: LayerSums = self._sum("hessian_diagonal", layer)
        return sums

    def _sum(self, method: str, *arguments: Layer) -> Any:
        what = sent(method), *map(sent, arguments)
        return tree(merge, mapped(_sum_over_chunk, self.chunks, self.problem, *what)).compute()


@of_chunk
def _sum_over_chunk(
    X: Array, y: Array, sample_weight: object, problem: Problem, method: str, *arguments: Layer
) -> Part | LayerSums:
    """Sum up something of a chunk of rows that the survey has checked."""
    labels = np.searchsorted(problem.classes, y)
    weights = None if sample_weight is None else weights_of(sample_weight, len(X))
    if problem.class_weight is not None:
        weights = weights_of_rows(problem.class_weight[labels], weights)
    x = np.ascontiguousarray(X, problem.dtype)
    sums: Part | LayerSums = getattr(Rows(x, labels, weights, problem.label_smoothing), method)(*arguments)
    return sums
