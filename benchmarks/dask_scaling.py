"""What an evaluation of the head costs on Dask, by rows and workers: `python -m benchmarks.dask_scaling`.

Prints a Markdown table. Rows are made by the tasks themselves, anew for each evaluation or once and then kept in the
workers' memory, and never lie in this process.
"""

import itertools
import statistics
import time
from typing import NamedTuple

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster, wait

from examples.dask_fit import MIB, peak_memory
from fastsoftmax.dask import linear_cross_entropy_with_grad

ROWS = 200_000, 400_000, 800_000
WORKERS = 1, 2
FEATURES, CLASSES, CHUNK, REPEATS = 256, 10, 20_000, 3


class Cost(NamedTuple):
    """Seconds of the median evaluation, and the most bytes that a worker has had."""

    seconds: float
    peak: int


def make_rows(block_info=None):
    at = block_info[None]["chunk-location"][0]
    return np.random.default_rng(at).random((CHUNK, FEATURES), np.float32)


def make_labels(block_info=None):
    at = block_info[None]["chunk-location"][0]
    return np.random.default_rng(at).integers(CLASSES, size=CHUNK)


def evaluate(X, y):
    """Compute loss and gradients once, and give the seconds that it takes."""
    weight, bias = np.zeros((FEATURES, CLASSES), np.float32), np.zeros(CLASSES, np.float32)
    start = time.perf_counter()
    _, grads = linear_cross_entropy_with_grad(X, weight, bias, y, inputs_grad=False)
    grads.dweight.compute()
    return time.perf_counter() - start


def measure(rows, workers, kept):
    """Time evaluations on a cluster of its own."""
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    with LocalCluster(n_workers=workers, **options) as cluster, Client(cluster) as client:
        chunks = (CHUNK,) * (rows // CHUNK)
        X = da.map_blocks(make_rows, chunks=(chunks, (FEATURES,)), meta=np.empty((0, 0), np.float32))
        y = da.map_blocks(make_labels, chunks=(chunks,), meta=np.empty(0, np.int64))
        if kept:
            X, y = client.persist([X, y])
            wait([X, y])
        evaluate(X, y)  # loads the kernels
        seconds = statistics.median(evaluate(X, y) for _ in range(REPEATS))
        return Cost(seconds, max(client.run(peak_memory).values()))


def main():
    print("| rows | bytes of rows | workers | made anew | peak of a worker | in memory | peak of a worker |")
    print("|---|---|---|---|---|---|---|")
    for rows, workers in itertools.product(ROWS, WORKERS):
        anew, kept = (measure(rows, workers, kept) for kept in (False, True))
        cells = [f"{rows:,}", f"{rows * FEATURES * 4 / MIB:.0f} MiB", str(workers)]
        for cost in (anew, kept):
            cells += [f"{cost.seconds * 1e3:.0f} ms", f"{cost.peak / MIB:.0f} MiB"]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
