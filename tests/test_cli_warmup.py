"""`fastsoftmax warmup`: after it nothing is left to compile, and where nothing would be kept it says so."""

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastsoftmax.cli import main, warmup
from fastsoftmax.kernels.compiling import cache, target
from fastsoftmax.kernels.cross_entropy import total_loss

# For two dtypes, eight of them for a weight in either order; the labels' count and their weights, the losses' sum, the
# workers and their pool are of one type.
KERNELS = 2 * (46 + 8) + 5

# Every public function in each dtype, on few and many classes, small and large arrays: what was compiled for that, and
# what was found.
EVERYTHING = """
import sys
import numpy as np
import fastsoftmax as fs
sys.path.insert(0, sys.argv[1])
import conftest
from fastsoftmax.kernels.operations import HELPERS
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS

def call(change):
    for name, kwargs in arguments.items():
        if name != "softmax_jacobian":
            getattr(fs, name)(**{key: change(value) if isinstance(value, np.ndarray) else value
                                 for key, value in kwargs.items()})

def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array

for dtype in (np.float32, np.float64):
    for rows in (3, 8192):
        for classes in (5, 130):
            arguments = conftest.arguments(rows, classes, dtype)
            call(lambda array: array)
            call(read_only)
            call(np.asfortranarray)
            call(lambda array: array.astype(array.dtype.newbyteorder("S")))
            for labels in (np.zeros(rows, np.uint8), [0] * rows):
                fs.cross_entropy_with_grad(arguments["softmax"]["logits"], labels, reduction="sum", ignore_index=1)
            for out in (np.empty((rows, classes), dtype), np.empty((classes, rows), dtype).T):
                fs.cross_entropy_with_grad(dloss=np.ones(rows), out=out, **arguments["cross_entropy_with_grad"])
tuning.STREAM_CLASSES = tuning.STREAM_BYTES = 0
for dtype in (np.float32, np.float64):
    for rows in (3, 8192):
        for classes in (5, 130):
            arguments = conftest.arguments(rows, classes, dtype)
            call(lambda array: array)
            call(np.asfortranarray)
tuning.BLOCKED_BYTES = 0
for dtype in (np.float32, np.float64):
    for rows in (3, 8192):
        arguments = conftest.arguments(rows, 130, dtype)
        call(lambda array: array)
HELPERS.thread_ids.parallel(np.empty(2, np.int64))  # where there is one processor no call does
print(sum(d.stats.cache_misses.total() for d in DISPATCHERS), sum(d.stats.cache_hits.total() for d in DISPATCHERS))
"""


def run(*arguments, **environment):
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", **environment}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def numbers(line):
    match = re.fullmatch(r"(\d+) kernels compiled, (\d+) were there already: (\d+\.\d) s, in '(.+)'\n", line)
    return int(match[1]), int(match[2]), float(match[3]), Path(match[4])


def test_nothing_is_left_to_compile():
    """In the folder of this environment: what other tests have compiled need not be compiled again."""
    first = run("-m", "fastsoftmax", "warmup", NUMBA_NUM_THREADS="1")  # as where images are built
    assert (first.returncode, first.stderr) == (0, "")
    compiled, there, _, folder = numbers(first.stdout)
    assert compiled + there == KERNELS
    assert len(list(folder.glob("*.kernel"))) >= compiled  # the others may stand beside the sources
    again = run("-m", "fastsoftmax", "warmup")
    compiled, there, seconds, same_folder = numbers(again.stdout)
    assert (compiled, there, same_folder) == (0, KERNELS, folder)
    assert seconds < 20
    calls = run("-c", EVERYTHING, str(Path(__file__).parent))
    assert calls.returncode == 0, calls.stderr
    assert calls.stdout.split() == ["0", str(KERNELS - 5)]  # all but what weights and probabilities alone ask for


