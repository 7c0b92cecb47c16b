"""`fastsoftmax train`: it learns, both runs agree, what it writes is right, and a refusal is one line."""

import io
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

import fastsoftmax
from fastsoftmax import reference
from fastsoftmax.cli import data, main, train
from fastsoftmax.cli.network import ACTIVATIONS, Parameters, forward, initialise, loss_and_grads, sgd_step

QUICK = ["train", "--epochs", "2", "--hidden", "8"]


def status(argv):
    try:
        return main(argv)
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def everything_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def table(n_rows=60, n_columns=3, classes=(0, 1, 2)):
    """Rows scattered around a centre for each class, and some column of another size."""
    rng = np.random.default_rng(0)
    y = rng.integers(len(classes), size=n_rows)
    X = rng.standard_normal((n_rows, n_columns)) + 3 * rng.standard_normal((len(classes), n_columns))[y]
    X[:, -1] *= 1000
    return X, np.array(classes)[y]


def save_csv(X, y, name="data.csv", header=None, encoding="utf-8"):
    lines = [",".join([*map(repr, map(float, row)), str(label)]) for row, label in zip(X, y, strict=True)]
    with open(name, "w", encoding=encoding) as file:
        file.write("\n".join([*([header] if header else []), *lines]) + "\n")


# ---- what it does --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_defaults_learn_the_digits_and_both_runs_agree(seed, capsys):
    assert status(["train", "--seed", str(seed)]) == 0
    out, err = capsys.readouterr()
    right, count = map(int, re.search(r"held-out accuracy: .*\((\d+) of (\d+)\)", out).groups())
    assert count == 359
    assert right / count >= 0.97
    assert "agree to rounding" in out
    assert float(re.search(r"largest relative difference (\S+),", out)[1]) <= 1e-5
    ours, numpys, ratio = map(
        float, re.search(r"fastsoftmax (\S+) s, NumPy reference (\S+) s, NumPy / fastsoftmax (\S+)", out).groups()
    )
    assert ratio == pytest.approx(numpys / ours, rel=0.1)
    assert "compiling not counted" in out
    assert err == ""  # no progress bar where stderr is no terminal


ON_A_TERMINAL = """
import os, pty, sys, termios
child, terminal = pty.fork()
if not child:
    termios.tcsetwinsize(1, (24, 120))
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
try:
    while text := os.read(terminal, 1024):
        sys.stdout.buffer.write(text)
except OSError:  # its end, on Linux
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_what_compiles_is_shown(run_python, tmp_path):
    """By a bar, from the first kernel's beginning on, and by a line; the first time only."""
    pytest.importorskip("pty")
    command = ["-c", ON_A_TERMINAL, "-m", "fastsoftmax", *QUICK]
    # For a processor for which none has been compiled: kernels beside the sources would do.
    told = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "nehalem"}
    first, second = (run_python(*command, **told) for _ in range(2))
    assert re.search(r"compiling, once on this machine: 0 kernels .*linear", first)
    count = re.search(r"compiled (\d+) kernels in \d+\.\d s, once on this machine", first)[1]
    assert f"compiling, once on this machine: {count} kernels" in first
    assert "compil" not in second.replace("compiling not counted", "")


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_learns(activation, capsys):
    assert status(["train", "--activation", activation]) == 0
    assert float(re.search(r"accuracy: (\S+)%", capsys.readouterr().out)[1]) >= 95


def test_wrong_gradients_are_seen(monkeypatch, capsys):
    def wrong(inputs, doutputs, *, out):
        out[...] = 1.001 * reference.weight_grad(inputs, doutputs)

    monkeypatch.setattr(train, "fastsoftmax", SimpleNamespace(**{**vars(reference), "weight_grad": wrong}))
    assert status(QUICK) == 1
    assert "loss curves: DO NOT AGREE (largest relative difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("difference", "drift", "agree"),
    [(1e-6, None, True), (1e-3, 1e-3, True), (1e-3, 1e-6, False), (1e-3, 0, False), (0.5, 0.5, False)],
)
def test_agreement_is_measured_against_float64_where_rounding_grows(difference, drift, agree):
    numpys = np.array([2.0, 1.0, 0.5])
    losses = numpys * [1, 1 + difference, 1]

    def in_float64():
        assert drift is not None, "not needed"
        return numpys * [1, 1, 1 + drift]

    agrees, how = train.agreement(losses, numpys, in_float64)
    assert agrees is agree
    assert f"difference {difference:.1e}, in epoch 2" in how
    assert how.startswith("agree to rounding") if agree else how.startswith("DO NOT AGREE")


