"""Multinomial logistic regression on rows that never lie in memory together."""

from __future__ import annotations

import copy
from typing import Any, Self

import dask.array as da
import numpy as np
from dask.base import is_dask_collection
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.validation import check_is_fitted

import fastsoftmax.sklearn
from fastsoftmax.conversions import FLOATS, Array
from fastsoftmax.dask import chunks
from fastsoftmax.dask.rows import ChunkedRows, Problem
from fastsoftmax.dask.survey import Survey, merge_surveys, survey
from fastsoftmax.dask.tasks import mapped, on_one_thread, sent, tree
from fastsoftmax.sklearn.checks import check_parameters
from fastsoftmax.sklearn.rows import weights_of_rows


class SoftmaxClassifier(fastsoftmax.sklearn.SoftmaxClassifier):
    r"""Multinomial logistic regression on Dask arrays: `fastsoftmax.sklearn.SoftmaxClassifier` for any number of rows.

    .. math:: F(W, b) = \frac{1}{\Sigma_i s_i} \left(\Sigma_i s_i L_i(x_i W + b, y_i) + \frac{\|W\|^2}{2C}\right)

    The data stays where it is: for each evaluation of F the coefficients go to the workers, and each chunk of rows
    gives its float64 sums, which are merged in a fixed tree. So a fit has the same bits on any number of workers and
    threads, and when a worker dies in the middle of it. Chunks are read anew each time, or are in the workers' memory
    after ``X = X.persist()``.

    Parameters and attributes are those of `fastsoftmax.sklearn.SoftmaxClassifier`, and so is what is done with arrays
    in memory.

    See Also
    --------
    fastsoftmax.sklearn.SoftmaxClassifier : rows in memory, and what the parameters are.

    Examples
    --------
    >>> import dask.array as da
    >>> from sklearn.datasets import load_iris
    >>> from fastsoftmax.dask import SoftmaxClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> rows = da.from_array(X, chunks=(50, 4))
    >>> model = SoftmaxClassifier(max_iter=200).fit(rows, y)
    >>> round(model.score(rows, y), 3), model.predict(rows).compute()[:2]
    (0.973, array([0, 0]))
    """

    # Fitting ----------------------------------------------------------------------------------------------------------

    def fit(self, X: object, y: object, sample_weight: object = None) -> Self:
        """Fit to rows and their labels.

        Parameters
        ----------
        X : dask.array.Array, shape (n_samples, n_features)
            In chunks of whole rows, whose lengths need not be known: float32 or float64; what is neither is taken as
            float64. Or an array in memory.
        y : dask.array.Array or array_like, shape (n_samples,)
            Labels, numbers or strings, of at least two classes; rechunked as the rows are.
        sample_weight : dask.array.Array or array_like, shape (n_samples,), optional
            What each row is weighed by, from 0 up.

        Returns
        -------
        SoftmaxClassifier
            This model.

        Raises
        ------
        TypeError, ValueError
            If something does not fit: before anything is computed where it can be told, else after one pass over the
            rows.
        """
        if _is_in_memory(X):
            return super().fit(X, y, sample_weight)
        check_parameters(self)
        x = _rows_of(X)
        weights = None if sample_weight is None else _line("sample_weight", sample_weight, x)
        labels = _line("y", y, x)
        if labels.dtype.kind == "c":
            raise TypeError(f"y: expected class labels, got {labels.dtype}")
        rows = chunks.zipped(x, labels, weights)
        found: Survey = tree(merge_surveys, mapped(survey, rows)).compute()
        chunked = self._chunked(rows, found, x.dtype)
        self.n_features_in_ = x.shape[1]
        if hasattr(self, "feature_names_in_"):  # of an earlier fit, to a frame
            del self.feature_names_in_
        return self._fit_rows(chunked, found.classes, _dtype_of_fit(x.dtype))

    def partial_fit(self, X: object, y: object, classes: object = None, sample_weight: object = None) -> Self:
        """Fit to some more rows in memory: see `fastsoftmax.sklearn.SoftmaxClassifier.partial_fit`."""
        if not _is_in_memory(X):
            raise TypeError(f"X: expected rows in memory in partial_fit, got {type(X).__name__}, which fit takes")
        return super().partial_fit(X, y, classes, sample_weight)

    def _chunked(self, rows: list[tuple[object, ...]], found: Survey, dtype: np.dtype[Any]) -> ChunkedRows:
        """Put rows together with what they weigh."""
        if not len(found.classes):
            raise ValueError("X: expected at least one row, got none")
        by_class, weights = None, found.weights
        if self.class_weight is not None:
            given = {"classes": found.classes, "y": found.classes, "sample_weight": weights}
            by_class = compute_class_weight(self.class_weight, **given)
            weights = weights_of_rows(by_class, weights)
        total = float(weights.sum())
        if not total > 0:
            raise ValueError("sample_weight: expected some weight above zero, got weights that are all zero")
        problem = Problem(_dtype_of_fit(dtype), found.classes, by_class, float(self.label_smoothing))
        return ChunkedRows(rows, sent(problem), total)

    # Predicting -------------------------------------------------------------------------------------------------------

    def decision_function(self, X: object) -> Any:
        """Compute the logits z = X·W + b of rows.

        Parameters
        ----------
        X : dask.array.Array, or array_like in memory, shape (n_samples, n_features)
            Taken in the dtype of the fit.

        Returns
        -------
        dask.array.Array or ndarray, shape (n_samples, n_classes), or (n_samples,) of two classes
            In the chunks of X, computed when it is asked for, by the coefficients of now.
        """
        return self._of_rows("decision_function", X)

    def predict(self, X: object) -> Any:
        """Give the most probable class of each row.

        Parameters
        ----------
        X : dask.array.Array, or array_like in memory, shape (n_samples, n_features)
            As in `decision_function`.

        Returns
        -------
        dask.array.Array or ndarray, shape (n_samples,)
            Labels as those of the fit.
        """
        return self._of_rows("predict", X)

    def predict_proba(self, X: object) -> Any:
        """Compute the probabilities of the classes.

        Parameters
        ----------
        X : dask.array.Array, or array_like in memory, shape (n_samples, n_features)
            As in `decision_function`.

        Returns
        -------
        dask.array.Array or ndarray, shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._of_rows("predict_proba", X)

    def predict_log_proba(self, X: object) -> Any:
        """Compute the logarithms of the probabilities, finite where the probabilities round to zero.

        Parameters
        ----------
        X : dask.array.Array, or array_like in memory, shape (n_samples, n_features)
            As in `decision_function`.

        Returns
        -------
        dask.array.Array or ndarray, shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        return self._of_rows("predict_log_proba", X)

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Compute the share of rows whose label is predicted.

        Parameters
        ----------
        X : dask.array.Array, or array_like in memory, shape (n_samples, n_features)
            As in `decision_function`.
        y : dask.array.Array or array_like, shape (n_samples,)
            Labels.
        sample_weight : dask.array.Array or array_like, shape (n_samples,), optional
            What each row is weighed by.

        Returns
        -------
        float
            From 0 to 1.
        """
        if _is_in_memory(X):
            return float(super().score(X, y, sample_weight))
        x = _rows_of(X)
        is_right = self.predict(x) == _line("y", y, x)
        if sample_weight is None:
            return float(is_right.mean().compute())
        weights = _line("sample_weight", sample_weight, x)
        right, total = da.compute((is_right * weights).sum(), weights.sum())
        return float(right / total)

    def _of_rows(self, method: str, X: object) -> Any:
        """Call a method of the class for rows in memory, on X or on each of its chunks."""
        in_memory = getattr(super(), method)
        if _is_in_memory(X):
            return in_memory(X)
        check_is_fitted(self)
        x = _rows_of(X)
        if x.shape[1] != self.n_features_in_:
            raise ValueError(f"X: expected {self.n_features_in_} features as in the fit, got {x.shape[1]}")
        like = in_memory(np.zeros((1, x.shape[1]), self.coef_.dtype))[:0]
        chunks_of_result = (x.chunks[0], *((length,) for length in like.shape[1:]))
        options: dict[str, Any] = {"drop_axis": [1]} if like.ndim == 1 else {"chunks": chunks_of_result}
        fitted = sent(copy.copy(self))  # which a fit to come does not change
        return x.map_blocks(_predict, fitted=fitted, method=method, like=like, meta=like, dtype=like.dtype, **options)


@on_one_thread
def _predict(X: Array, fitted: SoftmaxClassifier, method: str, like: Array) -> Array:
    """Call a method on the rows of a chunk; scikit-learn takes no chunk without any."""
    found: Array = getattr(fitted, method)(X) if len(X) else like
    return found


def _dtype_of_fit(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype in FLOATS else np.dtype(np.float64)


def _is_in_memory(X: object) -> bool:
    return not is_dask_collection(X)


def _rows_of(X: object) -> da.Array:
    """Take rows of numbers in chunks."""
    x = chunks.row_chunks("X", X, "")
    if x.dtype.kind in "cmMOSU":
        raise TypeError(f"X: expected numbers, got {x.dtype}")
    if not x.shape[1]:
        raise ValueError(f"X: expected at least one feature, got shape {x.shape}")
    return x


def _line(name: str, value: object, rows: da.Array) -> da.Array:
    """Take what has one number or label for each row."""
    line = chunks.beside(name, value, rows, "X")
    if line.ndim != 1:
        raise ValueError(f"{name}: expected one for each row of X, got shape {line.shape}")
    return line
