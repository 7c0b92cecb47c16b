"""The README's tables and plots from the JSON of ``pytest benchmarks --benchmark-json RESULTS.json``.

``python -m benchmarks.report RESULTS.json [--readme README.md] [--plots DIR]``; without options the tables are printed.
In a README the section of the comparisons and that of what options cost are written if the results have timings of
theirs: runs of their own may fill them.
"""

import argparse
import json
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.options import LEGEND, Costs, costs_of, costs_table
from benchmarks.readme import InputError, read, replace_sections, table

_LEGEND = (
    "How many times faster than each library (in bold: slower); then the time, the rate at which the bytes that must "
    "move did so, and the share of the roofline: the least time that memory and exp allow on this machine (the "
    "arithmetic of matrix products is not counted). float32, medians of interleaved rounds, each library in its best "
    "form. The products alone are no contender but a yardstick."
)
_IN_PLACE = "fastsoftmax in place"
_ONE_THREAD = "fastsoftmax on one thread"


class Group(NamedTuple):
    """One case: the median seconds of each library that ran it, by role."""

    suite: str
    operation: str
    shape: tuple[int, ...]
    values: str
    option: str
    seconds: dict[str, dict[str, float]]  # role → library → seconds


class Comparison(NamedTuple):
    """One form of this library beside the others, in one case."""

    group: Group
    library: str
    seconds: float
    ratios: dict[str, float]  # how many times faster than each peer
    yardsticks: dict[str, float]  # and than what is no contender

    @property
    def best(self) -> tuple[float, str] | None:
        """The smallest ratio, and the peer that it belongs to."""
        return min(((ratio, name) for name, ratio in self.ratios.items()), default=None)

    @property
    def label(self) -> tuple[str, str]:
        """The operation and its shape, as they appear in a table."""
        in_place = ", in place" if self.library == _IN_PLACE else ""
        return f"`{self.group.operation}`{in_place}", " × ".join(f"{size:,}" for size in self.group.shape)


