"""Threads: launched once and late, as many as asked for, and no fork or second caller that gets in their way."""

import ctypes.util
import os
import threading
import time

import numba
import pytest
from numba.np.ufunc import parallel as pool

import fastsoftmax as fs
from fastsoftmax import openmp, threads

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def test_importing_launches_no_threads(run_python):
    code = """
import os, numba
def state(): return len(os.listdir("/proc/self/task")), dict(os.environ)
before = state()
import fastsoftmax
from numba.np.ufunc import parallel
print(state() == before, parallel._is_initialized)
"""
    assert run_python("-c", code) == "True False"


def test_number_of_threads_is_obeyed(run_python, layer):
    """With one thread nothing runs beside the caller; with four something does, and the caller's count stays."""
    code = """
import time, numba
from callers import digest
def share_of_others():
    process, thread = time.process_time(), time.thread_time()
    for _ in range(100): digest()
    thread = time.thread_time() - thread
    return 1 - thread / (time.process_time() - process)
digest()
numba.set_num_threads(1)
while share_of_others() >= 0.02: pass  # those that find no work spin for a while
print(numba.get_num_threads())
numba.set_num_threads(3)
while share_of_others() < 0.1: pass  # TBB's come when they like
print(numba.get_num_threads())
"""
    assert run_python("-c", code, **layer).split() == ["1", "3"]


def test_thread_counts_are_left_as_found(arguments):
    """Numba's, PyTorch's, and those of every BLAS and OpenMP that is loaded."""
    torch = pytest.importorskip("torch")
    threadpoolctl = pytest.importorskip("threadpoolctl")

    numba.get_num_threads()  # which loads its OpenMP
    libraries = threadpoolctl.ThreadpoolController()

    def counts():
        own = [(info["filepath"], info["num_threads"]) for info in libraries.info()]
        return numba.get_num_threads(), torch.get_num_threads(), torch.get_num_interop_threads(), own

    before = counts()
    assert len(before[-1]) >= 2  # a BLAS and an OpenMP
    for rows in (7, 600):
        for name, values in arguments(rows, 70, "float32").items():
            getattr(fs, name)(**values)
            assert counts() == before, name


# The first call of a process, and whether Numba then has the threads that it is to have.
FIRST_CALL = """
import ctypes, os, sys, threading
import numba, numpy as np
from callers import digest
def first_call():
    digest()
    ids = np.zeros(4, np.int64)
    if numba.threading_layer() == "omp" and sys.platform == "linux":
        from fastsoftmax.kernels.operations import HELPERS
        HELPERS.thread_ids.parallel(ids)
        assert len(set(ids)) == 4, ids
    assert numba.get_num_threads() == 4
"""


@pytest.mark.parametrize("caller", ["main thread", "other thread"])
def test_first_call_after_torch(caller, run_python, layer):
    pytest.importorskip("torch")
    code = """
import torch
torch.set_num_threads(3)
def work():
    print(torch.get_num_threads())
    first_call()
    print(torch.get_num_threads())
"""
    if caller == "other thread":
        code += "other = threading.Thread(target=work)\nother.start()\nother.join()\n"
    else:
        code += "work()\n"
    code += "print(torch.get_num_threads())"
    assert run_python("-c", FIRST_CALL + code, **layer).split() == ["3", "3", "3"]


def test_first_call_before_torch(run_python, layer):
    pytest.importorskip("torch")
    code = """
first_call()
import torch
print(torch.get_num_threads())
"""
    assert run_python("-c", FIRST_CALL + code, OMP_NUM_THREADS="1", **layer) == "1"


@pytest.mark.parametrize("first", ["library", "fastsoftmax"])
def test_first_call_beside_sklearn(first, run_python, layer):
    """It brings an OpenMP of its own, and what that and each BLAS have for a number of threads is left as it is."""
    pytest.importorskip("sklearn")
    pytest.importorskip("threadpoolctl")
    code = """
def counts():
    import sklearn.ensemble
    from threadpoolctl import ThreadpoolController
    for info in ThreadpoolController().info():
        if "numba" not in info["filepath"]:
            found[info["filepath"]] = info["num_threads"]
found = {}
"""
    calls = ["counts()", "first_call()", "counts()"]
    without, beside = (
        run_python("-c", FIRST_CALL + code + "\n".join([*each, "print(*found.items(), sep=chr(10))"]), **layer)
        for each in (calls[:1], calls if first == "library" else calls[1:])
    )
    assert "omp" in without
    assert set(without.splitlines()) <= set(beside.splitlines())


