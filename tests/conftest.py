"""What the tests share: rows that hurt, a valid call of every public function, twins, processes, distances in ulp."""

import collections
import functools
import inspect
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

import fastsoftmax as fs
from fastsoftmax import reference, spatial, threads
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.regimes import RowKernels

try:
    import hypothesis
except ModuleNotFoundError:
    pass
else:
    hypothesis.settings.register_profile("fastsoftmax", max_examples=50, deadline=None, derandomize=True, database=None)
    # --hypothesis-profile=nightly: new examples each time
    hypothesis.settings.register_profile("nightly", max_examples=2000, deadline=None, database=None, print_blob=True)
    hypothesis.settings.load_profile("fastsoftmax")

FUNCTIONS = [name for name in fs.__all__ if inspect.isfunction(getattr(fs, name))]
# The head's `out` is three arrays: see test_head_out.
WITH_OUT = [
    name
    for name in FUNCTIONS
    if "out" in inspect.signature(getattr(fs, name)).parameters and name != "linear_cross_entropy_with_grad"
]
WITH_AXIS = [name for name in FUNCTIONS if "axis" in inspect.signature(getattr(fs, name)).parameters]


DTYPES = [np.float32, np.float64]
# Each kernel takes seconds to compile for each dtype and twin: the parallel twins show what they can in float32.
RUNS = [(np.float32, "serial"), (np.float32, "parallel"), (np.float64, "serial")]
try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:
    HALVES = [np.float16]
else:
    HALVES = [np.float16, bfloat16]


def pytest_addoption(parser):
    parser.addoption("--exhaustive", action="store_true", help="all combinations of parameters, and what takes long")
    parser.addoption("--left-out", action="store_true", help="only what --exhaustive adds")


def pytest_collection_modifyitems(config, items):
    """Leave out, unless told otherwise, tests that take long, and combinations of parameters beyond pairs."""
    if config.getoption("exhaustive") or any("::" in argument for argument in config.args):
        return
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    by_test = collections.defaultdict(list)
    for item in ours:
        by_test[item.nodeid.partition("[")[0]].append(item)
    kept = {item for variants in by_test.values() for item in _pairwise(variants)}
    left_out = {item for item in ours if item not in kept or item.get_closest_marker("exhaustive")}
    unwanted = set(items) - left_out if config.getoption("left_out") else left_out
    config.hook.pytest_deselected(items=list(unwanted))
    items[:] = [item for item in items if item not in unwanted]


def _pairwise(variants):
    """Choose variants of a test so that any two values of its parameters meet in one, each the best at its time."""
    parameters = [item.callspec.params if hasattr(item, "callspec") else {} for item in variants]
    if len(parameters[0]) < 3:  # any two are all
        return variants
    values = [[(name, id(value)) for name, value in sorted(given.items())] for given in parameters]
    pairs = [set(itertools.combinations(each, 2)) for each in values]
    chosen, missing = [], set().union(*pairs)
    while missing:
        best = max(range(len(variants)), key=lambda at: len(pairs[at] & missing))
        missing -= pairs[best]
        chosen.append(variants[best])
    return chosen


def pytest_generate_tests(metafunc):
    """Run a test for what it asks for: `dtype`, with `twin` or without; `half`; `function`: each public one in turn."""
    if "half" in metafunc.fixturenames:
        metafunc.parametrize("half", HALVES, ids=[half.__name__ for half in HALVES])
    own = [marker.args[0] for marker in metafunc.definition.iter_markers("parametrize")]
    if any("dtype" in names for names in own):
        return
    if "twin" in metafunc.fixturenames:
        ids = [f"{dtype.__name__}-{twin}" for dtype, twin in RUNS]
        metafunc.parametrize(("dtype", "twin"), RUNS, indirect=True, ids=ids)
    elif "dtype" in metafunc.fixturenames:
        metafunc.parametrize("dtype", DTYPES, indirect=True, ids=[dtype.__name__ for dtype in DTYPES])
    for argument, names in (
        ("function", FUNCTIONS),
        ("function_with_out", WITH_OUT),
        ("function_with_axis", WITH_AXIS),
    ):
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """Skip what needs compiled kernels where NUMBA_DISABLE_JIT is set."""
    try:
        return (yield)
    except RuntimeError as error:
        if config.DISABLE_JIT and "NUMBA_DISABLE_JIT" in str(error):
            pytest.skip("needs compiled kernels")
        raise


@pytest.fixture(scope="session")
def dtype(request):
    return request.param


@pytest.fixture
def force(monkeypatch):
    """A function that makes one twin of the kernels run, whatever the size."""

    def force_twin(twin):
        monkeypatch.setattr(threads, "count_for", lambda elements: {"serial": 1, "parallel": 3}[twin])
        monkeypatch.setattr(threads, "run", lambda kernel, elements, *args: getattr(kernel, twin)(*args))

    return force_twin