@pytest.mark.exhaustive
def test_nothing_is_left_to_compile_of_a_half_type(half, tmp_path):
    """In a folder of its own, without what others have compiled for float32, which is what halves are computed in."""
    name, place = half.__name__, {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = run("-m", "fastsoftmax", "warmup", "--dtype", name, **place)
    assert (done.returncode, done.stderr) == (0, "")
    assert sum(numbers(done.stdout)[:2]) > KERNELS // 2
    of_halves = {
        "import conftest\n": "import conftest\nfrom conftest import HALVES\n",
        "(np.float32, np.float64)": f"[half for half in HALVES if half.__name__ == '{name}']",
        "conftest.arguments(": "of_halves(",
        "def call(": """np.seterr(all="ignore")
def of_halves(rows, classes, dtype):
    calls = conftest.arguments(rows, classes, np.float32)
    return {name: {key: value.astype(dtype) if getattr(value, "dtype", None) == np.float32 else value
                   for key, value in given.items()} for name, given in calls.items()}

def call(""",
    }
    code = EVERYTHING
    for old, new in of_halves.items():
        code = code.replace(old, new)
    if name == "bfloat16":  # of which NumPy knows one order of bytes
        code = "".join(line for line in code.splitlines(keepends=True) if "newbyteorder" not in line)
    calls = run("-c", code, str(Path(__file__).parent), **place)
    assert calls.returncode == 0, calls.stderr
    assert calls.stdout.split()[0] == "0"


# Losses with options, by every regime.
WITH_OPTIONS = """
import sys
import numpy as np
import fastsoftmax as fs
sys.path.insert(0, sys.argv[1])
import conftest
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS

REGIMES = (10**9, 10**9, 2**30), (0, 0, 2**30), (0, 0, 0)
for tuning.STREAM_CLASSES, tuning.STREAM_BYTES, tuning.BLOCKED_BYTES in REGIMES:
    for classes in (5, 130):
        calls = conftest.arguments(3, classes, np.float32)
        for name in calls:
            if "cross_entropy" in name and not name.endswith("hvp"):
                options = {"class_weight": np.ones(classes), "sample_weight": np.ones(3)}
                getattr(fs, name)(**calls[name], **options)
                getattr(fs, name)(**calls[name], label_smoothing=0.1, z_loss=0.1, class_weight=np.ones(classes))
                probs = {"labels": np.ones((3, classes), np.float32)}
                getattr(fs, name)(**calls[name] | probs, softcap=2.0, return_stats=True)
        where = np.ones((3, classes), bool)
        for name in ("softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_with_grad"):
            getattr(fs, name)(**calls[name], scale=0.5, where=where)
print(sum(d.stats.cache_misses.total() for d in DISPATCHERS))
"""


@pytest.mark.exhaustive
def test_nothing_is_left_to_compile_of_named_options():
    sets = [["sample_weight", "class_weight"], ["z_loss", "label_smoothing", "class_weight"]]
    sets += [["return_stats", "label_probs", "softcap"], ["where", "scale"]]
    arguments = [word for names in sets for word in ("--options", *names)]
    done = run("-m", "fastsoftmax", "warmup", "--dtype", "float32", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    calls = run("-c", WITH_OPTIONS, str(Path(__file__).parent))
    assert (calls.stdout, calls.stderr) == ("0\n", "")


@pytest.mark.parametrize(
    ("environment", "line"),
    [
        ({"FASTSOFTMAX_CACHE": "0"}, "FASTSOFTMAX_CACHE is 0, so every process compiles its kernels anew: unset it"),
        ({"NUMBA_DISABLE_JIT": "1"}, "NUMBA_DISABLE_JIT is set, and no kernel runs without being compiled: unset it"),
    ],
)
def test_nothing_would_be_kept(environment, line):
    done = run("-m", "fastsoftmax", "warmup", **environment)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"fastsoftmax warmup: error: {line}\n")


def test_no_folder_can_be_written():
    """Root may write anywhere, so the refusal is played: Numba tries a folder by a temporary file."""
    code = """
import sys, tempfile
def refuse(*_, **__): raise PermissionError(13, "Permission denied")
tempfile.TemporaryFile = refuse
from fastsoftmax.cli import main
sys.exit(main(["warmup"]))
"""
    done = run("-c", code)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        "fastsoftmax warmup: error: no folder .* can be written, .*: set NUMBA_CACHE_DIR .*\n", done.stderr
    )


# ---- in this process, with a call or two ---------------------------------------------------------------------------


