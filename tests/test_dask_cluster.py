"""`fastsoftmax.dask` on clusters of processes: the same bits on each, a worker that dies, threads, and the example."""

import re
from pathlib import Path

import pytest

pytest.importorskip("distributed")
pytest.importorskip("dask.array")
pytest.importorskip("sklearn")

TESTS = Path(__file__).parent
# Who asks a dead worker for something gives up after 30 s else.
IMPATIENT = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}


@pytest.mark.parametrize("kind", ["same_bits", "killed", "one_thread"])
def test_clusters(run_python, kind):
    assert run_python(str(TESTS / "dask_processes.py"), kind, **IMPATIENT) == "done"


def test_example_fits_more_than_the_memory_of_its_worker(run_python):
    said = run_python(str(TESTS.parent / "examples" / "dask_fit.py"), "--make", "512", "--limit", "450")
    rows, memory, used = map(int, re.search(r"(\d+) MiB of rows, 1 x (\d+) MiB of memory, (\d+) used", said).groups())
    assert used < memory < rows
    assert float(re.search(r"([\d.]+) of the labels predicted", said)[1]) > 0.6