@pytest.fixture
def serial(force):
    force("serial")


@pytest.fixture
def twin(request, force):
    force(request.param)
    return request.param


# STREAM_CLASSES, STREAM_BYTES, BLOCKED_BYTES: how rows of many classes are done.
REGIMES = {"as it comes": (1_000, 32_000_000, 2**23), "streamed": (0, 0, 2**23), "blocked": (0, 0, 0)}


@pytest.fixture(params=REGIMES)
def regime(request, monkeypatch):
    for name, value in zip(("STREAM_CLASSES", "STREAM_BYTES", "BLOCKED_BYTES"), REGIMES[request.param], strict=True):
        monkeypatch.setattr(tuning, name, value)
    return request.param


def ahead(z, y, lead):
    """The row z with label y ahead of the others by `lead`."""
    others = np.delete(z, y)
    return np.where(np.arange(len(z)) == y, others.max(initial=0) + lead, z)


# From standard normal logits and a label to a row that hurts.
ROWS = {
    "spread 0.1": lambda z, y: 0.1 * z,
    "spread 3": lambda z, y: 3 * z,
    "spread 20": lambda z, y: 20 * z,
    "spread 80": lambda z, y: 80 * z,
    "label ahead by 1": lambda z, y: ahead(z, y, 1),
    "label ahead by 20": lambda z, y: ahead(z, y, 20),
    "label ahead by 60": lambda z, y: ahead(3 * z, y, 60),
    "label behind by 60": lambda z, y: ahead(z, y, -60),
    "outlier": lambda z, y: ahead(z, len(z) // 2, 90),
    "ties": lambda z, y: np.round(z),
    "constant": lambda z, y: np.full_like(z, z[0]),
    "far from zero": lambda z, y: 3 * z + 5000 * np.sign(z[0]),
    "masked": lambda z, y: np.where((z < 0) & (np.arange(len(z)) != y), -np.inf, 3 * z),
    "label alone": lambda z, y: np.where(np.arange(len(z)) != y, -np.inf, 3 * z),
    "huge": lambda z, y: 1e30 * z,
}


@functools.cache
def _rows(rows, classes, kinds):
    rng = np.random.default_rng([rows, classes])
    z = rng.standard_normal((rows, classes))
    y = rng.integers(classes, size=rows)
    for i, kind in zip(range(rows), itertools.cycle(kinds), strict=False):
        z[i] = ROWS[kind](z[i], y[i])
    return z, y


def rows_that_hurt(rows, classes, dtype, kinds=tuple(ROWS)):
    """Logits (rows, classes), one kind of row after the other, and labels."""
    z, y = _rows(rows, classes, tuple(kinds))
    return z.astype(dtype), y.copy()


@pytest.fixture(name="rows_that_hurt")
def _rows_that_hurt():
    return rows_that_hurt


def arguments(rows, classes, dtype, features=5):
    """Arguments for every public function, by name."""
    z, y = rows_that_hurt(rows, classes, dtype)
    rng = np.random.default_rng(rows + classes)
    x, w, b, g = (
        rng.standard_normal(s).astype(dtype) for s in ((rows, features), (features, classes), classes, z.shape)
    )
    probs, log_probs = reference.softmax(z), reference.log_softmax(z)
    layer = {"inputs": x, "weight": w, "bias": b}
    return {
        "softmax": {"logits": z},
        "log_softmax": {"logits": z},
        "logsumexp": {"logits": z},
        "softmax_backward": {"probs": probs, "dprobs": g},
        "log_softmax_backward": {"log_probs": log_probs, "dlog_probs": g},
        "softmax_jacobian": {"probs": probs},
        "cross_entropy": {"logits": z, "labels": y, "reduction": "none"},
        "cross_entropy_with_grad": {"logits": z, "labels": y, "reduction": "none"},
        "cross_entropy_hvp": {"logits": z, "labels": y, "vector": g, "reduction": "none"},
        "linear": layer,
        "weight_grad": {"inputs": x, "doutputs": g},
        "bias_grad": {"doutputs": g},
        "input_grad": {"doutputs": g, "weight": w},
        "linear_backward": {"inputs": x, "weight": w, "doutputs": g},
        "linear_cross_entropy": {**layer, "labels": y},
        "linear_cross_entropy_with_grad": {**layer, "labels": y},
    }


@pytest.fixture(name="arguments")
def _arguments():
    return arguments


def results(value):
    """The arrays that a public function gave, in one list."""
    if isinstance(value, (tuple, list)):
        return [array for part in value for array in results(part)]
    return [] if value is None else [np.asarray(value)]


@pytest.fixture(name="results")
def _results():
    return results


@pytest.fixture
def assert_same_bits():
    """A function that compares two results of a public function bit by bit; all NaN are one."""

    def compare(got, want, message=""):
        for a, b in zip(results(got), results(want), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype), message
            same = (a.view(f"u{a.itemsize}") == b.view(f"u{b.itemsize}")) | (np.isnan(a) & np.isnan(b))
            if not same.all():
                pytest.fail(f"{message} {a[~same][:3]}, not {b[~same][:3]}, at {np.argwhere(~same)[:3].tolist()}")

    return compare


def wider(dtype):
    """The dtype to compute a reference in: at least 11 bits more."""
    wide = np.dtype(np.float64 if dtype == np.float32 else np.longdouble)
    if np.finfo(wide).eps > np.finfo(dtype).eps / 1024:
        pytest.skip("this platform has nothing wider than float64")
    return wide


@pytest.fixture(name="wider", scope="session")
def _wider():
    return wider


@pytest.fixture
def assert_ulps():
    """A function that requires results within some ulp of wider ones, plus an absolute `slack`.

    Where the true result is below the smallest normal number, zero will do.
    """

    def compare(got, exact, ulps=4, slack=0, message=""):
        got, exact = np.asarray(got), np.asarray(exact)
        tiny = np.finfo(got.dtype).tiny
        assert got.shape == exact.shape, message
        with np.errstate(over="ignore", invalid="ignore"):
            nearest = exact.astype(got.dtype)
            unit = np.spacing(np.maximum(np.abs(nearest), tiny)).astype(exact.dtype)
            off = np.maximum(np.abs(got - exact) - slack, 0) / unit
        fine = (got == nearest) | (np.isnan(got) & np.isnan(exact)) | ((got == 0) & (np.abs(exact) < tiny))
        off = np.where(fine, 0, np.where(np.isnan(off), np.inf, off))
        if off.size and off.max() > ulps:
            at = np.unravel_index(off.argmax(), off.shape)
            pytest.fail(f"{message} {off[at]:.1f} ulp at {tuple(map(int, at))}: {got[at]!r}, not {exact[at]!r}")

    return compare


def run_python(*arguments, timeout=600, **environment):
    """Run Python in a fresh process with four threads; it must end well and in time. Returns what it printed."""
    tests = Path(__file__).parent
    paths = [str(Path(fs.__file__).parents[1]), str(tests), os.environ.get("PYTHONPATH")]
    environment = {"NUMBA_NUM_THREADS": "4", "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment}
    with subprocess.Popen(
        [sys.executable, "-P", "-X", "faulthandler", *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGABRT)  # children too: faulthandler says where each of them hangs
            pytest.fail(f"not done after {timeout} s: {process.communicate()[1]}")
    assert process.returncode == 0, f"exit status {process.returncode}: {errors}"
    return output.strip()


@pytest.fixture(name="run_python", scope="session")
def _run_python():
    return run_python


@pytest.fixture(scope="session", params=["omp", "workqueue", "tbb"])
def layer(request):
    """The environment for a threading layer of Numba's; skipped where it cannot be loaded."""
    environment = {"NUMBA_THREADING_LAYER": request.param}
    if request.param == "tbb":  # pip puts its library where the loader does not look
        libraries = [str(Path(sys.prefix) / "lib"), os.environ.get("LD_LIBRARY_PATH")]
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, libraries))
    launch = "import numba\ntry: numba.set_num_threads(1)\nexcept ValueError as error: print(error)"
    missing = run_python("-c", launch, **environment)
    if missing:
        pytest.skip(missing.splitlines()[0])
    return environment


@pytest.fixture
def ours_in_torch(monkeypatch):
    """No tensor is too small for `fastsoftmax.torch` to compute it itself."""
    from fastsoftmax.torch import routing

    for name in ("SMALLEST_LOSS", "SMALLEST_LOSS_ALONE", "SMALLEST_LOGSUMEXP", "SMALLEST_HEAD", "SMALLEST_SOFTMAX"):
        monkeypatch.setattr(routing, name, 0)
    monkeypatch.setattr(routing, "_MULTIPLIED", [])


class Seen:
    """The kernels that were chosen, and whether each of those that took arrays as they lie wrote past the caches."""

    def __init__(self):
        self.kernels, self.streams = [], []

    @property
    def copied(self):
        return not any("spatial" in name for name in self.kernels)


@pytest.fixture
def seen(monkeypatch):
    seen, choose, choose_spatial, run = Seen(), RowKernels.choose, RowKernels.choose_spatial, spatial.Call.run

    def choose_and_see(function, kernels, *args):
        kernel = function(kernels, *args)
        if kernel is not None:
            seen.kernels.append(kernel.__name__)
        return kernel

    def run_and_see(call, *rest):
        seen.streams.append(bool(call.planes[-1]))
        run(call, *rest)

    monkeypatch.setattr(RowKernels, "choose", lambda *args: choose_and_see(choose, *args))
    monkeypatch.setattr(RowKernels, "choose_spatial", lambda *args: choose_and_see(choose_spatial, *args))
    monkeypatch.setattr(spatial.Call, "run", run_and_see)
    return seen
