"""Data sets: the digits that come with the package, `.npz` and `.csv` files, and what may be in them."""

import gzip
import zipfile
import zlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastsoftmax.cli import tables
from fastsoftmax.cli.errors import InputError
from fastsoftmax.cli.tables import Table

Array: TypeAlias = npt.NDArray[Any]

CLIP = 5.0

_FEWEST_ROWS = 10
_EXACT = 2**53  # below this float64 holds every integer


class Dataset(NamedTuple):
    """Features X (N, D), classes y (N,) counted from 0, and the label that each class had."""

    name: str
    X: Array
    y: Array
    classes: Array
    label_column: str = ""  # which one it was of several that could have been


class Split(NamedTuple):
    """Standardised float32 features and classes, to train on and held out."""

    X: Array
    y: Array
    X_held_out: Array
    y_held_out: Array
    mean: Array
    scale: Array


def load(path: Path | None, label: str | None = None, drop: Sequence[str] = ()) -> Dataset:
    """Load a `.npz` or `.csv` file, or the digits; `label` and `drop` name columns of a `.csv`.

    Raises
    ------
    InputError
        If there is no such file or it is not as it should be.
    """
    is_text = path is not None and path.name.lower().endswith((".csv", ".csv.gz"))
    for option, given in (("--label", label), ("--drop", drop)):
        if given and not is_text:
            raise InputError(f"argument {option}: expected a .csv file as --data, whose columns it could name")
    if path is None:
        with (resources.files("fastsoftmax.cli") / "datasets" / "digits.npz").open("rb") as file:
            return _checked("digits", _read_npz(file))
    try:
        if is_text:
            with _open_text(path) as text:
                return _checked(repr(path.name), tables.read(text, label, drop))
        if path.suffix.lower() == ".npz":
            with open(path, "rb") as file:
                return _checked(repr(path.name), _read_npz(file))
        raise InputError(f"expected a .npz, .csv or .csv.gz file, got {path.suffix!r}")
    except InputError as error:
        raise InputError(f"argument --data: {str(path)!r}: {error}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            f"argument --data: {str(path)!r}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def _open_text(path: Path) -> IO[str]:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return open(path, encoding="utf-8-sig", newline="")


def _read_npz(file: IO[bytes]) -> Table:
    """Read the arrays `X` and `y`."""
    if not zipfile.is_zipfile(file):
        raise InputError("expected an .npz file as numpy.savez writes it, got something else")
    file.seek(0)
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = {"X", "y"} - set(arrays)
            if missing:
                raise InputError(f"expected arrays X and y, got {', '.join(sorted(arrays)) or 'none'}")
            X, labels = arrays["X"], arrays["y"]
    except (InputError, MemoryError):
        raise
    except Exception as error:  # a damaged archive can raise nearly anything
        raise InputError(f"cannot be read: {error}") from None
    for name, values in (("X", X), ("y", labels)):
        if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf":
            raise InputError(f"expected numbers in {name}, got {getattr(values, 'dtype', type(values).__name__)}")
    if X.ndim != 2 or X.shape[1] == 0:
        raise InputError(f"expected X of two dimensions, rows and columns, got shape {X.shape}")
    if labels.shape != X.shape[:1]:
        raise InputError(f"expected y of shape ({len(X)},), a label for each row of X, got {labels.shape}")

    def place(row: int, column: int | None) -> str:
        return f"y[{row}]" if column is None else f"X[{row}, {column}]"

    return Table(X, labels, place, "")


def _checked(name: str, table: Table) -> Dataset:
    """Require enough rows of finite features and of labels that are integers, and count the classes from 0."""
    X, labels, place, label_column = table
    if len(X) < _FEWEST_ROWS:
        raise InputError(f"expected at least {_FEWEST_ROWS} rows, got {len(X)}")
    largest = np.finfo(np.float32).max
    if X.dtype.kind == "f":
        bad = np.argwhere(~(np.abs(X) <= largest))  # NaN is not below anything
        if len(bad):
            row, column = map(int, bad[0])
            raise InputError(
                f"expected finite numbers in float32's range, got {X[row, column]} in {place(row, column)}"
            )
    if labels.dtype.kind != "U":
        exact = labels.astype(np.float64)
        whole = (exact >= 0) & (exact < _EXACT) & (np.floor(exact) == exact)
        if not whole.all():
            row = int(np.argmin(whole))
            found = f"{labels[row]:g}" if labels.dtype.kind == "f" else str(labels[row])
            raise InputError(f"expected labels that are integers from 0 to 2⁵³ − 1, got {found} in {place(row, None)}")
        labels = labels.astype(np.int64)
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"expected at least 2 classes, got only the label {classes[0]}")
    return Dataset(name, X, y.astype(np.int64), classes, label_column)


def split(dataset: Dataset, rng: np.random.Generator) -> Split:
    """Hold out a fifth of the rows, drawn at random, and standardise all by the mean and deviation of the others."""
    order = rng.permutation(len(dataset.X))
    held_out, train = np.split(order, [len(order) // 5])
    X = dataset.X[train].astype(np.float64)
    mean, scale = X.mean(axis=0), X.std(axis=0)
    # The deviation of a constant column is 0 but for rounding, and nothing to divide by.
    scale[(X.min(axis=0) == X.max(axis=0)) | (scale == 0)] = 1
    X_held_out = standardise(dataset.X[held_out], mean, scale)
    return Split(standardise(X, mean, scale), dataset.y[train], X_held_out, dataset.y[held_out], mean, scale)


def standardise(X: Array, mean: Array, scale: Array) -> Array:
    """Compute (X − mean) / scale within ±CLIP: what a nearly constant column hardly ever holds is far out."""
    return np.clip((X - mean) / scale, -CLIP, CLIP).astype(np.float32)
