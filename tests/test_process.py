"""It does not take the process down: forks, threads, environment, and the cache of compiled kernels."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PREAMBLE = """
import os, sys, threading
import numpy as np
import fastsoftmax as fs
rng = np.random.default_rng(0)
z, y = rng.normal(size=(512, 200)).astype(np.float32), rng.integers(0, 200, 512)
def bits():
    loss, dlogits = fs.cross_entropy_with_grad(z, y)
    return loss.tobytes() + dlogits.tobytes()
"""


def run(code, **environment):
    """Run a script in a fresh process; it must end well and in time."""
    environment = {**os.environ, "NUMBA_NUM_THREADS": "4", **environment}
    command = [sys.executable, "-c", PREAMBLE + code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_forked_child(layer):
    """Numba kills the child of an OpenMP parent at its first parallel kernel."""
    assert (
        run(
            """
expected = bits()
child = os.fork()
if child == 0:
    os._exit(0 if bits() == expected else 3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
            NUMBA_THREADING_LAYER=layer,
        )
        == "0"
    )


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_python_threads(layer):
    """Two threads inside the workqueue would abort the process."""
    assert (
        run(
            """
expected = bits()
same = []
def work():
    same.extend(bits() == expected for _ in range(30))
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(same), all(same))
""",
            NUMBA_THREADING_LAYER=layer,
        )
        == "240 True"
    )


def test_environment_and_threads_are_left_as_found():
    assert (
        run(
            """
import numba
before = dict(os.environ)
numba.set_num_threads(2)
first = bits()
numba.set_num_threads(1)
assert bits() == first
print(dict(os.environ) == before, numba.get_num_threads())
"""
        )
        == "True 1"
    )


def cached_kernels(folder):
    return sorted(Path(folder).rglob("*.kernel"))


def test_cache(tmp_path):
    """Compiled once, loaded after; with other settings or from a damaged file compiled anew."""

    def misses(**environment):
        code = """
from fastsoftmax.kernels.cross_entropy import cross_entropy_with_grad
bits()
print(sum(cross_entropy_with_grad.parallel.stats.cache_misses.values()))
"""
        return int(run(code, NUMBA_CACHE_DIR=str(tmp_path), **environment))

    assert misses() == 1
    files = cached_kernels(tmp_path)
    assert files
    assert misses() == 0
    assert misses(NUMBA_BOUNDSCHECK="1") == 1
    assert cached_kernels(tmp_path) == files
    for file in files:
        file.write_bytes(b"damaged")
    assert misses() == 1


def test_cache_off(tmp_path):
    run("bits()", NUMBA_CACHE_DIR=str(tmp_path), FASTSOFTMAX_CACHE="0")
    assert cached_kernels(tmp_path) == []


def test_import_without_compilation():
    """Functions have no cache then; what needs no kernel works."""
    assert run("print(fs.linear([[2.0]], [[3.0]]))", NUMBA_DISABLE_JIT="1") == "[[6.]]"


def test_two_processes_compile_at_once(tmp_path):
    """Both end well, and what they leave behind serves a third."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", PREAMBLE + "bits()"]
    both = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait(timeout=120) for process in both] == [0, 0]
    run("bits()", NUMBA_CACHE_DIR=str(tmp_path))
    assert not list(tmp_path.rglob("tmp*"))
