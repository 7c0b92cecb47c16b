"""What homes in other libraries promise: cases of ours beside the function that it stands in for, each with its bar.

``pytest benchmarks/test_homes.py --benchmark-json FILE`` times them, and ``python -m benchmarks.report FILE`` prints
the table. ``python -m benchmarks.homes NUMBER NAME`` prints the memory that one side of a case needs, in bytes. The
cases of a home are a module of its own, `homes_torch` for one, which `cases` knows.
"""

import importlib.util
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.dialects import Call
from benchmarks.readme import table

OURS = "fastsoftmax"


class HomeCase(NamedTuple):
    """A problem that both solve: with the same arrays, which `setup` makes for a shape."""

    home: str
    name: str
    shape: tuple[int, ...]
    needs: tuple[str, ...]  # packages
    peer: str
    setup: Callable[[tuple[int, ...]], tuple[Call, Call]]  # ours, and the peer's
    bar: float | None = None  # how many times as fast ours is at least
    memory_bar: float | None = None  # which share of the peer's extra memory ours needs at most

    def __str__(self):
        return "-".join((self.home, *self.name.split(), "x".join(map(str, self.shape))))

    def small(self) -> "HomeCase":
        """Give the case in a size that takes no time."""
        return self._replace(shape=tuple(math.isqrt(size) + 1 for size in self.shape))

    def installed(self) -> bool:
        """Whether all that it needs is installed."""
        return all(importlib.util.find_spec(name) for name in self.needs)

    def calls(self) -> dict[str, Call]:
        """Set both up, by name."""
        return dict(zip((OURS, self.peer), self.setup(self.shape), strict=True))


def cases() -> list[HomeCase]:
    """List the cases of all homes whose packages are installed."""
    from benchmarks import homes_jax, homes_njit, homes_sklearn, homes_torch

    modules = (homes_njit, homes_torch, homes_jax, homes_sklearn)
    return [case for module in modules for case in module.CASES if case.installed()]


# Memory ---------------------------------------------------------------------------------------------------------------


def extra_memory(case: HomeCase, name: str) -> int | None:
    """Measure the memory that a call needs beside its arguments, its results included, in a process of its own."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    number = str(cases().index(case))
    command = [sys.executable, "-m", "benchmarks.homes", number, name]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _measure(case: HomeCase, name: str) -> int:
    """Compare the most memory that the process has during a call with what it has before."""
    case.small().calls()[name].run()  # what is compiled or loaded is no part of it
    call = case.calls()[name]
    call.before()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before = _status("VmRSS")
    call.run()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


# The table ------------------------------------------------------------------------------------------------------------

LEGEND = (
    "How many times faster than the function that is swapped out, in its own library, and which share of the memory "
    "that it needs beside its arguments; with gradients or whole fits, float32, medians of interleaved rounds. In "
    "bold: short of the bar."
)


class Row(NamedTuple):
    """What was measured of a case."""

    home: str
    name: str
    shape: tuple[int, ...]
    peer: str
    bar: float | None
    memory_bar: float | None
    seconds: dict[str, float]
    memory: dict[str, int]


def rows_of(benchmarks: Iterable[dict[str, Any]]) -> list[Row]:
    """Find the cases in what pytest-benchmark wrote, those with both sides."""
    rows: dict[tuple[Any, ...], Row] = {}
    for benchmark in benchmarks:
        info = benchmark["extra_info"]
        key = info["home"], info["name"], tuple(info["shape"]), info["peer"], info["bar"], info["memory_bar"]
        row = rows.setdefault(key, Row(*key, {}, {}))
        row.seconds[info["library"]] = benchmark["stats"]["median"]
        if info.get("memory") is not None:
            row.memory[info["library"]] = info["memory"]
    return [row for row in rows.values() if row.seconds.keys() == {OURS, row.peer}]


def homes_table(rows: Iterable[Row]) -> str:
    """Lay out a row for each case."""
    header = ["home", "case", "shape", "instead of", "times faster", "at least", "ms", "its ms", "memory", "at most"]
    return table(header, [_cells(row) for row in rows], 4)


def _cells(row: Row) -> list[str]:
    ratio = row.seconds[row.peer] / row.seconds[OURS]
    share = row.memory[OURS] / row.memory[row.peer] if len(row.memory) == 2 else None
    shown = "" if share is None else f"{share:.2f} of {row.memory[row.peer] / 2**20:.0f} MiB"
    return [
        row.home,
        row.name,
        " × ".join(f"{size:,}" for size in row.shape),
        f"`{row.peer}`",
        _marked(f"{ratio:.1f}×", row.bar is not None and ratio < row.bar),
        "" if row.bar is None else f"{row.bar:g}×",
        *(f"{1e3 * row.seconds[name]:.3g}" for name in (OURS, row.peer)),
        _marked(shown, share is not None and row.memory_bar is not None and share > row.memory_bar),
        "" if row.memory_bar is None else f"{row.memory_bar:.2f}",
    ]


def _marked(text: str, is_short: bool) -> str:
    return f"**{text}**" if is_short and text else text


if __name__ == "__main__":
    print(_measure(cases()[int(sys.argv[1])], sys.argv[2]))
