"""Start-up: what `import fastsoftmax` costs and brings along, and how soon the first result is there."""

import os
import subprocess
import sys

import pytest

OPTIONAL = {"dask", "hypothesis", "jax", "matplotlib", "ml_dtypes", "optax", "scipy", "sklearn", "torch", "tqdm"}
RUNS = 15


def run(code, **environment):
    """Run a script in a fresh process that may keep its bytecode, as an installed package does."""
    environment = {**os.environ, **environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TIMED = """
import gc, time
start = time.perf_counter()
import numba
numba_seconds = time.perf_counter() - start
gc.collect()  # Numba's import leaves that to whatever makes the next 2,000 objects
{before}
start = time.perf_counter()
{code}
print((time.perf_counter() - start) / numba_seconds)
"""


def assert_quick(code, limit, before=""):
    """Within a share of Numba's import: some runs, each in a process of its own; one of them may be undisturbed."""
    script = TIMED.format(code=code, before=before)
    run(script)  # compiles the bytecode and the kernels
    found = []
    for _ in range(RUNS):
        found.append(float(run(script)))
        if found[-1] <= limit:
            return
    raise AssertionError(f"expected {limit} of the time of Numba's import, got {sorted(found)}")


def test_import_is_quick():
    assert_quick("import fastsoftmax", 0.1)


def test_import_brings_no_optional_package():
    """Numba itself imports SciPy where that is installed."""
    code = """
import sys
import numba
before = set(sys.modules)
import fastsoftmax
print(*{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    added = set(run(code).split())
    assert "fastsoftmax" in added
    assert not added & OPTIONAL


def test_kernels_are_imported_by_the_first_call():
    """That is most of the package, and whoever imports it may never need them."""
    code = """
import sys
import fastsoftmax as fs
def of_kernels():
    return sum(name.startswith("fastsoftmax.kernels.") for name in sys.modules)
before = of_kernels()
fs.softmax([0.0])
print(before < 5 < 50 < of_kernels())
"""
    assert run(code) == "True"


def test_every_module_of_the_kernels_may_come_first():
    """None of them asks the package for what that would import everything for, itself among it."""
    code = """
import importlib, pkgutil, sys
import fastsoftmax.kernels
names = [module.name for module in pkgutil.walk_packages(fastsoftmax.kernels.__path__, "fastsoftmax.kernels.")]
for name in names:
    for known in [known for known in sys.modules if known.startswith("fastsoftmax")]:
        del sys.modules[known]
    importlib.import_module(name)
print(len(names) > 50)
"""
    assert run(code) == "True"


def test_half_types_need_no_optional_package():
    """bfloat16 is known by its name: whoever has such an array has imported its package."""
    code = """
import sys
import numpy as np
import fastsoftmax as fs
print(fs.softmax(np.zeros((1, 2), np.float16)).dtype, "ml_dtypes" in sys.modules)
"""
    assert run(code) == "float16 False"


def test_import_without_compilation():
    """Functions have no cache then; what needs no kernel works."""
    code = "import fastsoftmax as fs; print(fs.softmax_jacobian([0.5, 0.5]).tolist())"
    assert run(code, NUMBA_DISABLE_JIT="1") == "[[0.25, -0.25], [-0.25, 0.25]]"


@pytest.mark.parametrize("rows", [32, 1_000])
def test_first_call_is_quick_once_compiled(rows):
    before = f"""
import numpy as np
import fastsoftmax as fs
logits, labels = np.zeros(({rows}, 100), np.float32), np.zeros({rows}, np.int64)
"""
    assert_quick("fs.cross_entropy(logits, labels)", 0.7, before)
