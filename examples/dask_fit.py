"""Fit a classifier to files that together are larger than the memory of all workers.

    python examples/dask_fit.py [FOLDER]

FOLDER has `rows-*.npy`, float32 of shape (rows, features), and for each of them `labels-*.npy`. Without it such files
are made, in a temporary folder. Each evaluation of the loss reads them anew, one file per task: what a worker holds is
one file and the coefficients.
"""

import argparse
import tempfile
import time
from pathlib import Path

import dask
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

from fastsoftmax.dask import SoftmaxClassifier

MIB = 2**20


def make_files(folder: Path, mebibytes: int, features: int, classes: int) -> None:
    """Write rows of normal numbers with noisy linear labels, 16 MiB in each file."""
    truth = np.random.default_rng(0).standard_normal((features, classes)).astype(np.float32)
    for number in range(mebibytes // 16):
        rng = np.random.default_rng([1, number])
        X = rng.standard_normal((16 * MIB // 4 // features, features), np.float32)
        noise = rng.gumbel(size=(len(X), classes))
        np.save(folder / f"rows-{number:03}.npy", X)
        np.save(folder / f"labels-{number:03}.npy", (X @ truth + 3 * noise).argmax(axis=1))


def from_files(paths: list[Path]) -> da.Array:
    """Make an array of which each file is a chunk, from the files' headers alone."""
    load = dask.delayed(np.load, pure=True)
    heads = [np.load(path, mmap_mode="r") for path in paths]
    return da.concatenate(
        [da.from_delayed(load(path), head.shape, head.dtype) for path, head in zip(paths, heads, strict=True)]
    )


def peak_memory() -> int:
    """Give the most bytes that this process has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--limit", type=int, default=450, help="MiB of memory for each worker")
    parser.add_argument("--make", type=int, default=688, help="MiB of files to make where no folder is given")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        if given.folder is None:
            make_files(folder, given.make, features=64, classes=5)
        X = from_files(sorted(folder.glob("rows-*.npy")))
        y = from_files(sorted(folder.glob("labels-*.npy")))
        limits = {"memory_limit": given.limit * MIB, "local_directory": temporary, "dashboard_address": None}
        with (
            LocalCluster(n_workers=given.workers, threads_per_worker=1, **limits) as cluster,
            Client(cluster) as client,
        ):
            start = time.perf_counter()
            model = SoftmaxClassifier(tol=1e-3).fit(X, y)
            seconds = time.perf_counter() - start
            peak = max(client.run(peak_memory).values())
            memory = f"{given.workers} x {given.limit} MiB of memory, {peak / MIB:.0f} used"
            print(f"{X.nbytes / MIB:.0f} MiB of rows, {memory}")
            print(f"{model.n_iter_[0]} iterations in {seconds:.1f} s, {model.score(X, y):.3f} of the labels predicted")


if __name__ == "__main__":
    main()
