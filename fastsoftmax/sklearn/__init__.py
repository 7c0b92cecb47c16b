"""Multinomial logistic regression for scikit-learn, on the fused linear head.

``from fastsoftmax.sklearn import SoftmaxClassifier`` in place of ``from sklearn.linear_model import
LogisticRegression``: the same objective, parameters and attributes. See `docs/sklearn.md`.
"""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    problem = "fastsoftmax.sklearn: expected scikit-learn to be installed: pip install fastsoftmax[sklearn]"
    raise ImportError(problem, name=error.name) from error

from fastsoftmax.sklearn.classifier import SoftmaxClassifier

__all__ = ["SoftmaxClassifier"]
