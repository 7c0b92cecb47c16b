"""What a fitted linear classifier says of rows."""

from __future__ import annotations

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from fastsoftmax.activations import log_softmax, softmax
from fastsoftmax.conversions import Array
from fastsoftmax.layer import linear
from fastsoftmax.sklearn.checks import refuse_sparse


class LinearPredictions(ClassifierMixin):
    """Logits, labels and probabilities by the coefficients of a fit."""

    coef_: Array
    intercept_: Array
    classes_: Array

    def decision_function(self, X: object) -> Array:
        """Compute the logits z = X·W + b of rows.

        Parameters
        ----------
        X : array_like or frame, shape (n_samples, n_features)
            Taken in the dtype of the fit.

        Returns
        -------
        ndarray, shape (n_samples, n_classes), or (n_samples,) of two classes
            Of two classes the second one's logit, the first one's being 0.
        """
        check_is_fitted(self)
        refuse_sparse(X)
        X = validate_data(self, X, dtype=self.coef_.dtype, order="C", reset=False)
        logits = linear(X, self.coef_.T, self.intercept_)
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict(self, X: object) -> Array:
        """Give the most probable class of each row.

        Parameters
        ----------
        X : array_like or frame, shape (n_samples, n_features)
            As in `decision_function`.

        Returns
        -------
        ndarray, shape (n_samples,)
            Labels as those of the fit.
        """
        logits = self.decision_function(X)
        picked: Array = self.classes_[(logits > 0).astype(np.intp) if logits.ndim == 1 else logits.argmax(axis=1)]
        return picked

    def predict_proba(self, X: object) -> Array:
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : array_like or frame, shape (n_samples, n_features)
            As in `decision_function`.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        logits = self._all_logits(X)
        return softmax(logits, out=logits)

    def predict_log_proba(self, X: object) -> Array:
        """Compute the logarithms of the probabilities, finite where the probabilities round to zero.

        Parameters
        ----------
        X : array_like or frame, shape (n_samples, n_features)
            As in `decision_function`.

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        logits = self._all_logits(X)
        return log_softmax(logits, out=logits)

    def _all_logits(self, X: object) -> Array:
        """Compute a logit for each class."""
        logits = self.decision_function(X)
        return np.column_stack([np.zeros_like(logits), logits]) if logits.ndim == 1 else logits
