"""SciPy's optimisers, told when to stop as `LogisticRegression` tells them."""

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult, minimize
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import ThreadpoolController

from fastsoftmax.conversions import Array
from fastsoftmax.sklearn.objective import Objective


class Solution(NamedTuple):
    """Where a solver stopped, and after how many iterations."""

    theta: Array
    n_iter: int


def lbfgs(objective: Objective, start: Array, tol: float, max_iter: int) -> OptimizeResult:
    """Minimise by limited-memory BFGS."""
    options = {"maxiter": max_iter, "maxls": 50, "gtol": tol, "ftol": 64 * np.finfo(np.float64).eps}
    return minimize(objective.value_and_grad, start, jac=True, method="L-BFGS-B", options=options)


def newton_cg(objective: Objective, start: Array, tol: float, max_iter: int) -> OptimizeResult:
    """Minimise by Newton's method, each step by conjugate gradients, which take products with the Hessian alone."""

    def stop_at_tol(intermediate_result: OptimizeResult) -> None:
        if largest_grad(objective, intermediate_result.x) <= tol:
            raise StopIteration

    if largest_grad(objective, start) <= tol:
        return OptimizeResult(x=start, nit=0, message="")
    return minimize(
        objective.value_and_grad,
        start,
        jac=True,
        hessp=objective.hvp,
        method="Newton-CG",
        callback=stop_at_tol,
        options={"maxiter": max_iter, "xtol": np.finfo(np.float64).eps},  # so that the gradient decides
    )


SOLVERS: dict[str, Callable[[Objective, Array, float, int], OptimizeResult]] = {"lbfgs": lbfgs, "newton-cg": newton_cg}


def solve(objective: Objective, start: Array, solver: str, tol: float, max_iter: int) -> Solution:
    """Minimise from a start, and warn where the solver gave up with a gradient above `tol`."""
    with _blas_threads().limit(limits=1, user_api="blas"):
        result = SOLVERS[solver](objective, start.ravel(), tol, max_iter)
    grad = largest_grad(objective, result.x)
    if grad > tol and not result.success:
        if result.nit >= max_iter:
            advice = f"raise max_iter ({max_iter}), or scale the features"
        else:
            advice = "the loss became no smaller in this dtype: raise tol, scale the features, or fit float64"
        problem = f"{solver} stopped after {result.nit} iterations at a gradient of {grad:.2g}, above tol ({tol:.2g})"
        warnings.warn(f"{problem}: {advice}", ConvergenceWarning, stacklevel=4)
    return Solution(result.x, int(result.nit))


@functools.cache
def _blas_threads() -> ThreadpoolController:
    """Find the BLAS that SciPy's optimisers call, for vectors of coefficients.

    Woken for so little, its threads stand in the way of the kernels, which have threads of their own: a fit took up to
    a third longer (M68).
    """
    return ThreadpoolController()


def largest_grad(objective: Objective, theta: Array) -> float:
    """Give the largest entry of the gradient, by its size."""
    return float(np.abs(objective.value_and_grad(theta)[1]).max(initial=0))