def test_compiling_is_outside_the_timing_and_changes_no_weights():
    """The first full and the first partial batch are slow to come, as if they were being compiled."""
    batch_sizes, weights = [], []

    def slow_at_first(inputs, weight, bias, labels):
        if len(labels) not in batch_sizes:
            time.sleep(0.5)
        batch_sizes.append(len(labels))
        return reference.linear_cross_entropy_with_grad(inputs, weight, bias, labels)

    def seen(inputs, weight, bias):
        weights.append(weight.copy())
        return reference.linear(inputs, weight, bias)

    ops = SimpleNamespace(**{**vars(reference), "linear_cross_entropy_with_grad": slow_at_first, "linear": seen})
    args = SimpleNamespace(activation="relu", epochs=1, batch_size=32, lr=0.1, momentum=0.9)
    X, y = table()
    p = Parameters(3, 4, 3)
    initialise(p, ACTIVATIONS["relu"], np.random.default_rng(0))
    X = X.astype(np.float32)
    train.run_batches_once(ops, p, X, y, args)
    bar = SimpleNamespace(set_postfix=lambda **_: None, update=lambda: None)
    run = train.train(ops, p.copy(), X, y, args, np.random.default_rng(1), bar)
    assert batch_sizes == [32, 28, 32, 28]
    assert run.seconds < 0.5
    for seen_weight in weights[:3]:  # of both rehearsals and of the first batch
        np.testing.assert_array_equal(seen_weight, p.W1)
    assert (weights[3] != p.W1).any()


