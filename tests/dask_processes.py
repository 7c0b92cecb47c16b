"""`fastsoftmax.dask` on clusters of processes. As a script, `python dask_processes.py KIND`, it says what came out.

A script of its own, because processes that are spawned import the module of what they run.
"""

import hashlib
import os
import signal
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

import fastsoftmax as fs
import fastsoftmax.dask as fd

CHUNKS, ROWS, FEATURES, CLASSES = 5, 4000, 16, 4
CLUSTERS = ((1, 1), (2, 1), (1, 2))  # workers, threads of each


@contextmanager
def cluster(workers, threads):
    options = {"dashboard_address": None, "memory_limit": 0}
    with LocalCluster(n_workers=workers, threads_per_worker=threads, **options) as started, Client(started) as client:
        yield client


def numbers(at):
    return np.random.default_rng(at).standard_normal((ROWS, FEATURES + CLASSES)).astype(np.float32)


def read(block_info=None):
    return numbers(block_info[None]["chunk-location"][0])


class DyingReader:
    """Reads chunks; the first worker that has read so many dies of it."""

    def __init__(self, fatal, folder):
        self.fatal, self.folder = fatal, folder

    def __call__(self, block_info=None):
        with (self.folder / str(os.getpid())).open("ab") as counter:
            counter.write(b".")
            n_reads = counter.tell()
        if n_reads == self.fatal and not (self.folder / "dead").exists():
            (self.folder / "dead").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return read(block_info)


def rows(reader=read):
    chunks = (ROWS,) * CHUNKS, (FEATURES + CLASSES,)
    data = da.map_blocks(reader, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    X, noise = data[:, :FEATURES], data[:, FEATURES:]
    return X, (X[:, :CLASSES] + noise).argmax(axis=1)


def bits(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()[:16]


def fitted(X, y, **parameters):
    model = fd.SoftmaxClassifier(**parameters).fit(X, y)
    assert model.n_iter_ > 1
    return bits(model.coef_, model.intercept_)


def everything():
    X, y = rows()
    w, b = np.linspace(-1, 1, FEATURES * CLASSES, dtype=np.float32).reshape(FEATURES, CLASSES), np.zeros(CLASSES)
    loss, grads = fd.linear_cross_entropy_with_grad(X, w, b.astype(np.float32), y)
    logits = X.rechunk((ROWS, 5))
    lazy = loss, *grads, fd.logsumexp(logits), fd.cross_entropy(logits, y), fd.cross_entropy(logits, y, reduction="sum")
    return bits(*dask.compute(*lazy)), fitted(X, y), fitted(X, y, solver="newton-cg", tol=1e-2)


def same_bits():
    """Everything on each cluster, and on the schedulers of one process."""
    found = {}
    for scheduler in ("synchronous", "threads"):
        with dask.config.set(scheduler=scheduler):
            found[scheduler] = everything()
    for workers, threads in CLUSTERS:
        with cluster(workers, threads):
            found[workers, threads] = everything()
    for each in found.values():
        assert each == found["synchronous"], found


def killed():
    """A worker dies in the middle of a fit; of one that reads its rows, and of one to persisted rows."""
    want = fitted(*rows())
    with cluster(2, 1) as client:
        for persisted in (False, True):
            client.wait_for_workers(2)
            before = set(client.run(os.getpid).values())
            with tempfile.TemporaryDirectory() as folder:
                X, y = rows(DyingReader(15, Path(folder)))
                if persisted:
                    X = rows()[0].persist()
                assert fitted(X, y) == want
                assert (Path(folder) / "dead").exists()
            assert set(client.run(os.getpid).values()) != before


def threads_of_others():
    """Count the threads of this process that Python does not know."""
    tasks = {int(task) for task in os.listdir("/proc/self/task")}
    return len(tasks - {thread.native_id for thread in threading.enumerate()})


def compute_in_parallel():
    fs.softmax(np.zeros((1000, 1000), np.float32))


def one_thread():
    """No threads of ours are started by any task; outside one they are."""
    with cluster(1, 2) as client:
        client.run(fs.softmax, np.zeros((1, 2), np.float32))
        (before,) = client.run(threads_of_others).values()
        fitted(*rows())
        (after,) = client.run(threads_of_others).values()
        assert after == before, (before, after)
        client.run(compute_in_parallel)
        (parallel,) = client.run(threads_of_others).values()
        assert parallel == before + 3, (before, parallel)


if __name__ == "__main__":
    {"same_bits": same_bits, "killed": killed, "one_thread": one_thread}[sys.argv[1]]()
    print("done")
