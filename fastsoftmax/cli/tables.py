"""Tables of text: which line is a header, which column holds the labels, and what in them looks like a mistake."""

import csv
import re
from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import IO, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from fastsoftmax.cli.errors import InputError

Array: TypeAlias = npt.NDArray[Any]

# What a column of labels may be called, the surest first.
_LABEL_NAMES = ("label", "class", "target", "species", "y")
_MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
_DELIMITERS = ",;\t"
# No underscores, which Python takes; digits and points of no other script.
_NUMBER = re.compile(r"\s*[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|nan|inf(?:inity)?)\s*", re.IGNORECASE | re.ASCII)
# Labels whose range is so many times the number of classes are measurements or names of something.
_SPARSE = 1_000


class Table(NamedTuple):
    """Features, labels, where each of them stands, and which column the labels were taken from."""

    X: Array
    labels: Array
    place: Callable[[int, int | None], str]  # of a row and a column, or of a row and its label
    label_column: str


def read(file: IO[str], label: str | None = None, drop: Sequence[str] = ()) -> Table:
    """Read lines of numbers and a label, in the column that `label` names or numbers, without those to `drop`.

    Raises
    ------
    InputError
        If something is no number or no label, or the column of labels does not look like one and `label` is None.
    """
    records = _records(file)
    beginning = list(islice(records, 2))
    if not beginning:
        return Table(np.empty((0, 1)), np.empty(0), lambda *_: "", "")
    width = len(beginning[0][1])
    header = _header(beginning)
    column, how = _label_column(header, width, label)
    dropped = {_column_of(name, header, width, "--drop") for name in drop}
    if column in dropped:
        raise InputError(f"--drop: expected other columns than that of the labels, got {how}: --label chooses another")
    features = [at for at in range(width) if at != column and at not in dropped]
    if not features:
        raise InputError(f"expected at least one column of features beside the labels' and those to drop, got {width}")

    values, codes, lines = array("d"), array("q"), array("q")
    known: dict[str, int] = {}
    for line, cells in chain(beginning[header is not None :], records):
        if len(cells) != width:
            raise InputError(f"expected {width} columns as before, got {len(cells)} in line {line}")
        values.extend(_numbers(cells, features, line))
        name = cells[column].strip()
        if name.lower() in _MISSING:
            raise InputError(f"expected a label, got {name!r} in line {line}, column {column + 1}")
        codes.append(known.setdefault(name, len(known)))
        lines.append(line)

    X = np.array(values).reshape(len(lines), len(features))

    def place(row: int, feature: int | None) -> str:
        return f"line {lines[row]}, column {(column if feature is None else features[feature]) + 1}"

    in_order = np.array(codes, np.int64)
    labels = _classes(list(known), lambda code: place(int(np.argmax(in_order == code)), None))[in_order]
    if label is None and len(lines):
        _judge_labels(labels, column)
        if column == width - 1:
            _judge_one_hot(np.column_stack([X, labels]) if labels.dtype.kind != "U" else X)
    if header is not None and not header[0].strip() and features[0] == 0:
        _judge_index(X[:, 0])
    return Table(X, labels, place, how)


def _records(file: IO[str]) -> Iterator[tuple[int, list[str]]]:
    """Give each record and the line it begins in, without empty ones."""
    begins, skipped = 1, 0
    try:
        first = file.readline()
        while first and not first.strip():
            first, skipped = file.readline(), skipped + 1
        begins = skipped + 1
        reader = csv.reader(chain([first], file), delimiter=_delimiter(first), strict=True)
        for cells in reader:
            if len(cells) == 1 and cells[0].strip():
                message = "expected at least 2 columns with commas, semicolons or tabs between them, got 1"
                raise InputError(f"{message} in line {begins}")
            if len(cells) > 1:
                yield begins, cells
            begins = skipped + reader.line_num + 1
    except UnicodeDecodeError as error:
        raise InputError(f"expected UTF-8 text with commas: {error}") from None
    except csv.Error as error:
        what = "a quote is opened and never closed" if "unexpected end" in str(error) else str(error)
        raise InputError(f"expected UTF-8 text with commas: {what}, in what begins in line {begins}") from None


def _delimiter(line: str) -> str:
    """Give what cuts a line into the most columns; commas may be the decimal points of what semicolons cut."""
    return max(reversed(_DELIMITERS), key=lambda mark: len(next(csv.reader([line], delimiter=mark))))


def _is_number(cell: str) -> bool:
    return _NUMBER.fullmatch(cell) is not None


def _numbers(cells: list[str], features: list[int], line: int) -> list[float]:
    try:
        if "_" in "".join(cells):
            raise ValueError  # which Python reads as part of a number
        return [float(cells[at]) for at in features]
    except ValueError:
        for at in features:
            if not _is_number(cells[at]):
                label = "" if cells[at].strip().lower() in _MISSING else f" (if it is the label: --label {at + 1})"
                message = f"expected a number, got {cells[at]!r} in line {line}, column {at + 1}{label}"
                raise InputError(message) from None
        return [float(cells[at]) for at in features]


