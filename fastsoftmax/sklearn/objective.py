"""What a fit minimises: the mean loss of rows and a quadratic penalty, as a function of one vector."""

from typing import NamedTuple, Protocol

import numpy as np

from fastsoftmax.conversions import Array
from fastsoftmax.parts import LayerSums, Part
from fastsoftmax.sklearn.rows import Layer


class SumsOverRows(Protocol):
    """Rows, wherever they are: see `Rows`, which has them in memory."""

    @property
    def total_weight(self) -> float: ...  # noqa: D102
    def loss_and_grad(self, layer: Layer) -> Part: ...  # noqa: D102
    def hvp(self, layer: Layer, vector: Layer) -> LayerSums: ...  # noqa: D102
    def hessian_diagonal(self, layer: Layer) -> LayerSums: ...  # noqa: D102


class Coordinates(NamedTuple):
    """Which numbers are free: a matrix with a column for each class and, below the weight, a row for the bias.

    Of two classes only the second one's column is free, and the first one's is zero: then the penalty is that of
    logistic regression with a single column.
    """

    n_features: int
    n_classes: int
    fit_intercept: bool

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of that matrix."""
        return self.n_features + self.fit_intercept, self.n_classes - self._first

    @property
    def _first(self) -> int:
        """The first class whose column is free."""
        return 1 if self.n_classes == 2 else 0

    def layer(self, free: Array) -> Layer:
        """Give the layer whose free numbers these are."""
        free = free.reshape(self.shape)
        whole = np.zeros((self.n_features + 1, self.n_classes))
        whole[: len(free), self._first :] = free
        return Layer(whole[:-1], whole[-1])

    def columns(self, free: Array) -> Layer:
        """Give weight and bias of the free columns alone; the bias is zero where there is none."""
        free = free.reshape(self.shape)
        return Layer(free[: self.n_features], free[-1] if self.fit_intercept else np.zeros(self.shape[1]))

    def free(self, weight: Array, bias: Array) -> Array:
        """Give what of a layer, or of its gradient, is free."""
        whole = np.concatenate([weight, bias[None]]) if self.fit_intercept else weight
        return whole[:, self._first :]


class Gaussian(NamedTuple):
    """A normal distribution of independent free numbers, the prior of Bayesian inference: its mean and precision."""

    mean: Array
    precision: Array

    @classmethod
    def of_penalty(cls, coordinates: Coordinates, C: float) -> "Gaussian":
        """Give the prior that the penalty ‖W‖² / 2C is; the intercept has none."""
        precision = np.full(coordinates.shape, 1 / C)
        precision[coordinates.n_features :] = 0
        return cls(np.zeros(coordinates.shape), precision)


class Objective:
    r"""F(θ) = (Σ_i s_i L_i(θ) + ½ Σ_k p_k (θ_k − μ_k)²) / Σ_i s_i, with the prior's mean μ and precision p."""

    def __init__(self, rows: SumsOverRows, coordinates: Coordinates, prior: Gaussian):
        self.rows, self.coordinates, self.prior = rows, coordinates, prior
        self._divisor = rows.total_weight
        self._last: tuple[Array, float, Array] | None = None

    def value_and_grad(self, theta: Array) -> tuple[float, Array]:
        """Compute F and ∂F/∂θ; those of the θ asked for last are kept."""
        if self._last is None or not np.array_equal(theta, self._last[0]):
            part = self.rows.loss_and_grad(self.coordinates.layer(theta))
            apart = theta.reshape(self.coordinates.shape) - self.prior.mean
            pull = self.prior.precision * apart
            value = (part.loss + 0.5 * float(np.vdot(pull, apart))) / self._divisor
            grad = (self.coordinates.free(part.dweight, part.dbias) + pull) / self._divisor
            self._last = theta.copy(), value, grad.ravel()
        return self._last[1], self._last[2]

    def hvp(self, theta: Array, vector: Array) -> Array:
        """Compute the product of F's Hessian and a vector."""
        sums = self.rows.hvp(self.coordinates.layer(theta), self.coordinates.layer(vector))
        pull = self.prior.precision * vector.reshape(self.coordinates.shape)
        product: Array = (self.coordinates.free(*sums) + pull) / self._divisor
        return product.ravel()

    def posterior(self, theta: Array) -> Gaussian:
        """Give the Gaussian for θ after these rows, with its precision from the diagonal of the Hessian at θ."""
        sums = self.rows.hessian_diagonal(self.coordinates.layer(theta))
        return Gaussian(theta.reshape(self.coordinates.shape), self.prior.precision + self.coordinates.free(*sums))
