"""User code under `@njit` where a process could be killed, hang or go stale: each in a process of its own."""

import math
import shutil
from pathlib import Path

import pytest

import fastsoftmax as fs

PRELUDE = """
import os, threading
import numpy as np
import numba
from numba import njit, prange
import fastsoftmax as fs

rng = np.random.default_rng(0)
Z = rng.normal(size=(6, 512, 200)).astype(np.float32)  # each large enough for the pool
Y = rng.integers(0, 200, (6, 512))
WANTED = [fs.cross_entropy(z, y) for z, y in zip(Z, Y)]


@njit(nogil=True)
def one(z, y):
    return fs.cross_entropy(z, y)


@njit(parallel=True)
def all_at_once(Z, Y):
    losses = np.zeros(len(Z))
    for i in prange(len(Z)):
        losses[i] = fs.cross_entropy(Z[i], Y[i])
    return losses

"""

CALLERS = {
    "plain": "assert one(Z[0], Y[0]) == WANTED[0]",
    "prange": "np.testing.assert_array_equal(all_at_once(Z, Y), WANTED)",
    "threads": """
found = [0.0] * len(Z)
one(Z[0], Y[0])

def work(i):
    for _ in range(20):
        found[i] = one(Z[i], Y[i])

threads = [threading.Thread(target=work, args=(i,)) for i in range(len(Z))]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert found == WANTED
""",
    "fork": """
one(Z[0], Y[0])
child = os.fork()
if not child:
    os._exit(0 if one(Z[1], Y[1]) == WANTED[1] else 1)
assert os.waitpid(child, 0)[1] == 0
""",
    "compiled in a fork": """
child = os.fork()
if not child:
    os._exit(0 if one(Z[1], Y[1]) == WANTED[1] else 1)
assert os.waitpid(child, 0)[1] == 0
""",
    "beside a kernel from Python": """
one(Z[0], Y[0])
stop = threading.Event()

def work():
    while not stop.is_set():
        fs.cross_entropy(Z[1], Y[1])

thread = threading.Thread(target=work)
thread.start()
for _ in range(50):
    assert one(Z[0], Y[0]) == WANTED[0]
stop.set()
thread.join()
""",
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("caller", CALLERS)
def test_callers(caller, layer, run_python):
    run_python("-c", PRELUDE + CALLERS[caller], **layer)


@pytest.mark.exhaustive
def test_errors_in_a_parallel_region_are_nan(layer, run_python):
    """Numba forgets an exception there: the loss and `out` must not pass for answers."""
    code = """
@njit(parallel=True)
def gradients(Z, Y, out):
    losses = np.zeros(len(Z))
    for i in prange(len(Z)):
        losses[i] = fs.cross_entropy_with_grad(Z[i], Y[i], out=out[i])[0]
    return losses

Y[2, 7], out = 200, np.zeros_like(Z)
losses = gradients(Z, Y, out)
bad = np.arange(len(Z)) == 2
np.testing.assert_array_equal(np.isnan(losses), bad)
np.testing.assert_array_equal(np.isnan(out).all(axis=(1, 2)), bad)
np.testing.assert_array_equal(np.isnan(out).any(axis=(1, 2)), bad)
"""
    run_python("-c", PRELUDE + code, **layer)


USER = """
import sys
import numpy as np
from numba import njit
import fastsoftmax as fs


@njit(cache=True)
def loss(z, y):
    return fs.cross_entropy(z, y)


if __name__ == "__main__":
    print(loss(np.zeros((2, 4)), np.zeros(2, np.int64)), sum(loss.stats.cache_hits.values()))
"""


# What is edited, and how many times as large the loss becomes.
EDITS = {
    "kernels/cross_entropy.py": ("    return sum_all(losses)\n", "    return 2 * sum_all(losses)\n", 2),
    "nopython/losses.py": ("        return dtype(total)\n", "        return dtype(2 * total)\n", 2),
    "options.py": ("else math.nan\n", "else -math.inf\n", 1),  # what a mean of nothing is, which is compiled in
}


@pytest.mark.exhaustive
@pytest.mark.parametrize("edited", EDITS)
def test_cached_user_code_is_never_stale(edited, tmp_path, run_python):
    """A user's own cache holds no kernel: an edit of the library is seen by code that was compiled before it."""
    package = tmp_path / "fastsoftmax"
    shutil.copytree(Path(fs.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "user.py").write_text(USER)
    environment = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}

    def run():
        loss, hits = run_python(str(tmp_path / "user.py"), **environment).split()
        return float(loss), int(hits)

    wanted = math.log(4)
    # Then what the library keeps of it comes from its own cache, when the user's function is compiled.
    run_python("-c", USER.replace("cache=True", ""), **environment)
    assert run() == (pytest.approx(wanted), 0)
    assert run() == (pytest.approx(wanted), 1)
    source = package / edited
    old, new, factor = EDITS[edited]
    assert old in source.read_text()
    source.write_text(source.read_text().replace(old, new))
    assert run() == (pytest.approx(factor * wanted), 0)
