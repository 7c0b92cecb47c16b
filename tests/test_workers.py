"""Workers of Numba's OpenMP pool stay off their caller's processor, and nobody else is moved."""

import ctypes.util
import os
import sys
from importlib.util import find_spec

import pytest

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no processors to choose from here"),
    pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: "a")(0)) < 2, reason="needs two processors"),
]

# Where each thread of a process may run; the caller is held where it is meanwhile. All is compiled before, in a thread
# that has ended: one that compiles, and is gone, may still be listed for a moment.
PREAMBLE = """
import os, threading, time
import numba, numpy as np
import fastsoftmax as fs
from fastsoftmax import workers
from fastsoftmax.kernels.operations import HELPERS
every = os.sched_getaffinity(0)
first, second = sorted(every)[:2]
z = np.zeros((4_000, 100), np.float32)

def call_on(cpu):
    small_call()  # a new worker may run where its caller may
    os.sched_setaffinity(0, {cpu})
    workers.os = Unheld
    fs.logsumexp(z)
    workers.os = os
    os.sched_setaffinity(0, every)

def small_call():
    fs.logsumexp(z[:1_000])

class Unheld:
    '''The module os, to which the caller seems free to go anywhere.'''
    sched_setaffinity = os.sched_setaffinity
    def sched_getaffinity(tid):
        return every if tid == 0 else os.sched_getaffinity(tid)

def places(*known):
    threads_now = {int(tid) for tid in os.listdir("/proc/self/task")} - set(known)
    return [os.sched_getaffinity(tid) for tid in threads_now]

compiling = threading.Thread(target=lambda: (small_call(), fs.logsumexp(z)))
compiling.start()
compiling.join()
while len(os.listdir("/proc/self/task")) > 1:
    time.sleep(0.01)
"""
TWO = {"NUMBA_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "1", "NUMBA_THREADING_LAYER": "omp"}


def test_workers_are_kept_off(run_python):
    """Off the processor of a large call, and off the other when the caller has moved; the caller is free again."""
    code = """
small_call()
assert places() == [every] * len(places()), "a small call"
for cpu in (first, second, second, first):
    call_on(cpu)
    assert os.sched_getaffinity(0) == every
    assert sorted(places(), key=len) == [every - {cpu}, *[every] * (len(places()) - 1)], cpu
"""
    run_python("-c", PREAMBLE + code, **TWO)


def test_each_caller_has_its_own(run_python):
    code = """
call_on(first)
others = [int(tid) for tid in os.listdir("/proc/self/task")]
seen = []
def other():
    call_on(second)
    seen.extend(places(*others, threading.get_native_id()))
thread = threading.Thread(target=other)
thread.start()
thread.join()
assert seen == [every - {second}], seen
"""
    run_python("-c", PREAMBLE + code, **TWO)


def test_bound_workers_stay(run_python):
    code = """
small_call()
ids = np.empty(2, np.int64)
HELPERS.thread_ids.parallel(ids)
worker, = {int(i) for i in ids} - {threading.get_native_id()}
os.sched_setaffinity(worker, {first})
call_on(first)
assert os.sched_getaffinity(worker) == {first}
"""
    run_python("-c", PREAMBLE + code, **TWO)


@pytest.mark.parametrize("count", [1, 2, 4096])
def test_more_threads_than_processors(count, run_python):
    """Then no worker could have a processor to itself, or there is none."""
    count = min(count, len(os.sched_getaffinity(0)) + 1)
    code = f"""
numba.set_num_threads({count})
call_on(first)
free = places() == [every] * len(places())
assert free == ({count} != 2), places()
"""
    run_python("-c", PREAMBLE + code, **TWO | {"NUMBA_NUM_THREADS": str(count)})


def test_a_sandbox_that_refuses(run_python):
    code = """
def refuse(*args):
    raise PermissionError
Unheld.sched_setaffinity = refuse
call_on(first)
"""
    run_python("-c", PREAMBLE + code, **TWO)


@pytest.mark.parametrize("first", ["torch", "fastsoftmax"])
def test_workers_of_torch_are_left_alone(first, run_python):
    """They are Numba's too. Those that were kept off before it came are let go."""
    pytest.importorskip("torch")
    call = "call_on(first)\nassert places() != [every] * len(places())" if first == "fastsoftmax" else ""
    code = f"""
{call}
import torch
torch.set_num_threads(2)
torch.ones(4_000_000).exp()
call_on(second)
assert len(places()) > 1
assert places() == [every] * len(places()), places()
"""
    run_python("-c", ("import torch\n" if first == "torch" else "") + PREAMBLE + code, **TWO)


# What starts the threads of a library that has a pool of its own.
USES = {
    "sklearn": """
from sklearn.ensemble import HistGradientBoostingClassifier
HistGradientBoostingClassifier(max_iter=2).fit(z[:200], np.arange(200) % 2)
""",
    "jax": """
import jax.numpy as jnp
(jnp.ones((600, 600)) @ jnp.ones((600, 600))).block_until_ready()
""",
}


@pytest.mark.parametrize("first", ["library", "fastsoftmax"])
@pytest.mark.parametrize("library", USES)
def test_workers_of_other_libraries_are_left_alone(library, first, run_python):
    pytest.importorskip(library)
    code = f"""
def tasks():
    return {{int(tid) for tid in os.listdir("/proc/self/task")}}
small_call()
if {first == "fastsoftmax"}:
    call_on(first)
before = tasks()
{USES[library]}
theirs = tasks() - before
assert theirs
call_on(second)
seen = [os.sched_getaffinity(tid) for tid in theirs & tasks()]
assert seen == [every] * len(seen), seen
assert places() != [every] * len(places())
"""
    run_python("-c", PREAMBLE + code, **TWO)


def test_a_caller_that_was_bound_to_its_workers_processor(run_python):
    """For one call, in which there is nowhere else for the worker to go; there is afterwards."""
    code = """
call_on(first)
os.sched_setaffinity(0, {second})
fs.logsumexp(z)
os.sched_setaffinity(0, every)
call_on(second)
assert sorted(places(), key=len)[0] == every - {second}, places()
"""
    run_python("-c", PREAMBLE + code, **TWO)


@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("kept_off", [True, False])
def test_others_on_openmp(kept_off, is_shared, run_python, tmp_path):
    """Another library on Numba's OpenMP, for which a copy of Numba's pool does; and a second OpenMP."""
    original = find_spec("numba.np.ufunc.omppool").origin if is_shared else ctypes.util.find_library("gomp")
    if original is None:
        pytest.skip("no GNU OpenMP here")
    code = f"""
import ctypes, shutil
if {kept_off}:
    call_on(first)
    assert places() != [every] * len(places())
original = {original!r}
if not {is_shared}:
    ctypes.CDLL(original)
    original = next(line.split()[-1] for line in open("/proc/self/maps") if "libgomp" in line)
ctypes.CDLL(shutil.copy(original, {str(tmp_path / "other.so")!r}))
import colorsys  # which no one else does
call_on(second)
free = places() == [every] * len(places())
assert free == {is_shared}, places()
"""
    run_python("-c", PREAMBLE + code, **TWO)


def test_workers_that_are_gone_are_not_let_go(run_python):
    code = """
call_on(first)
workers._caller.told[2**22 + 1], workers._caller.had[2**22 + 1] = {first}, every
workers._let_go()
assert places() == [every] * len(places())
"""
    run_python("-c", PREAMBLE + code, **TWO)