def _header(beginning: list[tuple[int, list[str]]]) -> list[str] | None:
    """Give the first line's cells if they are names, as the whole line tells."""
    first = beginning[0][1]
    numbers = [_is_number(cell) for cell in first]
    counting = [str(number) for number in range(len(first))]
    if first == counting or first == ["", *counting[:-1]]:  # as pandas writes columns that have no names
        return first
    if not any(numbers):
        return first
    if len(beginning) == 2 and len(beginning[1][1]) == len(first):
        below = [_is_number(cell) for cell in beginning[1][1]]
        names = [cell.strip().lower() not in _MISSING and not _is_number(cell) for cell in first]
        # A name above a number, and not only in the last column, where it may be a label unlike the others.
        if any(name and number for name, number in zip(names[:-1], below[:-1], strict=True)):
            return first
    return None


def _label_column(header: list[str] | None, width: int, label: str | None) -> tuple[int, str]:
    """Give the column of the labels, and how to call it."""
    if label is not None:
        column = _column_of(label, header, width, "--label")
    else:
        names = [name.strip().lower() for name in header or []]
        column = next((names.index(name) for name in _LABEL_NAMES if name in names), width - 1)
    name = f", {header[column].strip()!r}" if header else ""
    return column, f"column {column + 1}{name}"


def _column_of(wanted: str, header: list[str] | None, width: int, option: str) -> int:
    """Find a column by its name, or by its number from 1 on."""
    names = [name.strip() for name in header or []]
    for known in (names, [name.lower() for name in names]):
        for name in (wanted, wanted.lower()):
            if known.count(name) == 1:
                return known.index(name)
    if wanted.isdecimal() and 1 <= int(wanted) <= width:
        return int(wanted) - 1
    some = f"one of {', '.join(map(repr, names[:20]))}, or a number" if names else "a number"
    raise InputError(f"{option}: expected {some} from 1 to {width}, got {wanted!r}")


def _classes(names: list[str], place: Callable[[int], str]) -> Array:
    """Make labels of what was found, in order: integers if the first is a number, else texts."""
    if not names or not _is_number(names[0]):
        return np.array(names)
    classes = []
    for code, name in enumerate(names):
        if not _is_number(name):
            raise InputError(f"expected a number like the labels before, got {name!r} in {place(code)}")
        # An integer of any size as it is; others as what they come to.
        classes.append(int(name) if re.fullmatch(r"[+-]?\d+", name) else float(name))
    return np.array(classes, object if any(abs(each) >= 2**63 for each in classes) else None)


def _judge_labels(labels: Array, column: int) -> None:
    """Refuse what is hardly a column of labels."""
    settle = "--label says which column holds the labels"
    if labels.dtype.kind == "f" and (np.floor(labels) != labels).mean() > 0.5:
        raise InputError(f"column {column + 1} looks like measurements, not labels: {settle}")
    if labels.dtype.kind not in "iU" or (labels.dtype.kind == "i" and not 0 <= labels.min() <= labels.max() < 2**53):
        return  # which is wrong in any column
    n_classes = len(set(labels.tolist()))
    if n_classes > max(len(labels) / 5, 2):
        raise InputError(
            f"{n_classes:,} classes in {len(labels):,} rows: column {column + 1} looks like measurements or numbers of "
            f"rows, not labels: {settle}"
        )
    if labels.dtype.kind == "i" and int(labels.max()) - int(labels.min()) > _SPARSE * n_classes:
        raise InputError(
            f"{n_classes:,} classes from {labels.min()} to {labels.max()}: column {column + 1} looks like measurements "
            f"or codes, not labels: {settle}"
        )


def _judge_one_hot(X: Array) -> None:
    """Refuse last columns of which one is 1 and the others 0 in each row; two may be features."""
    zeros_and_ones = ((X == 0) | (X == 1)).all(axis=0)
    count = len(zeros_and_ones) if zeros_and_ones.all() else int(np.argmin(zeros_and_ones[::-1]))
    for n_last in range(3, count + 1):
        last = X[:, -n_last:]
        if (last.sum(axis=1) == 1).all() and last.any(axis=0).all():
            raise InputError(
                f"the last {n_last} columns look like one label, one-hot: write it as one column, or name the column "
                "that holds the labels by --label"
            )


def _judge_index(first: Array) -> None:
    """Refuse a first column without a name if it counts the rows."""
    if len(first) > 1 and (np.diff(first) == 1).all():
        raise InputError("the first column has no name and counts the rows: --drop 1 leaves it out")
