"""Options and fixtures of the benchmarks.

pytest-benchmark finishes one benchmark before it begins the next. On a machine that is never quite quiet, and whose
clock rate drifts, contenders can be compared only if they take turns. So the first test of a case times all of its
contenders round robin (`round_robin`), and each test then hands its own durations to the ``benchmark`` fixture: for
pytest-benchmark the timer is a clock that stands still, and the function under test puts it forward by one recorded
duration. Statistics, tables, ``--benchmark-json``, ``--benchmark-compare`` work as ever; ``stats.data`` holds what was
measured.
"""

import importlib.metadata

import pytest

from benchmarks import threads

_PACKAGES = ("fastsoftmax", "numpy", "numba", "scipy", "torch", "jax", "optax", "scikit-learn")


def pytest_addoption(parser):
    group = parser.getgroup("fastsoftmax")
    group.addoption("--libraries", help="contenders to run, comma-separated, or their beginnings (default: all)")
    group.addoption("--threads", type=int, default=threads.available(), help="threads for everyone (default: all)")
    group.addoption("--largest", type=float, default=1e8, help="elements of the largest scaling case (default: 1e8)")
    group.addoption("--quick", action="store_true", help="small shapes; --benchmark-disable implies it")


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    """Run in one process: what runs beside would be timed too."""
    config.option.numprocesses = 0


def pytest_configure(config):
    count = config.getoption("--threads")
    if not 1 <= count <= threads.available():
        raise pytest.UsageError(f"--threads: expected 1 to {threads.available()}, got {count}")
    threads.limit(count)
    # Not before: it is with them that NumPy's BLAS starts.
    from benchmarks.contenders import TABLE

    known = {library.lower() for row in TABLE.values() for library in row}
    if unknown := [name for name in chosen(config) if not any(library.startswith(name) for library in known)]:
        raise pytest.UsageError(f"--libraries: expected beginnings of {', '.join(sorted(known))}, got {unknown[0]}")


def chosen(config):
    """List the beginnings of the libraries' names that --libraries asks for; an empty one is that of all."""
    return tuple(name.strip().lower() for name in (config.getoption("--libraries") or "").split(","))


def is_quick(config):
    return config.getoption("--quick") or config.getoption("--benchmark-disable")


def _to_run(case, config):
    return case.small() if is_quick(config) else case


def pytest_generate_tests(metafunc):
    """Make a test of each of the module's cases and each contender that is installed and chosen."""
    if "case" not in metafunc.fixturenames:
        return
    from benchmarks.contenders import TABLE

    config, module = metafunc.config, metafunc.module
    metafunc.parametrize(
        ("case", "library"),
        [
            pytest.param(case, library, id=f"{case}-{library}")
            for case in module.cases(config)
            for library, contender in TABLE[case.operation].items()
            if contender.role in module.ROLES
            if not hasattr(module, "fits") or module.fits(case, contender)
            if contender.installed() and library.lower().startswith(chosen(config))
        ],
    )


def pytest_collection_modifyitems(items):
    for item in items:
        if not {"case", "home"}.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.benchmark(timer=_clock))
            item.add_marker(pytest.mark.filterwarnings("default"))  # other libraries' warnings are no failures


class _Clock:
    """A timer that shows what it is put forward to."""

    __name__ = "recorded"
    now = 0.0

    def __call__(self):
        return self.now

    def set(self, now):
        self.now = now


_clock = _Clock()


class Group:
    """What is timed in turns; the last such group only, as its arrays hold much memory."""

    def __init__(self):
        self.entries, self.durations, self.failures = [], {}, {}

    def time(self, entries, config):
        """Time these pairs of a case and a library against each other, unless it has just been done."""
        if self.entries == entries:
            return
        from benchmarks.contenders import TABLE
        from benchmarks.options import inputs
        from benchmarks.round_robin import time_call, time_calls

        self.entries, self.durations, self.failures, calls = entries, {}, {}, {}
        made = inputs(dict(entries))
        for case, library in entries:
            try:
                arrays, options = made[case]
                call = TABLE[case.operation][library].setup(arrays, **options)
                time_call(call)  # compiles
                calls[case, library] = call
            except Exception as reason:  # raised again by the contender's own test
                self.failures[case, library] = reason
        seconds = float(config.getoption("--benchmark-max-time"))
        with threads.hold():
            self.durations = time_calls(calls, rounds=config.getoption("--benchmark-min-rounds"), seconds=seconds)


@pytest.fixture(scope="session")
def group():
    return Group()


@pytest.fixture(scope="session")
def machine(request):
    """Measure the limits of the machine in the same run; they go into the JSON."""
    from benchmarks import roofline

    request.config.stash[_LIMITS] = roofline.measure()


_LIMITS = pytest.StashKey[dict]()


@pytest.fixture
def compete(request, benchmark, group):
    """Time one contender of a case, beside all that this session runs of the operation on that shape."""
    from benchmarks.contenders import TABLE
    from benchmarks.dialects import UnavailableError
    from benchmarks.options import inputs

    def run(case, library):
        contender, config = TABLE[case.operation][library], request.config
        case = _to_run(case, config)
        try:
            if not benchmark.enabled:
                arrays, options = inputs([case])[case]
                call = contender.setup(arrays, **options)
                call.before()
                benchmark(call.run)
                return call.after()
            request.getfixturevalue("machine")
            params = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
            entries = [(_to_run(p["case"], config), p["library"]) for p in params if "case" in p]
            alike = {"values": case.values, "option": case.option}
            group.time([entry for entry in entries if entry[0]._replace(**alike) == case], config)
            if (case, library) in group.failures:
                raise group.failures[case, library]
        except UnavailableError as reason:
            pytest.skip(str(reason))
        benchmark.group = str(case._replace(option=""))
        benchmark.extra_info.update(case._asdict(), library=library, role=contender.role)
        return record(benchmark, group.durations[case, library])

    return run


def record(benchmark, durations):
    """Hand durations that were measured to pytest-benchmark."""
    recorded = iter(durations)
    return benchmark.pedantic(
        lambda duration: _clock.set(duration),
        setup=lambda: _clock.set(0.0) or ((next(recorded),), {}),
        rounds=len(durations),
    )


def pytest_benchmark_update_machine_info(config, machine_info):
    del machine_info["node"]  # the machine's name says nothing about it


def pytest_benchmark_update_json(config, benchmarks, output_json):
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    output_json["fastsoftmax"] = {
        "threads": threads.count(),
        "versions": versions,
        "quick": is_quick(config),
        "limits": config.stash.get(_LIMITS, None),
    }