class Results(NamedTuple):
    """A run: its comparisons, what options cost, and what it ran on."""

    comparisons: list[Comparison]
    costs: list[Costs]
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
        run, groups = data["fastsoftmax"], _groups(data["benchmarks"])
        machine, limits, quick = _machine(data), run["limits"], run["quick"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not written by `pytest benchmarks --benchmark-json`") from error
    comparisons = [comparison for group in groups if group.suite != "options" for comparison in _compare(group)]
    try:
        costs = _costs_of_options(groups)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if not comparisons and not costs:
        raise InputError(f"{path}: holds no timings of fastsoftmax")
    return Results(comparisons, costs, groups, machine, limits, quick)


def _groups(benchmarks: Iterable[dict[str, Any]]) -> list[Group]:
    groups: dict[tuple, Group] = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        key = (info["suite"], info["operation"], tuple(info["shape"]), info["values"], info.get("option", ""))
        seconds = groups.setdefault(key, Group(*key, seconds={})).seconds
        seconds.setdefault(info["role"], {})[info["library"]] = benchmark["stats"]["median"]
    return list(groups.values())


def _compare(group: Group) -> list[Comparison]:
    def ratios(role: str, seconds: float) -> dict[str, float]:
        return {name: other / seconds for name, other in group.seconds.get(role, {}).items()}

    return [
        Comparison(group, library, seconds, ratios("peer", seconds), ratios("yardstick", seconds))
        for library, seconds in group.seconds.get("ours", {}).items()
    ]


def _costs_of_options(groups: list[Group]) -> list[Costs]:
    timed: dict[tuple[str, tuple[int, ...]], dict[str, float]] = {}
    for group in groups:
        ours = group.seconds.get("ours", {})
        if group.suite == "options" and "fastsoftmax" in ours:
            timed.setdefault((group.operation, group.shape), {})[group.option] = ours["fastsoftmax"]
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


# Text ---------------------------------------------------------------------------------------------------------------


def ratio_text(ratio: float) -> str:
    """Write a ratio with two digits; a loss stands out.

    >>> [ratio_text(r) for r in (0.874, 1.0, 3.14, 31.4)]
    ['**0.87×**', '1.0×', '3.1×', '31×']
    """
    if ratio < 1:
        return f"**{ratio:.2f}×**"
    return f"{ratio:.1f}×" if ratio < 9.95 else f"{ratio:.0f}×"


def sections(results: Results, plots: Iterable[str] = ()) -> dict[str, str]:
    """Write the sections that there are timings for, by the names of their markers."""
    written = {}
    if results.comparisons:
        written["benchmarks"] = _comparisons_text(results, plots)
    if results.costs:
        parts = [_quick_text(results), LEGEND, results.machine, costs_table(results.costs)]
        written["options"] = "\n\n".join(part for part in parts if part)
    return written


def _quick_text(results: Results) -> str:
    return "**A quick run on reduced sizes: the figures mean nothing.**" if results.quick else ""


def _comparisons_text(results: Results, plots: Iterable[str]) -> str:
    """Write verdict, machine, tables, plots."""
    by_suite = {
        suite: [c for c in results.comparisons if c.group.suite == suite] for suite in ("standard", "values", "scaling")
    }
    standard = by_suite["standard"]
    parts = [
        _quick_text(results),
        _verdict(standard),
        _LEGEND,
        results.machine,
        _limits_text(results.limits),
        _ratio_table([c for c in standard if not _is_layer(c)], results.limits, "rows × classes"),
        _ratio_table([c for c in standard if _is_layer(c)], results.limits, "rows × features × classes"),
        _ratio_table(by_suite["values"], results.limits, "logits", lambda c: c.group.values),
        _scaling_table(results.groups),
        *plots,
    ]
    return "\n\n".join(part for part in parts if part)


def _is_layer(comparison: Comparison) -> bool:
    return len(comparison.group.shape) == 3


def _verdict(comparisons: list[Comparison]) -> str:
    """Say in how many rows every other library is slower, and name those where the table shows no gain."""
    raced = [c for c in comparisons if c.best]
    if not raced:
        return ""
    lost = [c for c in raced if c.best[0] < 1]
    level = [c for c in raced if c.best[0] >= 1 and ratio_text(c.best[0]) == ratio_text(1)]
    won = len(raced) - len(lost) - len(level)
    if won == len(raced):
        return f"Faster than every other library in all {won} rows."
    rest = "".join(f", {how} in: {_rows_text(rows)}" for how, rows in (("level", level), ("slower", lost)) if rows)
    return f"Faster than every other library in {won} of {len(raced)} rows{rest}."


def _rows_text(comparisons: list[Comparison]) -> str:
    return "; ".join(f"{' '.join(c.label)} ({c.best[0]:.2f}× {c.best[1]})" for c in comparisons)


def _limits_text(limits: dict[str, Any] | None) -> str:
    if limits is None:
        return ""
    memory = ", ".join(f"{kind} {limits[kind][-1][1] / 1e9:.0f}" for kind in ("read", "in place", "copy"))
    return f"Measured in the same run: memory {memory} GB/s (read plus written), exp {limits['exps'] / 1e9:.1f} per ns."


def _ratio_table(comparisons, limits, second, second_text=lambda c: c.label[1]) -> str:
    if not comparisons:
        return ""
    peers = list(dict.fromkeys(name for c in comparisons for name in c.ratios))
    yardsticks = list(dict.fromkeys(name for c in comparisons for name in c.yardsticks))
    rows = [
        [
            c.label[0],
            second_text(c),
            f"{ratio_text(c.best[0])} {c.best[1]}" if c.best else "",
            *(ratio_text(c.ratios[name]) if name in c.ratios else "" for name in peers),
            *(f"{c.yardsticks[name]:.2f}×" if name in c.yardsticks else "" for name in yardsticks),
            *_costs(c, limits),
        ]
        for c in comparisons
    ]
    return table(["operation", second, "best peer", *peers, *yardsticks, "ms", "GB/s", "roofline"], rows, 2)


def _costs(c: Comparison, limits: dict[str, Any] | None) -> list[str]:
    from benchmarks import roofline

    read_bytes, written, _ = roofline.work(c.group.operation, c.group.shape)
    share = ""
    if limits is not None:
        least = roofline.least_seconds(limits, c.group.operation, c.group.shape, c.library == _IN_PLACE)
        share = f"{100 * least / c.seconds:.0f} %"
    return [f"{1e3 * c.seconds:.3g}", f"{(read_bytes + written) / c.seconds / 1e9:.3g}", share]


def _scaling_table(groups: list[Group]) -> str:
    """Cost per element of this library, and what the threads bring."""
    rows = []
    for group in groups:
        one, ours = group.seconds.get("one thread", {}).get(_ONE_THREAD), group.seconds.get("ours", {})
        if group.suite != "scaling" or "fastsoftmax" not in ours:
            continue
        elements = math.prod(group.shape)
        costs = [f"{1e9 * ours[name] / elements:.3g}" if name in ours else "" for name in ("fastsoftmax", _IN_PLACE)]
        gain = ratio_text(one / ours["fastsoftmax"]) if one else ""
        rows.append([f"{elements:,}", *costs, gain])
    header = ["elements", "ns per element", "in place", "all threads against one"]
    return table(header, rows, 0) if rows else ""


# --------------------------------------------------------------------------------------------------------------------


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input gives one line and the status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="JSON written by `pytest benchmarks --benchmark-json`")
    parser.add_argument(
        "--readme",
        type=Path,
        help="file with the markers <!-- benchmarks:start --> and :end, <!-- options:start --> and :end",
    )
    parser.add_argument("--plots", type=Path, metavar="DIR", help="folder for the SVG plots")
    args = parser.parse_args(argv)
    try:
        results = load(args.results)
        links = []
        if args.plots:
            from benchmarks.plots import draw

            beside = args.readme.parent if args.readme else Path()
            links = [
                f"![{title}]({Path(os.path.relpath(path, beside)).as_posix()})"
                for title, path in draw(results, args.plots).items()
            ]
        written = sections(results, links)
        if args.readme:
            replace_sections(args.readme, written)
        else:
            print("\n\n".join(written.values()))
    except InputError as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