def test_progress_bar_shows_the_loss(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert status(QUICK) == 0
    last = terminal.getvalue().splitlines()[-1].rpartition("\r")[2]
    assert re.search(r"NumPy: 100%.* 2/2 .*loss=\d", last)
    assert "fastsoftmax: 100%" in terminal.getvalue()
    assert "%|" not in capsys.readouterr().out


def test_saved_weights_reproduce_the_accuracy(folder, capsys):
    (folder / "w.npz").write_bytes(b"something older")
    assert status([*QUICK, "--save", "w.npz", "--seed", "3", "--activation", "tanh"]) == 0
    out = capsys.readouterr().out
    assert list(everything_in(folder)) == ["w.npz"]
    with np.load("w.npz", allow_pickle=False) as file:
        w = dict(file)
    assert w["W1"].dtype == np.float32
    assert w["activation"] == "tanh"
    digits = data.load(None)
    order = np.random.default_rng(np.random.SeedSequence(3).spawn(3)[0]).permutation(len(digits.X))
    X, y = digits.X[order[:359]], digits.y[order[:359]]
    hidden = np.tanh(np.clip((X - w["mean"]) / w["scale"], -w["clip"], w["clip"]) @ w["W1"] + w["b1"])
    right = np.count_nonzero(w["classes"][(hidden @ w["W2"] + w["b2"]).argmax(axis=1)] == y)
    assert f"({right} of 359)" in out
    assert right > 200


@pytest.mark.parametrize("name", ["curves.png", "curves.svg", "curves.PDF"])
def test_plot(name, folder, capsys):
    assert status([*QUICK, "--plot", name]) == 0
    assert list(everything_in(folder)) == [name]
    assert f"drew the loss curves in {name!r}" in capsys.readouterr().out
    content = (folder / name).read_bytes()
    if name.endswith("png"):
        assert len(np.unique(imread(name).reshape(-1, 4), axis=0)) > 10
    elif name.endswith("svg"):
        assert ET.fromstring(content).tag.endswith("svg")
    else:
        assert content.startswith(b"%PDF")


@pytest.mark.parametrize("losses", [[0.0, 0.0], [1.0, 0.0], [1.0]])
def test_plot_of_losses_no_logarithm_can_take(losses, folder):
    run = train.Run(None, np.array(losses), 1.0)
    assert train.picture(run, run, "png").startswith(b"\x89PNG")


def test_both_formats_give_the_same_run(capsys):
    X, y = table()
    np.savez("data.npz", X=X, y=y)
    save_csv(X, y)
    save_csv(X, y, "header.CSV", header="a,1,c,label")
    save_csv(X, y, "windows.csv", encoding="utf-8-sig")  # begins with a byte order mark
    results = []
    for name in ("data.npz", "data.csv", "header.CSV", "windows.csv"):
        assert status([*QUICK, "--data", name]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == f"data: '{name}', 60 rows of 3 features in 3 classes; 48 to train on, 12 held out"
        results.append([line for line in lines[1:] if not line.startswith(("time", "labels"))])
    assert results[1:] == 3 * results[:1]


@pytest.mark.parametrize("kind", [np.int8, np.uint64, np.float64, np.bool_])
def test_labels_are_mapped_and_the_mapping_saved(kind, capsys):
    X, y = table(classes=(0, 1) if kind is np.bool_ else (1, 4, 90))
    np.savez("data.npz", X=X, y=y.astype(kind))
    assert status([*QUICK, "--data", "data.npz", "--save", "w.npz"]) == 0
    with np.load("w.npz") as w:
        assert w["classes"].tolist() == sorted(set(y.tolist()))
        assert w["W2"].shape == (8, len(w["classes"]))


def test_batches_larger_than_the_data_and_a_single_epoch(capsys):
    X, y = table(10)
    np.savez("data.npz", X=X, y=y)
    assert status(["train", "--data", "data.npz", "--batch-size", "999", "--epochs", "1", "--plot", "p.png"]) == 0
    assert "1 epochs of 1 batches" in capsys.readouterr().out


def test_standardised_columns():
    X = np.random.default_rng(0).normal(5, 3, (200, 4))
    X[:, 1] = 0.1
    X[:, 2] = 0
    X[7, 2] = 1e-200  # its square, and so its deviation, is 0
    split = data.split(data.Dataset("", X, np.arange(200) % 2, np.arange(2)), np.random.default_rng(0))
    assert (split.X.shape, split.X_held_out.shape) == ((160, 4), (40, 4))
    assert split.X.dtype == split.X_held_out.dtype == np.float32
    np.testing.assert_allclose(split.X[:, [0, 3]].mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(split.X[:, [0, 3]].std(axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(split.X[:, [1, 2]], 0, atol=1e-15)
    np.testing.assert_allclose(split.X_held_out[:, [1, 2]], 0, atol=1e-15)
    assert data.standardise(np.array([1e9, -1e9]), 0, 1).tolist() == [5, -5]


# ---- what it refuses -----------------------------------------------------------------------------------------------


def refused(argv, capsys, folder):
    """Require status 2, a line on stderr, nothing on stdout and no file written; give the line."""
    before = everything_in(folder)
    assert status(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("fastsoftmax")
    assert "Traceback" not in err
    assert everything_in(folder) == before
    return err


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--epochs", value) for value in ("0", "-3", "1.5", "many", "1000001")),
        *(("--hidden", value) for value in ("0", "", "1e3")),
        *(("--batch-size", value) for value in ("0", "-1")),
        *(("--lr", value) for value in ("nan", "0", "-0.1", "inf", "fast")),
        *(("--momentum", value) for value in ("1", "-0.1", "nan", "x\ny")),
        *(("--seed", value) for value in ("-1", "0.5")),
        ("--activation", "gelu"),
        *(
            ("--save", value)
            for value in ("w.txt", "w", "nowhere/w.npz", "folder.npz", "file/w.npz", "a" * 300 + ".npz")
        ),
        *(("--plot", value) for value in ("p.bmp", "p", "nowhere/p.png", "folder.png")),
        *(("--data", value) for value in ("missing.npz", "missing.csv", "data.txt", "data", "folder.npz", "")),
    ],
)
def test_bad_options(option, value, capsys, folder):
    for name in ("folder.npz", "folder.png"):
        (folder / name).mkdir()
    (folder / "file").touch()
    others = [] if option in ("--save", "--plot") else ["--save", "w.npz", "--plot", "p.png"]
    err = refused(["train", option, value, *others], capsys, folder)
    assert err.startswith(f"fastsoftmax train: error: argument {option}: ")
    assert repr(value or "") in err or option in ("--data", "--save")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["tarin"], "invalid choice: 'tarin'"),
        (["train", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["train", "data.csv"], "unrecognized arguments: data.csv"),
        (["train", "--lr"], "argument --lr: expected one argument"),
    ],
)
def test_bad_command_lines(argv, message, capsys, folder):
    assert message in refused(argv, capsys, folder)


GOOD = [f"{i},{i % 7},{i % 2}" for i in range(12)]


def with_line(number, line):
    return "\n".join([*GOOD[: number - 1], line, *GOOD[number:]]).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected at least 10 rows, got 0"),
        (b"a,b,label\n", "expected at least 10 rows, got 0"),
        ("\n".join(GOOD[:9]).encode(), "expected at least 10 rows, got 9"),
        (b"1\n2\n", "expected at least 2 columns with commas, semicolons or tabs between them, got 1 in line 1"),
        (
            with_line(3, "1"),
            "expected at least 2 columns with commas, semicolons or tabs between them, got 1 in line 3",
        ),
        (with_line(3, "1,2"), "expected 3 columns as before, got 2 in line 3"),
        (with_line(3, "1,2,3,4"), "expected 3 columns as before, got 4 in line 3"),
        (with_line(12, "1,,0"), "expected a number, got '' in line 12, column 2"),
        (with_line(4, "1,high,0"), "expected a number, got 'high' in line 4, column 2"),
        (with_line(4, "1,2,cat"), "expected a number like the labels before, got 'cat' in line 4, column 3"),
        (with_line(4, "1,2,1_0"), "expected a number like the labels before, got '1_0' in line 4, column 3"),
        (with_line(4, "1_0,2,1"), "expected a number, got '1_0' in line 4, column 1"),
        (with_line(4, "1,2,"), "expected a label, got '' in line 4, column 3"),
        (with_line(1, "1,2,?"), "expected a label, got '?' in line 1, column 3"),
        (with_line(6, "1,2,nan"), "expected a label, got 'nan' in line 6, column 3"),
        (with_line(6, "1,2,9007199254740993"), "integers from 0 to 2⁵³ − 1, got 9007199254740993 in line 6, column 3"),
        (with_line(7, '1,"2,1'), "a quote is opened and never closed, in what begins in line 7"),
        (with_line(5, "nan,2,0"), "expected finite numbers in float32's range, got nan in line 5, column 1"),
        (with_line(5, "1,-inf,0"), "got -inf in line 5, column 2"),
        (with_line(5, "1,1e39,0"), "got 1e+39 in line 5, column 2"),
        (with_line(6, "1,2,0.5"), "expected labels that are integers from 0 to 2⁵³ − 1, got 0.5 in line 6, column 3"),
        (with_line(6, "1,2,-1"), "got -1 in line 6, column 3"),
        (with_line(6, "1,2,1e300"), "got 1e+300 in line 6, column 3"),
        (b"a,b,label\n\n" + with_line(1, "1,2,inf"), "got inf in line 3, column 3"),
        ("\n".join(f"{i},0" for i in range(12)).encode(), "expected at least 2 classes, got only the label 0"),
        (b"\x89PNG\x00\xff", "expected UTF-8 text with commas"),
        (with_line(2, "\x00,1,0"), "expected a number, got '\\x00' in line 2, column 1"),
        (with_line(2, "1" * 200_000 + ",1,0"), "expected UTF-8 text with commas: field larger than"),
    ],
)
def test_bad_csv(content, message, capsys, folder):
    (folder / "data.csv").write_bytes(content)
    err = refused(["train", "--data", "data.csv", "--save", "w.npz"], capsys, folder)
    assert err.startswith("fastsoftmax train: error: argument --data: 'data.csv': ")
    assert message in err


