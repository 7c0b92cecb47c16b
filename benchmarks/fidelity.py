"""Errors in units in the last place: this library beside the others, on easy logits and on torture.

``python -m benchmarks.fidelity [--readme README.md] [--dtype float64|bfloat16]`` prints the maximum and the mean error
of each operation and case; the README gets the maxima, the worst over shapes. What is exactly below the smallest normal
number may come out as zero.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_dtypes import finfo

from benchmarks.contenders import TABLE
from benchmarks.dialects import UnavailableError, flat
from benchmarks.problems import Case, dtype_named, make
from benchmarks.readme import InputError, replace_sections, table

# What is measured, and the operation of the table whose last result it is.
_MEASURED = {
    "softmax": "softmax",
    "log_softmax": "log_softmax",
    "logsumexp": "logsumexp",
    "loss": "cross_entropy_of_rows",
    "dlogits": "cross_entropy_with_grad",
}
_LIBRARIES = ("fastsoftmax", "NumPy", "SciPy", "PyTorch", "JAX")
# Powers of two rows: the mean's 1/N then rounds nothing.
_SHAPES = ((4_096, 10), (512, 1_000), (16, 128_256))
_GROUPS = {
    "spread 0.1 and 3": ("spread 0.1", "spread 3"),
    "spread 20 and 80": ("spread 20", "spread 80"),
    "label ahead by 1, 20, 60": ("label ahead by 1", "label ahead by 20", "label ahead by 60"),
    "ties, constant rows": ("ties", "constant rows"),
    "all -inf but the label, spread 1e30": ("all -inf but the label", "spread 1e30"),
}


class Errors(NamedTuple):
    """The errors of one library in one case."""

    measured: str
    values: str
    shape: tuple[int, int]
    library: str
    largest: float
    mean: float


def exact(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the results in long double, in forms that do not cancel.

    With r the sum of the exponentials but the greatest, log Σ is log1p(r); a_y − 1 is the sum of the other classes.
    """
    rows = np.arange(len(logits))
    z = logits.astype(np.longdouble)
    top = z.argmax(axis=1)
    shifted = z - z[rows, top][:, None]
    e = np.exp(shifted)
    e[rows, top] = 0
    rest = e.sum(axis=1)
    e[rows, top] = 1
    log_total, total = np.log1p(rest), 1 + rest
    probs = e / total[:, None]
    e[rows, labels] = 0
    others = e.sum(axis=1)
    dlogits = probs.copy()
    dlogits[rows, labels] = -others / total
    return {
        "softmax": probs,
        "log_softmax": shifted - log_total[:, None],
        "logsumexp": z[rows, top] + log_total,
        "loss": log_total - shifted[rows, labels],
        "dlogits": dlogits / len(logits),
    }


def ulps(got: np.ndarray, want: np.ndarray) -> np.ndarray:
    """Measure |got − want| in units in the last place of `want` rounded to the dtype of `got`.

    >>> ulps(np.float32([1, 1, 0, 0]), np.longdouble([1, 1 + 2**-23, 1e-39, 1])).tolist()
    [0.0, 1.0, 0.0, 8388608.0]
    """
    tiny = finfo(got.dtype).tiny
    unit = np.spacing(np.maximum(np.abs(want).astype(got.dtype), tiny)).astype(np.longdouble)
    error = np.abs(got.astype(np.longdouble) - want) / unit
    fine = (got == want) | ((got == 0) & (np.abs(want) < tiny))
    return np.where(fine, 0, np.where(np.isnan(error), np.inf, error)).astype(np.float64)


def measure(shape: tuple[int, int], values: str, dtype: type) -> Iterator[Errors]:
    """Measure all that is installed in one case."""
    # Whatever a library makes of these logits is counted as its error, and no reason to stop.
    with np.errstate(all="ignore"):
        case = Case("fidelity", "cross_entropy_with_grad", shape, values, dtype=np.dtype(dtype).name)
        logits, labels = make(case)
        wants = exact(logits, labels)
        for measured, operation in _MEASURED.items():
            for library in _LIBRARIES:
                contender = TABLE[operation].get(library)
                if contender is None:
                    continue
                arrays = [logits, labels] if "cross_entropy" in operation else [logits]
                try:
                    result = contender.setup([a.copy() for a in arrays]).run()
                except UnavailableError:
                    continue
                errors = ulps(flat(result)[-1], wants[measured])
                yield Errors(measured, values, shape, library, errors.max(), errors.mean())


def number(value: float) -> str:
    """Write an error in a few digits.

    >>> [number(v) for v in (0.4986, 23.7, 8388608.0, math.inf)]
    ['0.50', '24', '8.4e+06', '∞']
    """
    if math.isinf(value):
        return "∞"
    return f"{value:.2f}" if value < 10 else f"{value:.0f}" if value < 1e4 else f"{value:.1e}"


def summary(errors: list[Errors], dtype: str) -> str:
    """Write the README's table: the maximum of each operation and group of cases."""
    libraries = [name for name in _LIBRARIES if any(e.library == name for e in errors)]
    worst: dict[tuple[str, str, str], float] = {}
    for e in errors:
        for group, members in _GROUPS.items():
            if e.values in members:
                key = (e.measured, group, e.library)
                worst[key] = max(worst.get(key, 0), e.largest)
    rows = [
        [
            measured,
            group,
            *(number(worst[key]) if (key := (measured, group, name)) in worst else "" for name in libraries),
        ]
        for measured in _MEASURED
        for group in _GROUPS
    ]
    shapes = ", ".join(f"{rows:,} × {classes:,}" for rows, classes in _SHAPES)
    return f"Largest error in units in the last place, {dtype}, over {shapes} logits, against long double:\n\n" + table(
        ["result", "logits", *libraries], rows, 2
    )


def details(errors: list[Errors]) -> str:
    """Write every case: maximum and mean of each library."""
    by_case: dict[tuple, dict[str, str]] = {}
    for e in errors:
        key = (e.measured, f"{e.shape[0]:,} × {e.shape[1]:,}", e.values)
        by_case.setdefault(key, {})[e.library] = f"{number(e.largest)} ({number(e.mean)})"
    libraries = [name for name in _LIBRARIES if any(name in row for row in by_case.values())]
    rows = [[*key, *(row.get(name, "") for name in libraries)] for key, row in sorted(by_case.items())]
    return "Maximum (mean) error in ulp:\n\n" + table(["result", "shape", "logits", *libraries], rows, 3)


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input gives one line and the status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity", description=__doc__.splitlines()[0])
    parser.add_argument("--readme", type=Path, help="file with the markers <!-- fidelity:start --> and :end")
    parser.add_argument("--dtype", choices=["float32", "float64", "bfloat16"], default="float32")
    args = parser.parse_args(argv)
    dtype = dtype_named(args.dtype).type
    try:
        if np.finfo(np.longdouble).nmant <= finfo(dtype).nmant + 10:
            raise InputError(f"long double has too few digits here to judge {args.dtype}")
        cases = [(shape, values) for shape in _SHAPES for group in _GROUPS.values() for values in group]
        errors = [e for case in cases for e in measure(*case, dtype)]
        print(details(errors))
        if args.readme:
            replace_sections(args.readme, {"fidelity": summary(errors, args.dtype)})
    except InputError as error:
        print(f"fidelity: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