@pytest.mark.parametrize("scope", ["RTLD_LOCAL", "RTLD_GLOBAL"])
def test_count_of_openmp_is_left_as_found(scope, run_python, layer):
    """Whether there is one before the first call, which others have set a number for, or that call loads it."""
    library = ctypes.util.find_library("gomp")
    if library is None:
        pytest.skip("no GNU OpenMP here")
    load = f"openmp = ctypes.CDLL({library!r}, ctypes.{scope})\n"
    count = "print(openmp.omp_get_max_threads())\n"
    before = load + "openmp.omp_set_num_threads(3)\nfirst_call()\n" + count
    after = "first_call()\n" + load + count
    assert run_python("-c", FIRST_CALL + before, **layer) == "3"
    assert run_python("-c", FIRST_CALL + after, OMP_NUM_THREADS="2", **layer) == "2"


def test_without_openmp(monkeypatch):
    """Nothing is done where a library cannot be asked for it, as on Windows."""
    monkeypatch.delattr(os, "RTLD_NOLOAD", raising=False)
    with openmp.count_kept():
        assert openmp._of_pool() is None


def test_layer_that_cannot_be_loaded(run_python):
    code = """
import numpy as np
import fastsoftmax as fs
try:
    fs.softmax(np.zeros((1000, 100)))
except ValueError as error:
    print(error)
"""
    message = run_python("-c", code, NUMBA_THREADING_LAYER="none such")
    assert message.startswith("NUMBA_THREADING_LAYER: expected a threading layer that can be loaded, got 'none such': ")


