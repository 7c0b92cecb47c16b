"""Whoever calls, under whatever threading layer: the same bits, no abort, no deadlock."""

import runpy
from pathlib import Path

import pytest

SCRIPT = str(Path(__file__).with_name("callers.py"))
NEEDS = {"dask_worker": "dask", "loky": "joblib", "torch_data_loader": "torch"}


@pytest.mark.parametrize("kind", runpy.run_path(SCRIPT)["KINDS"])
def test_callers(run_python, layer, kind):
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    if "fork" in kind:
        pytest.importorskip("posix", reason="no fork here")
    assert run_python(SCRIPT, kind, **layer) == f"{layer['NUMBA_THREADING_LAYER']} True"
