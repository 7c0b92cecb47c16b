"""What there is to compile: the lines of LLVM's text of each kernel, with AVX-512 and without.

Unlike seconds they are the same each time. `python tests/test_ir_size.py` writes the table anew, where a kernel has a
reason to have grown.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).with_suffix(".json")
PATHS = {"avx512": "+avx512f", "avx2": "+avx2,+fma"}
COUNT = """
import json
from fastsoftmax.kernels import operations
print(json.dumps({f"{kernel.__name__} {dtype}" + " F" * (order == "F"): kernel.written(dtype, order).count("\\n")
                  for kernel in operations.kernels() for dtype in ("float32", "float64") for order in kernel.orders}))
"""


def count(path):
    environment = {**os.environ, "NUMBA_CPU_FEATURES": PATHS[path]}
    done = subprocess.run([sys.executable, "-c", COUNT], env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.exhaustive
@pytest.mark.parametrize("path", PATHS)
def test_lines(path, monkeypatch):
    """No kernel has grown by more than a twentieth, and none is missing in the table."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    found, table = count(path), json.loads(TABLE.read_text())[path]
    assert found.keys() == table.keys()
    assert {name: lines for name, lines in found.items() if lines > 1.05 * table[name]} == {}


if __name__ == "__main__":
    TABLE.write_text(json.dumps({path: count(path) for path in PATHS}, indent=1) + "\n")