def test_one_thread_launches(monkeypatch):
    """Threads that come first at the same time: one launches, and the environment is what it was."""
    inside = []

    def launch():
        inside.append(threading.get_ident())
        time.sleep(0.01)
        assert os.environ["GOMP_SPINCOUNT"] == "5000"
        assert inside.pop() == threading.get_ident()
        assert not inside
        launched.append(True)

    launched = []
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    before = dict(os.environ)
    monkeypatch.setattr(pool, "_is_initialized", False)
    monkeypatch.setattr(pool, "_launch_threads", launch)
    callers = [threading.Thread(target=threads.launch) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(launched) == 4
    assert dict(os.environ) == before


def test_first_call_by_threads_at_once(run_python, layer):
    """They launch the threads and compile at the same time."""
    code = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
from callers import digest
before = dict(os.environ)
sys.setswitchinterval(1e-6)
start = threading.Barrier(3)
def work(_):
    start.wait()
    return digest()
with ThreadPoolExecutor(3) as executor:
    first = set(executor.map(work, range(3)))
print(first == {digest()}, dict(os.environ) == before)
"""
    assert run_python("-c", code, FASTSOFTMAX_CACHE="0", **layer) == "True True"


@needs_fork
def test_fork_while_another_thread_is_in_a_kernel(run_python, layer):
    """It holds the workqueue then, and locks that a child would wait for."""
    code = """
import os, threading
from callers import digest
expected = digest()
done = threading.Event()
def work():
    while not done.is_set(): digest()
other = threading.Thread(target=work)
other.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(digest() != expected)
    assert os.waitpid(child, 0)[1] == 0
done.set()
other.join()
print(digest() == expected)
"""
    # Numba's TBB layer prints a warning of its own at a fork.
    assert run_python("-c", code, **layer).splitlines()[-1] == "True"


@needs_fork
def test_fork_while_another_thread_compiles(run_python):
    """The child inherits a lock of the compiler's whose owner it does not have."""
    code = """
import os, threading
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
import fastsoftmax as fs
import fastsoftmax.kernels.operations
other = threading.Thread(target=fs.softmax, args=(np.zeros((2, 100), np.float32),))
other.start()
while global_compiler_lock._lock.acquire(blocking=False):
    global_compiler_lock._lock.release()
child = os.fork()
if child == 0:
    os._exit(int(abs(fs.logsumexp(np.zeros(100)) - np.log(100)) > 1e-12))
print(os.waitpid(child, 0)[1])
other.join()
"""
    assert run_python("-c", code, FASTSOFTMAX_CACHE="0") == "0"


@needs_fork
def test_fork_while_another_thread_imports_the_kernels(run_python):
    """The child inherits locks of Python's imports; they are held for long here, as on a slow disk."""
    code = """
import os, sys, threading, time
import numpy as np
import fastsoftmax as fs
class Slow:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "fastsoftmax.kernels.rows.few":
            reached.set()
            time.sleep(0.5)
reached = threading.Event()
sys.meta_path.insert(0, Slow)
other = threading.Thread(target=fs.softmax, args=(np.zeros((2, 100), np.float32),))
other.start()
reached.wait()
child = os.fork()
if child == 0:
    os._exit(int(abs(fs.logsumexp(np.zeros(100)) - np.log(100)) > 1e-12))
print(os.waitpid(child, 0)[1])
other.join()
"""
    assert run_python("-c", code) == "0"


@needs_fork
def test_import_in_a_forked_child(run_python):
    """The parent's threads are gone before this library is there to see it."""
    code = """
import os
import numba
numba.set_num_threads(4)
child = os.fork()
if child == 0:
    from callers import digest
    digest()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    assert run_python("-c", code, NUMBA_THREADING_LAYER="omp") == "0"


@needs_fork
@pytest.mark.parametrize("others", ["a thread", "threads of a BLAS", "neither"])
def test_import_in_a_forked_child_that_has_threads(others, run_python):
    """Its own, such as that of a queue: they are not those that the parent had."""
    code = """
import os, sys, threading
import numba
import numpy as np
numba.set_num_threads(4)
child = os.fork()
if child == 0:
    if sys.argv[1] == "a thread":
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    if sys.argv[1] == "threads of a BLAS":
        np.ones((500, 500)) @ np.ones((500, 500))
    from callers import digest
    digest()
    os._exit(0)
print(os.waitpid(child, 0)[1])
"""
    told = {"NUMBA_THREADING_LAYER": "omp", "OPENBLAS_NUM_THREADS": "8"}
    assert run_python("-c", code, others, **told) == "0"


def test_import_after_the_threads(run_python, layer):
    """Threads that were launched before this library came are used."""
    code = """
import numba
numba.set_num_threads(4)
from fastsoftmax import openmp, threads
print(threads._lost_in_fork)
"""
    assert run_python("-c", code, **layer) == "False"


def test_workqueue_beside_kernels_of_the_users(run_python):
    """Numba aborts when two threads are in its workqueue; one whose thread count is one stays out of it."""
    code = """
import threading
import numba, numpy as np
from callers import digest
@numba.njit(parallel=True, nogil=True)
def work(a):
    for i in numba.prange(a.size): a[i] += 1
numba.set_num_threads(1)
expected = digest()
done = threading.Event()
def users_own():
    a = np.zeros(100_000)
    while not done.is_set(): work(a)
other = threading.Thread(target=users_own)
other.start()
right = [digest() == expected for _ in range(300)]
done.set()
other.join()
print(all(right))
"""
    assert run_python("-c", code, NUMBA_THREADING_LAYER="workqueue") == "True"


def test_callers_at_once_have_arrays_of_their_own(run_python, layer):
    """Masks, probabilities and statistics: each caller's are other ones."""
    code = """
import threading
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np
import fastsoftmax as fs
rng = np.random.default_rng(0)
z = rng.normal(size=(600, 130)).astype(np.float32)
masks, probs = rng.random((8, 600, 130)) < 0.6, rng.random((8, 600, 130)).astype(np.float32)
start = threading.Barrier(8)
def bits(i):
    options = {"scale": 0.7, "where": masks[i], "reduction": "none"}
    loss, dlogits, stats = fs.cross_entropy_with_grad(z, np.full(600, i), **options, return_stats=True)
    more, dmore, found = fs.cross_entropy_with_grad(
        z, probs[i], softcap=5.0, label_smoothing=0.1, reduction="none", return_stats=True
    )
    return b"".join(array.tobytes() for array in (loss, dlogits, *stats, more, dmore, *found))
def at_once(i):
    start.wait()
    return [bits(i) == expected[i] for _ in range(10)]
numba.set_num_threads(1)
expected = [bits(i) for i in range(8)]
with ThreadPoolExecutor(8) as executor:
    print(all(same for many in executor.map(at_once, range(8)) for same in many), len(set(expected)))
"""
    assert run_python("-c", code, **layer).splitlines()[-1] == "True 8"