def status(argv):
    try:
        return main(argv)
    except SystemExit as exit_:
        return exit_.code


@pytest.fixture
def asked_for(monkeypatch):
    """The dtypes that are warmed up; of all kernels only the sum of the losses is compiled."""
    dtypes = []

    def one_kernel(asked, options):
        dtypes.extend(asked)
        return [("total_loss", total_loss.dispatcher, total_loss.signature(dtype)) for dtype in asked]

    monkeypatch.setattr(warmup, "everything", one_kernel)
    return dtypes


@pytest.mark.parametrize(
    ("argv", "dtypes"),
    [
        ([], ["float32", "float64"]),
        (["--dtype", "float32"], ["float32"]),
        (["--dtype", "float64"], ["float64"]),
        (["--dtype", "bfloat16"], ["bfloat16", "float32"]),
    ],
)
def test_dtypes(argv, dtypes, asked_for):
    assert status(["warmup", *argv]) == 0
    assert asked_for == dtypes


def test_progress_bar(asked_for, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert status(["warmup"]) == 0
    assert "compiling: 100%" in terminal.getvalue()
    assert " 2/2 " in terminal.getvalue()
    numbers(capsys.readouterr().out)


def test_no_bar_without_tqdm(asked_for, monkeypatch, capsys):
    """The base install has none."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert status(["warmup"]) == 0
    numbers(capsys.readouterr().out)


def test_kernels_that_are_not_kept_are_missed(asked_for, monkeypatch, capsys, tmp_path):
    """A folder may be written when the process starts, and be full when it ends."""
    monkeypatch.setattr(cache._Files, "_file", lambda *_: tmp_path / "missing" / "kernel")
    assert status(["warmup", "--dtype", "float32"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"fastsoftmax warmup: error: (\d+) of \1 kernels could not be written to '.+'\n", err)


@pytest.mark.exhaustive
def test_report(tmp_path):
    """Dearest first; with an empty cache, and none beside the sources, everything is compiled."""
    package = Path(warmup.__file__).parents[1]
    shutil.copytree(package, tmp_path / "fastsoftmax", ignore=shutil.ignore_patterns("__pycache__"))
    places = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = run("-P", "-m", "fastsoftmax", "warmup", "--report", "--dtype", "float64", **places)
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows, last = done.stdout.splitlines()
    assert header.split() == ["seconds", "IR", "lines", "assembly", "kernel"]
    seconds = [float(row.split()[0]) for row in rows]
    assert seconds == sorted(seconds, reverse=True)
    assert len(rows) == numbers(last + "\n")[0] == KERNELS - 54


@pytest.mark.exhaustive
def test_another_processor(tmp_path):
    """What is compiled for a level serves this processor where it has all of it, and is compiled for once."""
    if "x86-64-v3" not in target.levels_here():
        pytest.skip("no processor of this level")
    arguments = "-m", "fastsoftmax", "warmup", "--dtype", "float32", "--cpu", "x86-64-v3", "--into", str(tmp_path)
    first, second = run(*arguments), run(*arguments)
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert "kernels compiled for x86-64-v3, 0 were there" in first.stdout
    assert second.stdout.startswith("0 kernels compiled")
    code = """
import numpy as np
import fastsoftmax as fs
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
print(fs.softmax(np.zeros((1, 2), np.float32)).tolist(), *(d.stats.cache_misses.total() for d in DISPATCHERS))
"""
    done = run("-c", code, NUMBA_CACHE_DIR=str(tmp_path))
    assert done.stdout == "[[0.5, 0.5]] 0\n", done.stderr


@pytest.mark.parametrize(
    ("argv", "error"),
    [
        (["--dtype", "float8"], "argument --dtype: invalid choice: 'float8'"),
        (["--fast"], "unrecognized arguments: --fast"),
        (["--cpu", "z80"], "argument --cpu: invalid choice: 'z80'"),
        (["--into", "/nowhere/at/all"], "argument --into: expected a folder that exists, got '/nowhere/at/all'"),
    ],
)
def test_bad_arguments(argv, error, capsys):
    assert status(["warmup", *argv]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"fastsoftmax warmup: error: {error}")
    assert err.count("\n") == 1
