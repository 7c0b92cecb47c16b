"""The cache of compiled kernels: on where it can be written, never stale, never torn, and off when told."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax

PACKAGE = Path(fastsoftmax.__file__).parent
NOWHERE = "/proc/nowhere"  # where even root creates nothing
CALL = """
import numpy as np
from fastsoftmax.kernels.labels import count_labels as kernel
result = kernel.serial(np.zeros(3, np.int64), 2, -100)
assert result == 3, result
"""
# One whose mathematics stands in another file.
CALL_WITH_HELPERS = """
import numpy as np
from fastsoftmax.kernels.operations import LOGSUMEXP
kernel = LOGSUMEXP.cached
lse = np.zeros(1)
kernel.serial(np.zeros((1, 100)), lse)
result = lse[0]
"""
REPORT = """
print("loaded" if kernel.dispatcher.stats.cache_hits else "compiled", result)
"""
# Root may write anywhere, so the refusal is played: Numba and the library try a folder by a temporary file.
REFUSE = """
import functools, os, tempfile
def refuse_outside(create, **options):
    if not os.environ["WRITABLE"] or not options["dir"].startswith(os.environ["WRITABLE"]):
        raise PermissionError(13, "Permission denied")
    return create(**options)
tempfile.TemporaryFile = functools.partial(refuse_outside, tempfile.TemporaryFile)
"""
COMPILED, LOADED = "compiled 3", "loaded 3"


def kernels(folder):
    return sorted(folder.rglob("*.kernel"))


def copy(folder):
    return Path(shutil.copytree(PACKAGE, folder / "fastsoftmax", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of a package beside whose sources nothing is kept."""
    return str(copy(tmp_path_factory.mktemp("site")).parent)


@pytest.fixture
def call(run_python, tmp_path, site):
    """A function that runs a kernel in a fresh process: was it compiled or loaded, and what did it give?"""

    def call_kernel(code=CALL, before="", **environment):
        environment = {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": site, **environment}
        return run_python("-c", before + code + REPORT, **environment)

    return call_kernel


@pytest.fixture(scope="module")
def full_cache(run_python, tmp_path_factory, site):
    folder = tmp_path_factory.mktemp("full")
    run_python("-c", CALL, NUMBA_CACHE_DIR=str(folder), PYTHONPATH=site)
    return folder


@pytest.fixture
def full(full_cache, tmp_path):
    """The folder of a cache that holds the kernel."""
    return Path(shutil.copytree(full_cache, tmp_path / "cache"))


@pytest.fixture
def package(tmp_path):
    """A copy of the package, to change."""
    return copy(tmp_path / "site")


def test_compiled_once(call):
    assert [call(), call()] == [COMPILED, LOADED]


def test_what_is_compiled_is_logged(call):
    """At INFO, with its seconds; what is loaded is not."""
    log = "import logging, sys\nlogging.basicConfig(level='INFO', stream=sys.stdout, format='%(name)s: %(message)s')\n"
    first, second = (call(before=log) for _ in range(2))
    log, result = first.splitlines()
    assert re.fullmatch(r"fastsoftmax: compiled count_labels\(.*\) in \d+\.\d\d s", log)
    assert (result, second) == (COMPILED, LOADED)


def test_off(call, full):
    files = kernels(full)
    assert call(FASTSOFTMAX_CACHE="0") == COMPILED
    files[0].unlink()
    assert call(FASTSOFTMAX_CACHE="0") == COMPILED
    assert kernels(full) == files[1:]


def test_no_folder_can_be_written(call, package, tmp_path):
    """Neither the one asked for, nor beside the sources, nor at home."""
    (package / "kernels" / "__pycache__").write_text("a file is no folder")
    nowhere = dict.fromkeys(("NUMBA_CACHE_DIR", "HOME", "XDG_CACHE_HOME"), NOWHERE)
    assert call(PYTHONPATH=str(package.parent), PYTHONWARNINGS="error", **nowhere) == COMPILED
    assert kernels(tmp_path) == []


def test_beside_the_sources(call, package):
    assert call(PYTHONPATH=str(package.parent), NUMBA_CACHE_DIR="") == COMPILED
    assert kernels(package / "kernels" / "__pycache__")


@pytest.mark.parametrize("name", ["site-packages", "dist-packages"])
def test_not_beside_what_is_installed(call, tmp_path, name):
    """An installer would leave it there, a package that is empty and can be imported; only where home is no folder."""
    package = copy(tmp_path / name)
    home = {"NUMBA_CACHE_DIR": "", "HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home")}
    assert call(PYTHONPATH=str(package.parent), **home) == COMPILED
    assert kernels(tmp_path / "home")
    assert not kernels(package)
    assert call(PYTHONPATH=str(package.parent), **dict.fromkeys(home, NOWHERE) | {"NUMBA_CACHE_DIR": ""}) == COMPILED
    assert kernels(package)


