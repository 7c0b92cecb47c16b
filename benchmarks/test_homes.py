"""Homes in other libraries: each case of ours beside the function that it stands in for."""

import pytest

from benchmarks import homes, threads
from benchmarks.conftest import is_quick, record
from benchmarks.round_robin import time_call, time_calls


def pytest_generate_tests(metafunc):
    sides = [(case, name) for case in homes.cases() for name in (homes.OURS, case.peer)]
    metafunc.parametrize(("home", "library"), [pytest.param(*side, id=f"{side[0]}-{side[1]}") for side in sides])


@pytest.fixture(scope="module")
def raced():
    """Time both sides of a case in turns; the last one's durations are kept, as its arrays hold much memory."""
    last = {}

    def race(case, config):
        if last.get("case") != case:
            last.clear()
            calls = case.calls()
            for call in calls.values():
                time_call(call)  # compiles
            seconds = float(config.getoption("--benchmark-max-time"))
            with threads.hold():
                last["durations"] = time_calls(
                    calls, rounds=config.getoption("--benchmark-min-rounds"), seconds=seconds
                )
            last["case"] = case
        return last["durations"]

    return race


def test_homes(request, benchmark, raced, home, library):
    config = request.config
    case = home.small() if is_quick(config) else home
    if not benchmark.enabled:
        call = case.calls()[library]
        call.before()
        benchmark(call.run)
        call.after()
        return
    durations = raced(case, config)[library]
    memory = homes.extra_memory(home, library) if home.memory_bar and not is_quick(config) else None
    benchmark.group = str(case)
    benchmark.extra_info.update(suite="homes", library=library, memory=memory)
    benchmark.extra_info.update({name: value for name, value in case._asdict().items() if name != "setup"})
    record(benchmark, durations)