X, Y = np.arange(36.0).reshape(12, 3), np.arange(12) % 2


def replaced(values, index, value):
    values = values.astype(np.result_type(values, value))
    values[index] = value
    return values


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": X}, "expected arrays X and y, got X"),
        ({}, "expected arrays X and y, got none"),
        ({"X": X[:4], "y": Y[:4]}, "expected at least 10 rows, got 4"),
        ({"X": X, "y": Y[1:]}, "expected y of shape (12,), a label for each row of X, got (11,)"),
        ({"X": X, "y": Y[:, None]}, "got (12, 1)"),
        ({"X": X[:, 0], "y": Y}, "expected X of two dimensions, rows and columns, got shape (12,)"),
        ({"X": X[:, :0], "y": Y}, "got shape (12, 0)"),
        ({"X": X.astype(str), "y": Y}, "expected numbers in X, got <U"),
        ({"X": X.astype(complex), "y": Y}, "expected numbers in X, got complex128"),
        ({"X": X, "y": Y.astype(str)}, "expected numbers in y, got <U"),
        ({"X": X, "y": Y.astype(object)}, "cannot be read: Object arrays cannot be loaded"),
        ({"X": replaced(X, (2, 1), np.nan), "y": Y}, "got nan in X[2, 1]"),
        ({"X": replaced(X, (2, 1), np.float16(np.inf)), "y": Y}, "got inf in X[2, 1]"),
        ({"X": X, "y": replaced(Y, 5, 0.5)}, "got 0.5 in y[5]"),
        ({"X": X, "y": replaced(Y, 5, -2)}, "got -2 in y[5]"),
        ({"X": X, "y": 0 * Y}, "expected at least 2 classes"),
    ],
)
def test_bad_npz(arrays, message, capsys, folder):
    np.savez("data.npz", **arrays)
    err = refused(["train", "--data", "data.npz", "--save", "w.npz"], capsys, folder)
    assert err.startswith("fastsoftmax train: error: argument --data: 'data.npz': ")
    assert message in err


