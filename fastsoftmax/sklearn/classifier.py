"""Multinomial logistic regression as scikit-learn has it, on the fused linear head."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastsoftmax.conversions import Array
from fastsoftmax.sklearn.checks import check_parameters, refuse_sparse
from fastsoftmax.sklearn.objective import Coordinates, Gaussian, Objective, SumsOverRows
from fastsoftmax.sklearn.predictions import LinearPredictions
from fastsoftmax.sklearn.rows import Rows, weights_of_rows
from fastsoftmax.sklearn.solvers import solve

_DTYPES = [np.float64, np.float32]


class SoftmaxClassifier(LinearPredictions, BaseEstimator):
    r"""Multinomial logistic regression: the softmax cross entropy of a linear layer, with an L2 penalty.

    .. math:: F(W, b) = \frac{1}{\Sigma_i s_i} \left(\Sigma_i s_i L_i(x_i W + b, y_i) + \frac{\|W\|^2}{2C}\right)

    That is what `sklearn.linear_model.LogisticRegression` minimises, and the parameters and attributes are named as
    there. Loss and gradient are computed in one pass over X; what is float32 stays float32.

    Parameters
    ----------
    C : float
        The inverse of the penalty's strength; ``inf`` for none.
    tol : float
        Stop when no entry of ∂F/∂(W, b) is larger.
    fit_intercept : bool
        Whether there is a bias b. It has no penalty.
    class_weight : dict, "balanced" or None
        What the samples of each class are weighed by, beside `sample_weight`; "balanced" by the inverse of how much
        there is of each class.
    solver : {"lbfgs", "newton-cg"}
        SciPy's optimiser: limited-memory BFGS, or Newton's method by conjugate gradients, which needs fewer iterations
        of more work each.
    max_iter : int
        The most iterations.
    warm_start : bool
        Begin where the last fit ended.
    label_smoothing : float
        The share of the target, from 0 to 1, that goes to all classes alike.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels of the classes.
    coef_ : ndarray, shape (n_classes, n_features); (1, n_features) of two classes
        Wᵀ. Of two classes the first one's logit is 0.
    intercept_ : ndarray, shape (n_classes,), or (1,) of two
        b; zeros without an intercept.
    n_iter_ : ndarray, shape (1,)
        How many iterations the last fit took.
    n_features_in_ : int
        How many features it was fitted to.
    feature_names_in_ : ndarray, shape (n_features_in_,)
        Their names, if X was a frame with names that are all strings.

    See Also
    --------
    sklearn.linear_model.LogisticRegression : also for sparse X, L1 penalties, and other solvers.

    References
    ----------
    Bishop, Pattern Recognition and Machine Learning, 2006, section 4.3.4.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from fastsoftmax.sklearn import SoftmaxClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = SoftmaxClassifier(max_iter=200).fit(X, y)
    >>> round(model.score(X, y), 3), model.predict(X[:2])
    (0.973, array([0, 0]))
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        class_weight: dict[Any, float] | Literal["balanced"] | None = None,
        solver: Literal["lbfgs", "newton-cg"] = "lbfgs",
        max_iter: int = 100,
        warm_start: bool = False,
        label_smoothing: float = 0.0,
    ):
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.solver = solver
        self.max_iter = max_iter
        self.warm_start = warm_start
        self.label_smoothing = label_smoothing

    _posterior: Gaussian | None = None  # of the rows that partial_fit has seen

    # Fitting ----------------------------------------------------------------------------------------------------------

    def fit(self, X: object, y: object, sample_weight: object = None) -> Self:
        """Fit to rows and their labels.

        Parameters
        ----------
        X : array_like or frame, shape (n_samples, n_features)
            float32 or float64; what is neither is taken as float64.
        y : array_like, shape (n_samples,)
            Labels, numbers or strings, of at least two classes.
        sample_weight : array_like, shape (n_samples,), optional
            What each row is weighed by, from 0 up.

        Returns
        -------
        SoftmaxClassifier
            This model.

        Raises
        ------
        TypeError, ValueError
            If something does not fit: X is sparse, say, or y has one class.
        """
        check_parameters(self)
        X, y = self._take(X, y, reset=True)
        classes, labels = np.unique(y, return_inverse=True)
        rows = self._rows(X, y, labels, classes, sample_weight)
        return self._fit_rows(rows, classes, X.dtype)

    def _fit_rows(self, rows: SumsOverRows, classes: Array, dtype: np.dtype[Any]) -> Self:
        """Minimise the objective of rows, wherever they are."""
        if len(classes) < 2:
            raise ValueError(f"y: expected at least two classes, got only one class: {classes[0]!r}")
        warm = self._warm_start(classes)
        self.classes_ = classes
        coordinates = self._coordinates()
        prior = Gaussian.of_penalty(coordinates, self.C)
        objective = Objective(rows, coordinates, prior)
        self._minimize(objective, prior.mean if warm is None else warm, dtype)
        self._posterior = None  # which takes another pass
        return self

    def partial_fit(self, X: object, y: object, classes: object = None, sample_weight: object = None) -> Self:
        r"""Fit to some more rows, with what was learned from those before as a prior.

        The earlier rows are summed up as a normal distribution of independent coefficients: its mean is where they are,
        and its precision grows by the diagonal of each batch's Hessian,
        :math:`p_{dc} \mathrel{+}= \Sigma_i s_i x_{id}^2 a_{ic} (1 - a_{ic})`. The first batch is fitted as `fit` does
        it. After `fit`, which keeps no such record of its rows, the penalty pulls to its coefficients instead of zero.
        There is no learning rate; `max_iter` and `tol` are those of each batch.

        Parameters
        ----------
        X, y, sample_weight
            As in `fit`; y may have any of the classes.
        classes : array_like, optional
            The labels of all classes, needed at the first call.

        Returns
        -------
        SoftmaxClassifier
            This model.

        Raises
        ------
        TypeError, ValueError
            As `fit`; if a label is none of the classes, or class weights are "balanced", which takes all rows to know.

        References
        ----------
        Chapelle, Li, An empirical evaluation of Thompson sampling, NIPS 2011, algorithm 3.
        """
        check_parameters(self)
        is_first = not hasattr(self, "classes_")
        if isinstance(self.class_weight, str):
            raise ValueError("class_weight: expected a dict or None in partial_fit, got 'balanced'")
        known = self._classes_of(classes)
        X, y = self._take(X, y, reset=is_first)
        labels = np.minimum(np.searchsorted(known, y), len(known) - 1)
        if (known[labels] != y).any():
            raise ValueError(f"y: expected the classes {known.tolist()}, got {y[known[labels] != y][0]!r}")
        rows = self._rows(X, y, labels, known, sample_weight)
        self.classes_ = known
        coordinates = self._coordinates()
        prior = self._posterior
        if prior is None:
            prior = Gaussian.of_penalty(coordinates, self.C)
            if not is_first:
                prior = prior._replace(mean=self._theta())
        objective = Objective(rows, coordinates, prior)
        theta = self._minimize(objective, prior.mean, X.dtype if is_first else self.coef_.dtype)
        self._posterior = objective.posterior(theta)
        return self

    def _minimize(self, objective: Objective, start: Array, dtype: np.dtype[Any]) -> Array:
        """Find the coefficients, and give them as the objective has them."""
        theta, n_iter = solve(objective, start, self.solver, self.tol, self.max_iter)
        weight, bias = objective.coordinates.columns(theta)
        self.coef_, self.intercept_ = np.ascontiguousarray(weight.T, dtype), bias.astype(dtype)
        self.n_iter_ = np.array([n_iter], np.int32)
        return theta

    # Checks -----------------------------------------------------------------------------------------------------------

    def _take(self, X: Any, y: Any, reset: bool) -> tuple[Array, Array]:
        """Take rows and labels as arrays."""
        refuse_sparse(X)
        dtype = _DTYPES if reset else self.coef_.dtype
        X, y = validate_data(self, X, y, dtype=dtype, order="C", reset=reset)
        check_classification_targets(y)
        return X, y

    def _rows(self, X: Array, y: Array, labels: Array, classes: Array, sample_weight: object) -> Rows:
        """Put rows together with what they weigh."""
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            given = {} if weights is None else {"sample_weight": weights}
            by_class = compute_class_weight(self.class_weight, classes=classes, y=y, **given)
            weights = weights_of_rows(by_class[labels], weights)
        if weights is not None and not weights.sum() > 0:
            raise ValueError("sample_weight: expected some weight above zero, got weights that are all zero")
        return Rows(X, labels.astype(np.int64, copy=False), weights, float(self.label_smoothing))

    def _classes_of(self, classes: object) -> Array:
        """Give all classes, as the first call of `partial_fit` names them."""
        if not hasattr(self, "classes_"):
            if classes is None:
                raise ValueError("classes: expected the labels of all classes at the first partial_fit, got None")
            named = np.unique(np.asarray(classes))
            if len(named) < 2:
                raise ValueError(f"classes: expected at least two classes, got {named.tolist()}")
            return named
        if classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ValueError(f"classes: expected those of the first call, {self.classes_.tolist()}, got {classes!r}")
        return self.classes_

    def _coordinates(self) -> Coordinates:
        return Coordinates(self.n_features_in_, len(self.classes_), bool(self.fit_intercept))

    def _warm_start(self, classes: Array) -> Array | None:
        """Give the coefficients of the fit before, if this one is to begin there."""
        if not (self.warm_start and hasattr(self, "coef_")):
            return None
        if not np.array_equal(classes, self.classes_) or self.coef_.shape[1] != self.n_features_in_:
            came = f"{len(classes)} classes and {self.n_features_in_} features"
            raise ValueError(f"warm_start: expected the classes and features of the fit before, got {came}")
        return self._theta()

    def _theta(self) -> Array:
        """Give the coefficients as an objective has them."""
        rows = [self.coef_.T, self.intercept_[None]] if self.fit_intercept else [self.coef_.T]
        return np.concatenate(rows).astype(np.float64)