def test_a_relative_folder_is_that_of_the_start(call, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    go = "import os, fastsoftmax\nos.chdir('elsewhere')\n"
    assert [call(before=go, NUMBA_CACHE_DIR="cache") for _ in range(2)] == [COMPILED, LOADED]
    assert kernels(tmp_path / "cache")
    assert not any((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("folder", ["asked for", "beside the sources"])
def test_folder_may_only_be_read(call, package, tmp_path, folder):
    """As in an image whose builder compiled the kernels: they serve users who can write nowhere, or only at home."""
    asked_for = str(tmp_path / "cache") if folder == "asked for" else ""
    environment = {"PYTHONPATH": str(package.parent), "NUMBA_CACHE_DIR": asked_for}
    assert call(**environment) == COMPILED
    files = kernels(tmp_path)
    for writable in ("", str(tmp_path / "home")):
        assert call(before=REFUSE, HOME=str(tmp_path / "home"), WRITABLE=writable, **environment) == LOADED
    assert kernels(tmp_path) == files


def test_folder_goes_away(call, tmp_path):
    """It could be written when the kernel was first asked for, and no more when a kernel is compiled."""
    folder = str(tmp_path / "cache")
    remove = f"""
import shutil
from fastsoftmax.kernels.labels import count_labels
count_labels.dispatcher
shutil.rmtree({folder!r})
open({folder!r}, 'w').close()"""
    assert call(before=remove) == COMPILED


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NUMBA_BOUNDSCHECK", "1"),
        ("NUMBA_OPT", "1"),
        ("NUMBA_CPU_NAME", "generic"),
        ("NUMBA_CPU_FEATURES", "+sse2"),
    ],
)
def test_other_settings_and_cpus(call, full, name, value):
    assert call(**{name: value}) == COMPILED


@pytest.mark.parametrize("library", ["numba", "llvmlite"])
def test_other_numba(call, full, library):
    assert call(before=f"import {library}\n{library}.__version__ = '0.0'") == COMPILED


def test_other_version(call, package):
    environment = {"PYTHONPATH": str(package.parent)}
    assert call(**environment) == COMPILED
    (package / "_version.py").write_text('__version__ = "999"\n')
    assert call(**environment) == COMPILED


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_edited_helper(call, package, tmp_path, zipped):
    """The result shows whether the edit ran."""
    helpers = package / "kernels" / "rows" / "whole.py"
    source = helpers.read_text()
    for added, was in ((0.0, "compiled"), (1.0, "compiled"), (1.0, "loaded")):
        edited = source.replace("row.top) + log_sum\n", f"row.top) + log_sum + {added}\n")
        assert edited != source
        helpers.write_text(edited)
        path = shutil.make_archive(str(tmp_path / "site"), "zip", package.parent) if zipped else package.parent
        got, lse = call(CALL_WITH_HELPERS, PYTHONPATH=str(path), XDG_CACHE_HOME=str(tmp_path)).split()
        assert (got, round(float(lse), 4)) == (was, 4.6052 + added)


@pytest.mark.parametrize("part", [".", "compiling", "simd", "vecmath", "rows", "gemm"])
def test_any_change_makes_kernels_stale(call, package, part):
    """In every sub-package, of what a file says and of where it stands."""
    environment = {"PYTHONPATH": str(package.parent)}
    note = package / "kernels" / part / "note.py"
    note.write_text('"""A note."""\n')
    assert [call(**environment), call(**environment)] == [COMPILED, LOADED]
    note.write_text('"""Another note."""\n')
    assert call(**environment) == COMPILED
    note.rename(note.with_name("moved.py"))
    assert call(**environment) == COMPILED


DAMAGES = {
    "cut": lambda content: content[:-9],
    "empty": lambda content: b"",
    "another format": lambda content: b"\x80another format",
    # what was not on disk yet when the power failed
    "hole": lambda content: content[: len(content) // 2] + bytes(4096) + content[len(content) // 2 + 4096 :],
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files(call, full, damage):
    for path in kernels(full):
        path.write_bytes(damage(path.read_bytes()))
    assert [call(), call()] == [COMPILED, LOADED]


def test_eight_processes_compile_at_once(call, site, tmp_path):
    """All end well, and what they leave behind serves a ninth."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": site}
    command = [sys.executable, "-P", "-c", CALL + REPORT]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    outputs = {process.communicate(timeout=600)[0].strip() for process in processes}
    assert outputs <= {COMPILED, LOADED}
    assert [process.returncode for process in processes] == [0] * 8
    assert call() == LOADED
    assert not list(tmp_path.rglob("tmp*"))


def test_one_kernel_for_one_thread_and_for_many(run_python, tmp_path):
    """What the pool has compiled serves one thread, which launches no others, and the other way round."""
    code = """
import sys
import numpy as np
from numba.np.ufunc import parallel
from fastsoftmax.kernels.operations import LOGSUMEXP
logsumexp = LOGSUMEXP.cached
for twin in sys.argv[1:]:
    getattr(logsumexp, twin)(np.zeros((2, 100)), np.zeros(2))
    print(sum(logsumexp.dispatcher.stats.cache_hits.values()), parallel._is_initialized)
"""
    run_python("-c", code, "parallel", NUMBA_CACHE_DIR=str(tmp_path))
    again = run_python("-c", code, "serial", "parallel", NUMBA_CACHE_DIR=str(tmp_path))
    assert again.split() == ["1", "False", "1", "True"]


def test_variants_of_one_signature(run_python, tmp_path):
    """In float64 class weights and sample weights are arguments of one type: each variant has a file of its own."""
    code = """
import numpy as np
import fastsoftmax as fs
z, y, weights = np.log([[1.0, 3.0], [1.0, 1.0]]), [1, 0], np.array([1.0, 5.0])
for name in ("class_weight", "sample_weight"):
    print(fs.cross_entropy(z, y, **{name: weights}, reduction="sum"))
"""
    want = [5 * np.log(4 / 3) + np.log(2), np.log(4 / 3) + 5 * np.log(2)]
    for _ in range(2):
        got = run_python("-c", code, NUMBA_CACHE_DIR=str(tmp_path)).split()
        np.testing.assert_allclose(list(map(float, got)), want, rtol=1e-15)
