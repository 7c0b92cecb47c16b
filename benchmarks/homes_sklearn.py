"""Whole fits in scikit-learn: its logistic regression, and ours in its place, to the same objective."""

from typing import Any

import numpy as np

from benchmarks.dialects import Call
from benchmarks.homes import HomeCase

_OBJECTIVE_WITHIN = 1e-6  # of scikit-learn's, relatively


def _rows(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Draw rows, and labels that a linear model explains in part."""
    n_rows, n_features, n_classes = shape
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, n_features), np.float32)
    logits = X @ rng.standard_normal((n_features, n_classes)) * (2 / np.sqrt(n_features))
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


def _objective(model: Any, X: Any, y: Any) -> float:
    """Compute what both minimise, in float64."""
    log_probs = model.predict_log_proba(X.astype(np.float64))
    losses = -log_probs[np.arange(len(y)), y].astype(np.float64)
    return float(losses.mean() + np.square(model.coef_, dtype=np.float64).sum() / (2 * model.C * len(y)))


def _fit(shape: tuple[int, ...]) -> tuple[Call, Call]:
    from sklearn.linear_model import LogisticRegression

    from fastsoftmax.sklearn import SoftmaxClassifier

    X, y = _rows(shape)
    ours, theirs = SoftmaxClassifier(max_iter=1000), LogisticRegression(max_iter=1000)
    found, known = (_objective(model.fit(X, y), X, y) for model in (ours, theirs))
    if found > known * (1 + _OBJECTIVE_WITHIN):
        raise AssertionError(f"expected an objective of at most {known:.9g}, as scikit-learn's, got {found:.9g}")
    return Call(lambda: ours.fit(X, y)), Call(lambda: theirs.fit(X, y))


def _case(shape: tuple[int, ...], bar: float) -> HomeCase:
    return HomeCase("scikit-learn", "fit", shape, ("sklearn",), "LogisticRegression", _fit, bar)


CASES = [_case((60_000, 784, 10), 2), _case((20_000, 50, 3), 1.5)]
