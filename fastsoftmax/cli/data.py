"""Data sets: the digits that come with the package, `.npz` and `.csv` files, and what may be in them."""

import csv
import zipfile
from array import array
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]

CLIP = 5.0

_FEWEST_ROWS = 10
_EXACT = 2**53  # below this float64 holds every integer


class InputError(ValueError):
    """What the user gave is wrong: the message is all they need to see."""


class Dataset(NamedTuple):
    """Features X (N, D), classes y (N,) counted from 0, and the label that each class had."""

    name: str
    X: Array
    y: Array
    classes: Array


class Split(NamedTuple):
    """Standardised float32 features and classes, to train on and held out."""

    X: Array
    y: Array
    X_held_out: Array
    y_held_out: Array
    mean: Array
    scale: Array


class _Table(NamedTuple):
    X: Array
    labels: Array
    place: Callable[[int, int | None], str]  # of a row and a column, or of a row and its label


def load(path: Path | None) -> Dataset:
    """Load a `.npz` or `.csv` file, or the digits.

    Raises
    ------
    InputError
        If there is no such file or it is not as it should be.
    """
    if path is None:
        with (resources.files("fastsoftmax.cli") / "datasets" / "digits.npz").open("rb") as file:
            return _checked("digits", _read_npz(file))
    try:
        match path.suffix.lower():
            case ".npz":
                with open(path, "rb") as file:
                    return _checked(repr(path.name), _read_npz(file))
            case ".csv":
                with open(path, encoding="utf-8-sig", newline="") as text:
                    return _checked(repr(path.name), _read_csv(text))
            case suffix:
                raise InputError(f"expected a .npz or .csv file, got {suffix!r}")
    except InputError as error:
        raise InputError(f"argument --data: {str(path)!r}: {error}") from None
    except OSError as error:
        raise InputError(f"argument --data: {str(path)!r}: cannot be read: {error.strerror}") from None


def _read_npz(file: IO[bytes]) -> _Table:
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

    return _Table(X, labels, place)


def _read_csv(file: IO[str]) -> _Table:
    """Read lines of numbers with the label last; a first line whose last entry is no number is a header."""
    values = array("d")
    lines: list[int] = []
    width = 0
    reader = csv.reader(file)
    try:
        for cells in reader:
            if len(cells) < 2 and not "".join(cells).strip():
                continue
            if not width:
                width = len(cells)
                if width < 2:
                    raise InputError(f"expected at least 2 columns with commas between them, got {width}")
                if not _is_number(cells[-1]):
                    continue
            if len(cells) != width:
                raise InputError(f"expected {width} columns as before, got {len(cells)} in line {reader.line_num}")
            try:
                values.extend(map(float, cells))
            except ValueError:
                column = [_is_number(cell) for cell in cells].index(False)
                place = f"line {reader.line_num}, column {column + 1}"
                raise InputError(f"expected a number, got {cells[column]!r} in {place}") from None
            lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"expected UTF-8 text with commas: {error}") from None
    table = np.array(values).reshape(len(lines), max(width, 1))
    return _Table(
        table[:, :-1],
        table[:, -1],
        lambda row, column: f"line {lines[row]}, column {width if column is None else column + 1}",
    )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _checked(name: str, table: _Table) -> Dataset:
    """Require enough rows of finite features and of labels that are integers, and count the classes from 0."""
    X, labels, place = table
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
    exact = labels.astype(np.float64)
    whole = (exact >= 0) & (exact < _EXACT) & (np.floor(exact) == exact)
    if not whole.all():
        row = int(np.argmin(whole))
        raise InputError(f"expected labels that are integers from 0 up, got {labels[row]:g} in {place(row, None)}")
    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"expected at least 2 classes, got only the label {int(classes[0])}")
    return Dataset(name, X, y.astype(np.int64), classes.astype(np.int64))


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
