"""The report's two plots."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.readme import InputError

if TYPE_CHECKING:
    from benchmarks.results import Results

# One colour a library, the same in both plots.
_COLOURS = {
    "NumPy": "tab:blue",
    "SciPy": "tab:cyan",
    "PyTorch": "tab:red",
    "torch.compile": "tab:orange",
    "torch linear_cross_entropy": "tab:pink",
    "JAX": "tab:purple",
    "scikit-learn": "tab:olive",
    "fastsoftmax": "black",
    "fastsoftmax in place": "black",
    "fastsoftmax on one thread": "tab:gray",
}
_LINES = {"fastsoftmax in place": ":", "fastsoftmax on one thread": "--"}
# The same results give the same file, so that a plot changes in version control only when they do.
_SETTINGS = {"svg.hashsalt": "fastsoftmax", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw(results: "Results", folder: Path) -> dict[str, Path]:
    """Write the plots that the results have data for; give their titles and paths."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError("--plots needs matplotlib") from error
    plots = {
        "How many times faster than each library": ("speedup.svg", _draw_speedup),
        "Cost per element by number of elements": ("cost.svg", _draw_cost),
    }
    paths = {}
    with matplotlib.rc_context(_SETTINGS):
        from matplotlib.figure import Figure

        for title, (name, draw_into) in plots.items():
            figure = Figure(layout="constrained")
            if not draw_into(figure, results):
                continue
            try:
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(folder / name, metadata={"Date": None})
            except OSError as error:
                raise InputError(f"{folder / name}: {error.strerror}") from error
            paths[title] = folder / name
    return paths


def _draw_speedup(figure, results: "Results") -> bool:
    shown = [c for c in results.comparisons if c.group.suite == "standard" and c.ratios]
    if not shown:
        return False
    labels = [" ".join(c.label).replace("`", "") for c in shown]
    figure.set_size_inches(8, 1.2 + 0.24 * len(shown))
    axes = figure.subplots()
    for library in dict.fromkeys(name for c in shown for name in c.ratios):
        points = [(c.ratios[library], row) for row, c in enumerate(shown) if library in c.ratios]
        axes.plot(*zip(*points, strict=True), "o", color=_COLOURS.get(library), alpha=0.8, label=library)
    axes.axvline(1, color="black", linewidth=1)
    axes.set(xscale="log", xlabel="times faster than (left of the line: slower)", ylim=(len(shown) - 0.5, -0.5))
    axes.set_yticks(range(len(shown)), labels)
    axes.grid(alpha=0.3)
    _plain_numbers(axes.xaxis)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    return True


def _draw_cost(figure, results: "Results") -> bool:
    lines: dict[str, list[tuple[int, float]]] = {}
    for group in results.groups:
        if group.suite != "scaling":
            continue
        elements = math.prod(group.shape)
        for by_library in group.seconds.values():
            for library, seconds in by_library.items():
                lines.setdefault(library, []).append((elements, 1e9 * seconds / elements))
    if not lines:
        return False
    figure.set_size_inches(8, 4.5)
    axes = figure.subplots()
    for library, points in lines.items():
        style = _LINES.get(library, "-")
        axes.plot(*zip(*sorted(points), strict=True), style, marker=".", color=_COLOURS.get(library), label=library)
    axes.set(xscale="log", yscale="log", xlabel="logits", ylabel="ns per logit, cross entropy and gradient")
    axes.grid(alpha=0.3)
    _plain_numbers(axes.yaxis)
    figure.legend(loc="outside right center", frameon=False)
    return True


def _plain_numbers(axis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
