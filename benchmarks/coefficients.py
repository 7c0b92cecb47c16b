"""The coefficients of the polynomials in `fastsoftmax.kernels.vecmath`, computed anew, and how far each is off.

``python -m benchmarks.coefficients`` prints them as they stand in the source. Each polynomial interpolates what it
stands for at Chebyshev nodes, which is close to the best that its degree can do. It is computed in 60 digits and
rounded at the end, to float32 or float64; the errors printed are those of the rounded coefficients.
"""

from collections.abc import Callable
from dataclasses import dataclass

import mpmath
import numpy as np
from mpmath import mp, mpf

_DIGITS = 60


def _exp_tail(r: mpf) -> mpf:
    """(e^r − 1 − r) / r², by its series."""
    term, total, k = mpf(1) / 2, mpf(0), 2
    while abs(term) > mpf(10) ** -mp.dps:
        k += 1
        total, term = total + term, term * r / k
    return total


def _log_tail(s2: mpf) -> mpf:
    """(2·atanh(s) − 2s) / s³ of s², by its series."""
    power, total, k = mpf(1), mpf(0), 3
    while power > mpf(10) ** -mp.dps:
        total, power, k = total + 2 * power / k, power * s2, k + 2
    return total


def _exp(r: mpf, tail: mpf) -> mpf:
    return 1 + r + r * r * tail


def _log(s2: mpf, tail: mpf) -> mpf:
    return 2 + s2 * tail  # over s


@dataclass(frozen=True)
class Polynomial:
    """What a polynomial stands for: a function, on an interval, and what is computed from its values."""

    tail: Callable[[mpf], mpf]
    whole: Callable[[mpf, mpf], mpf]
    interval: Callable[[], tuple[mpf, mpf]]
    terms: int
    dtype: type = np.float64

    def coefficients(self) -> tuple[float, ...]:
        """Interpolate the function; the coefficients are given lowest first, and rounded."""
        with mp.workdps(_DIGITS):
            low, high = self.interval()
            nodes = [
                (low + high) / 2 + (high - low) / 2 * mpmath.cospi(mpf(2 * i + 1) / (2 * self.terms))
                for i in range(self.terms)
            ]
            powers = mpmath.matrix([[x**k for k in range(self.terms)] for x in nodes])
            exact = mpmath.lu_solve(powers, mpmath.matrix([self.tail(x) for x in nodes]))
            # The fewest digits that give the rounded number.
            return tuple(float(str(self.dtype(float(c)))) for c in exact)

    def error(self, coefficients: tuple[float, ...], points: int = 401) -> float:
        """Give the largest relative error, on the interval, of what is computed with some coefficients."""
        with mp.workdps(_DIGITS):
            low, high = self.interval()
            largest = mpf(0)
            for i in range(points):
                # Closer together near the ends, where the error is largest.
                x = (low + high) / 2 + (high - low) / 2 * mpmath.cospi(mpf(i) / (points - 1))
                exact = self.whole(x, self.tail(x))
                got = self.whole(x, mpmath.fsum(c * x**k for k, c in enumerate(coefficients)))
                largest = max(largest, abs(got / exact - 1))
            return float(largest)


def _around_zero(bound: Callable[[], mpf]) -> Callable[[], tuple[mpf, mpf]]:
    return lambda: (-bound(), bound())


def _up_to(bound: Callable[[], mpf]) -> Callable[[], tuple[mpf, mpf]]:
    return lambda: (mpf(0), bound())


# |r| ≤ half a step of ln 2: of whole ones 0.3 % more, for the step nearest to z is found by rounded arithmetic.
_HALF_A_STEP = _around_zero(lambda: mpf("1.003") * mpmath.ln2 / 2)
_HALF_A_SIXTEENTH = _around_zero(lambda: mpmath.ln2 / 32)
# s² of s = (f − 1) / (f + 1), for f from √½ to √2, and for f up to 1.502, beyond `halvings`.
_TO_SQRT_2 = _up_to(lambda: ((mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)) ** 2)
_TO_HALVINGS = _up_to(lambda: mpf("0.0403"))

POLYNOMIALS = {
    "exp float32, 16 steps": Polynomial(_exp_tail, _exp, _HALF_A_SIXTEENTH, 2, np.float32),
    "exp float32, 1 step": Polynomial(_exp_tail, _exp, _HALF_A_STEP, 5, np.float32),
    "exp float64": Polynomial(_exp_tail, _exp, _HALF_A_STEP, 10),
    "log1p": Polynomial(_log_tail, _log, _TO_SQRT_2, 7),
    "log1p_quotient": Polynomial(_log_tail, _log, _TO_HALVINGS, 4),
}


def main() -> None:
    """Print all coefficients, each polynomial with its largest relative error."""
    for name, polynomial in POLYNOMIALS.items():
        coefficients = polynomial.coefficients()
        print(f"{name}: relative error {polynomial.error(coefficients):.3g}")
        for coefficient in coefficients:
            print(f"    {coefficient!r},")


if __name__ == "__main__":
    main()
