"""Every kind of caller that a kernel may have. As a script, `python callers.py KIND`, it compares what they get.

A script of its own, because processes that `multiprocessing` spawns import the module of what they run.
"""

import hashlib
import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

import fastsoftmax as fs

N_CALLS = 8

rng = np.random.default_rng(0)
LOGITS = rng.normal(size=(512, 200)).astype(np.float32)
LABELS = rng.integers(0, 200, 512)


def digest(_=None):
    """The bits of a result of many rows, as a number."""
    loss, dlogits = fs.cross_entropy_with_grad(LOGITS, LABELS)
    bits = hashlib.sha256(loss.tobytes() + dlogits.tobytes()).digest()
    return int.from_bytes(bits[:7], "little")


def main_thread():
    return [digest() for _ in range(N_CALLS)]


def python_threads():
    """Eight that start at once."""
    start = threading.Barrier(8)

    def work(_):
        start.wait()
        return [digest() for _ in range(N_CALLS)]

    with ThreadPoolExecutor(8) as executor:
        return [got for many in executor.map(work, range(8)) for got in many]


def dask_worker():
    """Threads of a thread of Dask's."""
    import dask

    @dask.delayed
    def task():
        with ThreadPoolExecutor(4) as executor:
            return list(executor.map(digest, range(N_CALLS)))

    tasks = dask.compute(*(task() for _ in range(4)), scheduler="threads", num_workers=4)
    return [got for many in tasks for got in many]


def forked_child():
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"".join(digest().to_bytes(8, "little") for _ in range(N_CALLS)))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return [int(got) for got in np.frombuffer(os.read(read, 8 * N_CALLS), np.int64)]


def thread_of_a_forked_child():
    """One that was not there when Numba set its thread counts."""

    def child(results):
        thread = threading.Thread(target=lambda: results.put(main_thread()))
        thread.start()
        thread.join()

    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    process = context.Process(target=child, args=(results,))
    process.start()
    got = results.get()
    process.join()
    return got


def pool(method):
    with multiprocessing.get_context(method).Pool(2) as processes:
        return processes.map(digest, range(N_CALLS), chunksize=1)


def loky():
    import joblib

    return joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(digest)() for _ in range(N_CALLS))


def torch_data_loader():
    from torch.utils.data import DataLoader, Dataset

    class Digests(Dataset):
        def __len__(self):
            return N_CALLS

        def __getitem__(self, index):
            return digest()

    return [int(got) for batch in DataLoader(Digests(), batch_size=2, num_workers=2) for got in batch]


@numba.njit(parallel=True)
def _parallel_kernel(got):
    for i in numba.prange(got.size):
        with numba.objmode(result="int64"):
            result = digest()
        got[i] = result


def inside_a_parallel_kernel():
    got = np.zeros(N_CALLS, np.int64)
    _parallel_kernel(got)
    return got.tolist()


KINDS = {
    "main_thread": main_thread,
    "python_threads": python_threads,
    "dask_worker": dask_worker,
    "forked_child": forked_child,
    "thread_of_a_forked_child": thread_of_a_forked_child,
    "multiprocessing_fork": lambda: pool("fork"),
    "multiprocessing_spawn": lambda: pool("spawn"),
    "multiprocessing_forkserver": lambda: pool("forkserver"),
    "loky": loky,
    "torch_data_loader": torch_data_loader,
    "inside_a_parallel_kernel": inside_a_parallel_kernel,
}


if __name__ == "__main__":
    # The serial twin's bits, then a parallel call, so that the threads run; then the callers.
    numba.set_num_threads(1)
    expected = digest()
    numba.set_num_threads(4)
    right = [got == expected for got in [digest(), *KINDS[sys.argv[1]](), digest()]]
    print(numba.threading_layer(), len(right) > N_CALLS and all(right))
