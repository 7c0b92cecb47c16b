"""`train --data FILE.csv`: the right column, whatever the file calls it, or a line that says what settles it."""

import gzip
import io

import numpy as np
import pytest

from fastsoftmax.cli import main, tables
from fastsoftmax.cli.errors import InputError

RNG = np.random.default_rng(0)
N_ROWS = 40
X = RNG.standard_normal((N_ROWS, 3)).round(3)
Y = RNG.integers(3, size=N_ROWS)
KINDS = np.array(["setosa", "versicolor", "virginica"])[Y]


def text(*columns, header=None, mark=","):
    lines = [mark.join(map(str, cells)) for cells in zip(*columns, strict=True)]
    return "\n".join([*([header] if header is not None else []), *lines]) + "\n"


def read(content, label=None, drop=()):
    return tables.read(io.StringIO(content), label, drop)


def same(table, features, labels):
    np.testing.assert_array_equal(table.X, features)
    np.testing.assert_array_equal(table.labels, labels)


@pytest.mark.parametrize("name", ["label", "CLASS", " Target ", "species", "y"])
@pytest.mark.parametrize("at", [0, 1, 3])
def test_the_label_is_found_by_its_name(name, at):
    columns, names = list(X.T), ["p0", "p1", "p2"]
    columns.insert(at, Y)
    names.insert(at, name)
    table = read(text(*columns, header=",".join(names)))
    same(table, X, Y)
    assert table.label_column == f"column {at + 1}, {name.strip()!r}"


def test_the_surest_name_is_taken():
    assert read(text(X[:, 0], X[:, 1], Y, header="x,y,label")).label_column == "column 3, 'label'"


@pytest.mark.parametrize("header", ["p0,p1,p2,kind", "0,1,2,3", "p0,1,2,kind", None])
def test_the_last_column_otherwise(header):
    table = read(text(*X.T, Y, header=header))
    same(table, X, Y)
    assert table.label_column == ("column 4" if header is None else f"column 4, {header.split(',')[-1]!r}")


def test_headers_of_numbers():
    """As pandas writes columns without names: no row, and no class."""
    table = read("0,1\n" + "1.5,0\n2.5,5\n" * 5)
    same(table, [[1.5], [2.5]] * 5, [0, 5] * 5)


@pytest.mark.parametrize("label", ["1", "kind", "Kind", " kind"])
def test_the_label_that_is_asked_for(label):
    table = read(text(Y, *X.T, header="Kind,a,b,y"), label.strip())
    same(table, X, Y)


def test_a_name_goes_before_a_number():
    same(read(text(*X.T, Y, header="4,b,c,1"), "1"), X, Y)


@pytest.mark.parametrize(
    ("label", "expected"), [("5", "from 1 to 4"), ("0", "from 1 to 4"), ("d", "'a', 'b', 'c', 'kind'")]
)
def test_no_such_column(label, expected):
    with pytest.raises(InputError, match=f"--label: expected .*{expected}.*, got {label!r}"):
        read(text(*X.T, Y, header="a,b,c,kind"), label)
    with pytest.raises(InputError, match=f"--drop: expected .*{expected}.*, got {label!r}"):
        read(text(*X.T, Y, header="a,b,c,kind"), None, [label])


def test_text_labels_are_classes():
    same(read(text(*X.T, KINDS)), X, KINDS)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_delimiters(mark):
    same(read(text(*X.T, Y, header=mark.join(["a", "b, c", "d", "kind"]) if mark != "," else None, mark=mark)), X, Y)


def test_columns_are_dropped():
    table = read(text(range(N_ROWS), *X.T, Y, header=",a,b,c,y"), drop=["1", "b"])
    same(table, X[:, [0, 2]], Y)
    assert table.place(0, 1) == "line 2, column 4"


def test_the_labels_are_not_dropped():
    with pytest.raises(InputError, match="--drop: expected other columns than that of the labels, got column 4"):
        read(text(*X.T, Y), drop=["4"])


WINE = text(Y, *X.T)
ALCOHOL = text(Y, *X.T, range(500, 500 + N_ROWS))
CODES = np.array([10115, 20095, 80331])[Y]
ONE_HOT = np.eye(3, dtype=int)[Y]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WINE, "column 4 looks like measurements, not labels: --label says which"),
        (ALCOHOL, "40 classes in 40 rows: column 5 looks like measurements or numbers of rows, not labels: --label"),
        (text(KINDS, *X.T), "expected a number, got '.*' in line 1, column 1 .if it is the label: --label 1.$"),
        (text(*X.T, Y, range(N_ROWS)), "40 classes in 40 rows: column 5 looks like"),
        (text(*X.T, CODES), "3 classes from 10115 to 80331: column 4 looks like measurements or codes"),
        (text(range(N_ROWS), *X.T, Y, header=",a,b,c,y"), "the first column has no name and counts the rows: --drop 1"),
        (text(*X.T, *ONE_HOT.T), "the last 3 columns look like one label, one-hot: .* --label"),
    ],
    ids=["measurements", "label first", "text label first", "id last", "codes", "index", "one-hot"],
)
def test_what_is_hardly_a_label(content, message):
    with pytest.raises(InputError, match=message):
        read(content)


def test_what_the_user_says_is_taken():
    same(read(WINE, "1"), X, Y)
    same(read(text(*X.T, CODES), "4"), X, CODES)
    same(read(text(*X.T, *ONE_HOT.T), "6"), np.column_stack([X, ONE_HOT[:, :2]]), ONE_HOT[:, 2])
    same(read(text(*X.T, KINDS, range(N_ROWS)), "4", ["5"]), X, KINDS)


def test_a_compressed_file_and_its_classes_are_saved(tmp_path, capsys):
    path = tmp_path / "iris.csv.gz"
    path.write_bytes(gzip.compress(text(KINDS, *X.T, header="species,a,b,c").encode()))
    save = tmp_path / "w.npz"
    assert main(["train", "--data", str(path), "--epochs", "1", "--hidden", "4", "--save", str(save)]) == 0
    out = capsys.readouterr().out
    assert "data: 'iris.csv.gz', 40 rows of 3 features in 3 classes" in out
    assert "labels: column 1, 'species'\n" in out
    with np.load(save) as saved:
        assert saved["classes"].tolist() == ["setosa", "versicolor", "virginica"]


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b\x08", gzip.compress(WINE.encode())[:-9], b"a,b\n1,2\n"])
def test_a_damaged_compressed_file(content, tmp_path, capsys):
    path = tmp_path / "data.csv.gz"
    path.write_bytes(content)
    with pytest.raises(SystemExit) as exit_:
        main(["train", "--data", str(path)])
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("option", ["--label", "--drop"])
def test_options_of_a_table_need_one(option, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["train", option, "1"])
    assert exit_.value.code == 2
    assert f"argument {option}: expected a .csv file as --data" in capsys.readouterr().err