@pytest.mark.parametrize("damage", ["text", "array", "truncated", "flipped"])
def test_damaged_npz(damage, capsys, folder):
    np.savez("data.npz", X=X, y=Y)
    good = (folder / "data.npz").read_bytes()
    if damage == "array":
        with open("data.npz", "wb") as file:
            np.save(file, X)
    else:
        bad = {"text": b"hello", "truncated": good[:-30], "flipped": good.replace(X.tobytes(), X[::-1].tobytes())}
        (folder / "data.npz").write_bytes(bad[damage])
    assert "argument --data: 'data.npz': " in refused(["train", "--data", "data.npz"], capsys, folder)


def test_data_is_not_overwritten(capsys, folder):
    np.savez("data.npz", X=X, y=Y)
    err = refused(["train", "--data", "data.npz", "--save", "./data.npz"], capsys, folder)
    assert "argument --save: expected another file than that of --data" in err


@pytest.mark.parametrize(("option", "name"), [("--save", "w.npz"), ("--plot", "p.svg")])
def test_unwritable_outputs(option, name, capsys, folder, monkeypatch):
    """Root may write anywhere, so the file system's refusal is played."""
    (folder / name).write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        code = status([*QUICK, option, name])
    assert (code, capsys.readouterr().err) == (
        2,
        f"fastsoftmax train: error: argument {option}: '{name}' cannot be written: Permission denied\n",
    )
    monkeypatch.setattr(train.os, "access", lambda *_: False)
    assert f"argument {option}: expected a file that may be replaced" in refused([*QUICK, option, name], capsys, folder)


