"""What ``pytest benchmarks --benchmark-json RESULTS.json`` wrote: cases, comparisons, what options cost."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import homes
from benchmarks.contenders import IN_PLACE, OURS, TWINS
from benchmarks.options import Costs, costs_of
from benchmarks.readme import InputError, read


class Group(NamedTuple):
    """One case: the median seconds of each library that ran it, by role."""

    suite: str
    operation: str
    shape: tuple[int, ...]
    values: str
    option: str
    dtype: str
    seconds: dict[str, dict[str, float]]  # role → library → seconds


class Comparison(NamedTuple):
    """One form of this library beside the others, in one case."""

    group: Group
    library: str
    seconds: float
    ratios: dict[str, float]  # how many times faster than each peer
    yardsticks: dict[str, float]  # and than what is no contender, or itself in another dtype or layout

    @property
    def best(self) -> tuple[float, str] | None:
        """The smallest ratio, and the peer that it belongs to."""
        return min(((ratio, name) for name, ratio in self.ratios.items()), default=None)

    @property
    def label(self) -> tuple[str, str]:
        """The operation and its shape, with another dtype than float32, as they appear in a table."""
        in_place = ", in place" if self.library == IN_PLACE else ""
        dtype = "" if self.group.dtype == "float32" else f" {self.group.dtype}"
        return f"`{self.group.operation}`{in_place}", " × ".join(f"{size:,}" for size in self.group.shape) + dtype


class Results(NamedTuple):
    """A run: its comparisons, what options cost, the cases of homes, and what it ran on."""

    comparisons: list[Comparison]
    costs: list[Costs]
    homes: list[homes.Row]
    groups: list[Group]
    machine: str
    limits: dict[str, Any] | None
    quick: bool


def load(path: Path) -> Results:
    """Read the JSON, or raise `InputError`."""
    text = read(path)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    try:
        run, rows = data["fastsoftmax"], homes.rows_of(each for each in data["benchmarks"] if _is_of_homes(each))
        groups = _groups(each for each in data["benchmarks"] if not _is_of_homes(each))
        machine, limits, quick = _machine(data), run["limits"], run["quick"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not written by `pytest benchmarks --benchmark-json`") from error
    comparisons = [comparison for group in groups if group.suite != "options" for comparison in _compare(group)]
    try:
        costs = _costs_of_options(groups)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not (comparisons or costs or rows):
        raise InputError(f"{path}: holds no timings of fastsoftmax")
    return Results(comparisons, costs, rows, groups, machine, limits, quick)


def _is_of_homes(benchmark: dict[str, Any]) -> bool:
    return benchmark["extra_info"]["suite"] == "homes"


def _groups(benchmarks: Iterable[dict[str, Any]]) -> list[Group]:
    groups: dict[tuple, Group] = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        shape, option, dtype = tuple(info["shape"]), info.get("option", ""), info.get("dtype", "float32")
        key = (info["suite"], info["operation"], shape, info["values"], option, dtype)
        seconds = groups.setdefault(key, Group(*key, seconds={})).seconds
        seconds.setdefault(info["role"], {})[info["library"]] = benchmark["stats"]["median"]
    return list(groups.values())


def _compare(group: Group) -> list[Comparison]:
    def beside(library: str) -> dict[str, float]:
        twins = {kind: group.seconds.get(kind, {}).get(f"{library} ({kind})") for kind in TWINS}
        return group.seconds.get("yardstick", {}) | {kind: other for kind, other in twins.items() if other is not None}

    def ratios(others: dict[str, float], seconds: float) -> dict[str, float]:
        return {name: other / seconds for name, other in others.items()}

    return [
        Comparison(
            group, library, seconds, ratios(group.seconds.get("peer", {}), seconds), ratios(beside(library), seconds)
        )
        for library, seconds in group.seconds.get("ours", {}).items()
    ]


def _costs_of_options(groups: list[Group]) -> list[Costs]:
    timed: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {}
    for group in groups:
        ours = group.seconds.get("ours", {})
        if group.suite == "options" and OURS in ours:
            timed.setdefault((group.operation, group.shape), {})[group.option] = ours[OURS]
    return [costs_of(*case, seconds) for case, seconds in timed.items()]


def _machine(data: dict[str, Any]) -> str:
    machine, run = data["machine_info"], data["fastsoftmax"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    threads = "1 thread" if run["threads"] == 1 else f"{run['threads']} threads"
    flags = machine["cpu"].get("flags", ())
    vectors = [f" with {name}" for name, flag in (("AVX-512", "avx512f"), ("AVX2", "avx2")) if flag in flags]
    brand = machine["cpu"].get("brand_raw", machine["machine"])
    cpu = f"{brand}{''.join(vectors[:1])}, {machine['cpu']['count']} cores"
    system = f"{machine['system']}, Python {machine['python_version']}"
    return f"{cpu}, {threads} for everyone, {system}, {data['datetime'][:10]}; {versions}."
