"""What the reference takes and gives."""

from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Labels: TypeAlias = npt.NDArray[np.integer[Any]]
Mask: TypeAlias = npt.NDArray[np.bool_]
Loss: TypeAlias = Array | np.floating[Any]
Axis: TypeAlias = int | tuple[int, ...] | None
Reduction: TypeAlias = Literal["mean", "sum", "none"]


class LinearGrads(NamedTuple):
    """Gradients of ``linear``, each of the shape of what it belongs to; None without a bias, or where left out."""

    dinputs: Array | None
    dweight: Array
    dbias: Array | None


class RowStats(NamedTuple):
    """What a loss has found of each row beside it: log Σ_j e^q_j, the first greatest class, −Σ_j a_j log a_j."""

    lse: Any
    predictions: Any
    entropy: Any


def quiet() -> np.errstate:
    """Leave inf − inf, log 0 and 0 / 0 alone: their NaN and −inf are the documented results."""
    return np.errstate(divide="ignore", over="ignore", invalid="ignore")