def test_a_failed_write_leaves_the_old_file(capsys, folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    (folder / "w.npz").write_bytes(b"old")
    monkeypatch.setattr(train.os, "replace", full)
    assert status([*QUICK, "--save", "w.npz"]) == 2
    assert "argument --save: 'w.npz' cannot be written: No space left on device\n" in capsys.readouterr().err
    assert everything_in(folder) == {"w.npz": b"old"}


@pytest.mark.parametrize(
    ("module", "argv", "extra"), [("tqdm", [], "cli"), ("matplotlib.figure", ["--plot", "p.png"], "plot")]
)
def test_missing_extras(module, argv, extra, capsys, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    assert f'pip install "fastsoftmax[{extra}]"' in refused([*QUICK, *argv], capsys, folder)


def test_divergence_ends_in_a_line(capsys, folder):
    assert status(["train", "--lr", "1e9", "--save", "w.npz"]) == 1
    err = capsys.readouterr().err
    assert re.fullmatch(r"fastsoftmax train: error: the loss became nan in epoch 1 with .*--lr 1000000000.0 .*\n", err)
    assert everything_in(folder) == {}


@pytest.mark.parametrize(
    ("exception", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "fastsoftmax train: interrupted\n"),
        (MemoryError("cannot have\n9 TiB"), 2, "fastsoftmax train: error: not enough memory: cannot have 9 TiB\n"),
    ],
)
def test_interrupt_and_memory(exception, code, line, capsys, folder, monkeypatch):
    def fail(*_):
        raise exception

    monkeypatch.setattr(train, "loss_and_grads", fail)
    assert status([*QUICK, "--save", "w.npz"]) == code
    assert capsys.readouterr().err == line
    assert everything_in(folder) == {}


def test_version_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "fastsoftmax", "--version"], capture_output=True, text=True, check=True, timeout=600
    )
    assert (done.stdout, done.stderr) == (f"fastsoftmax {fastsoftmax.__version__}\n", "")


def test_help_shows_the_defaults(capsys):
    assert status(["train", "--help"]) == 0
    assert "learning rate (default: 0.05)" in " ".join(capsys.readouterr().out.split())


# ---- the network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ops", [reference, fastsoftmax], ids=lambda ops: ops.__name__)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_by_finite_differences(activation, ops):
    rng = np.random.default_rng(2)
    X, y = rng.standard_normal((7, 3)), np.array([0, 1, 2, 3, 0, 1, 3])
    p = Parameters(3, 5, 4, np.float64)
    p.flat[...] = rng.standard_normal(p.flat.size)
    grads, scratch = p.copy(), p.copy()
    activation = ACTIVATIONS[activation]
    assert loss_and_grads(ops, activation, p, X, y, grads).dtype == np.float64
    h = 1e-6
    assert np.abs(reference.linear(X, p.W1, p.b1)).min() > 100 * h, "too close to the kink of the rectifier"
    for i in range(p.flat.size):
        losses = []
        for step in (h, -h):
            q = p.copy()
            q.flat[i] += step
            losses.append(loss_and_grads(ops, activation, q, X, y, scratch))
        assert grads.flat[i] == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-6, abs=1e-8), f"parameter {i}"


@pytest.mark.parametrize(
    ("activation", "definition"),
    [("relu", lambda z: np.maximum(z, 0)), ("tanh", np.tanh), ("sigmoid", lambda z: 1 / (1 + np.exp(-z)))],
)
def test_forward_is_the_definition_in_float32(activation, definition):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((4, 3)).astype(np.float32)
    p = Parameters(3, 5, 2)
    p.flat[...] = rng.standard_normal(p.flat.size)
    a1, z2 = forward(reference, ACTIVATIONS[activation], p, X)
    assert a1.dtype == z2.dtype == np.float32
    expected = definition(X @ p.W1 + p.b1)
    np.testing.assert_allclose(a1, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(z2, expected @ p.W2 + p.b2, rtol=1e-5, atol=1e-6)


def test_sgd_step_has_momentum():
    p, grads = Parameters(1, 1, 1), Parameters(1, 1, 1)
    velocity = np.full(4, 2, np.float32)
    p.flat[...] = 10
    grads.W1[...] = 4
    sgd_step(p, grads, velocity, lr=0.5, momentum=0.25)
    assert velocity.tolist() == [4.5, 0.5, 0.5, 0.5]
    assert [float(v.item()) for v in (p.W1, p.b1, p.W2, p.b2)] == [7.75, 9.75, 9.75, 9.75]
