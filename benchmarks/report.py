"""The README's tables and plots from the JSON of ``pytest benchmarks --benchmark-json RESULTS.json``.

``python -m benchmarks.report RESULTS.json [--readme README.md] [--plots DIR]``; without options the tables are printed.
In a README each section, of the comparisons, half types, layouts, what options cost and homes, is written if the
results have timings of its own: runs of their own may fill them.
"""

import argparse
import math
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import homes
from benchmarks.contenders import IN_PLACE, OURS
from benchmarks.legends import LEGENDS, SECOND
from benchmarks.options import LEGEND, costs_table
from benchmarks.readme import InputError, replace_sections, table
from benchmarks.results import Comparison, Group, Results, load

_STANDARD = ("standard", "values", "scaling")  # suites whose tables are one section
_ONE_THREAD = "fastsoftmax on one thread"


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
    by_suite = {suite: [c for c in results.comparisons if c.group.suite == suite] for suite in (*_STANDARD, *SECOND)}
    written = {}
    if any(by_suite[suite] for suite in _STANDARD):
        parts = [*_standard_tables(results, by_suite), *plots]
        written["benchmarks"] = _text(results, by_suite["standard"], LEGENDS["benchmarks"], parts)
    for suite, second in SECOND.items():
        if compared := by_suite[suite]:
            parts = [_ratio_table(compared, results.limits, second)]
            written[suite] = _text(results, compared, LEGENDS[suite], parts)
    if results.costs:
        parts = [_quick_text(results), LEGEND, results.machine, costs_table(results.costs)]
        written["options"] = "\n\n".join(part for part in parts if part)
    if results.homes:
        parts = [_quick_text(results), homes.LEGEND, results.machine, homes.homes_table(results.homes)]
        written["homes"] = "\n\n".join(part for part in parts if part)
    return written


def _quick_text(results: Results) -> str:
    return "**A quick run on reduced sizes: the figures mean nothing.**" if results.quick else ""


def _text(results: Results, judged: list[Comparison], legend: str, parts: Iterable[str]) -> str:
    """Write verdict, legend, machine, and what follows."""
    begin = [_quick_text(results), _verdict(judged), legend, results.machine, _limits_text(results.limits)]
    return "\n\n".join(part for part in (*begin, *parts) if part)


def _standard_tables(results: Results, by_suite: Mapping[str, list[Comparison]]) -> list[str]:
    standard, limits = by_suite["standard"], results.limits
    return [
        _ratio_table([c for c in standard if not _is_layer(c)], limits, "rows × classes"),
        _ratio_table([c for c in standard if _is_layer(c)], limits, "rows × features × classes"),
        _ratio_table(by_suite["values"], limits, "logits", lambda c: c.group.values),
        _scaling_table(results.groups),
    ]


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

    problem = (c.group.operation, c.group.shape, c.group.dtype)
    read_bytes, written, _ = roofline.work(*problem)
    share = ""
    if limits is not None:
        least = roofline.least_seconds(limits, *problem, in_place=c.library == IN_PLACE)
        share = f"{100 * least / c.seconds:.0f} %"
    return [f"{1e3 * c.seconds:.3g}", f"{(read_bytes + written) / c.seconds / 1e9:.3g}", share]


def _scaling_table(groups: list[Group]) -> str:
    """Cost per element of this library, and what the threads bring."""
    rows = []
    for group in groups:
        one, ours = group.seconds.get("one thread", {}).get(_ONE_THREAD), group.seconds.get("ours", {})
        if group.suite != "scaling" or OURS not in ours:
            continue
        elements = math.prod(group.shape)
        costs = [f"{1e9 * ours[name] / elements:.3g}" if name in ours else "" for name in (OURS, IN_PLACE)]
        gain = ratio_text(one / ours[OURS]) if one else ""
        rows.append([f"{elements:,}", *costs, gain])
    header = ["elements", "ns per element", "in place", "all threads against one"]
    return table(header, rows, 0) if rows else ""


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input gives one line and the status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, help="JSON written by `pytest benchmarks --benchmark-json`")
    parser.add_argument(
        "--readme",
        type=Path,
        help="file with the markers <!-- benchmarks:start --> and :end, and those of options, half, layouts and homes",
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
