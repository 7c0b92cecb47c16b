"""What a classifier requires of its parameters and its rows, beyond what scikit-learn itself does."""

import math
import numbers
from typing import Any

import numpy as np
from scipy.sparse import issparse

from fastsoftmax.sklearn.solvers import SOLVERS


def check_parameters(model: Any) -> None:
    """Check what a model's constructor took, which scikit-learn leaves to `fit`."""
    _check_number("C", model.C, above=0, expected="a number above 0, inf for no penalty")
    _check_number("tol", model.tol, above=0, most=_LARGEST, expected="a number above 0")
    _check_number("label_smoothing", model.label_smoothing, most=1, expected="a number from 0 to 1")
    if isinstance(model.max_iter, bool) or not isinstance(model.max_iter, numbers.Integral):
        raise TypeError(f"max_iter: expected a positive integer, got {type(model.max_iter).__name__}")
    if model.max_iter < 1:
        raise ValueError(f"max_iter: expected a positive integer, got {model.max_iter}")
    if not (isinstance(model.solver, str) and model.solver in SOLVERS):
        raise ValueError(f"solver: expected one of {', '.join(map(repr, SOLVERS))}, got {model.solver!r}")
    for name in ("fit_intercept", "warm_start"):
        value = getattr(model, name)
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{name}: expected True or False, got {type(value).__name__}")
    weights = model.class_weight
    is_balanced = isinstance(weights, str) and weights == "balanced"
    if not (weights is None or isinstance(weights, dict) or is_balanced):
        raise ValueError(f"class_weight: expected a dict, 'balanced' or None, got {weights!r}")


_LARGEST = float(np.finfo(np.float64).max)


def _check_number(name: str, value: Any, *, expected: str, above: float = -1.0, most: float = math.inf) -> None:
    """Require a number in a range; what is not above -1 here is below 0."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name}: expected {expected}, got {type(value).__name__}")
    if not (float(value) > above and 0 <= float(value) <= most):
        raise ValueError(f"{name}: expected {expected}, got {value}")


def refuse_sparse(X: object) -> None:
    """Require dense rows."""
    if issparse(X):
        instead = "sklearn.linear_model.LogisticRegression takes sparse data"
        raise TypeError(f"X: expected dense rows, got a sparse {type(X).__name__}; {instead}, and X.toarray() is dense")
