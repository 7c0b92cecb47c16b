"""What each option of the loss costs: its time over that of the plain call.

``python -m benchmarks.options`` prints a table: calls take turns in one process; medians of their ratios. The suite
`test_options` times the same calls, and `report` makes the same table of its medians.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.problems import Case, make, softmax
from benchmarks.readme import InputError, table
from benchmarks.round_robin import time_calls

PLAIN, ALL = "plain", "all"
_PROBABILITIES = "probability labels"
_IGNORED = -1
_SHAPES = [(32, 10), (65_536, 10), (8_192, 1_000), (1_024, 32_000), (8, 4_194_304)]

# What an option gives a call, from random numbers, the logits and the labels; "labels" replaces those of the problem.
_GIVES: dict[str, Callable[[np.random.Generator, np.ndarray, np.ndarray], dict[str, Any]]] = {
    "class_weight": lambda rng, z, y: {"class_weight": rng.uniform(0.5, 2, z.shape[1]).astype(z.dtype)},
    "sample_weight": lambda rng, z, y: {"sample_weight": rng.uniform(0.5, 2, len(z))},
    "label_smoothing": lambda rng, z, y: {"label_smoothing": 0.1},
    _PROBABILITIES: lambda rng, z, y: {"labels": softmax(3 * rng.standard_normal(z.shape, z.dtype))},
    "z_loss": lambda rng, z, y: {"z_loss": 1e-4},
    "softcap": lambda rng, z, y: {"softcap": 30.0},
    "scale": lambda rng, z, y: {"scale": 0.5},
    "where": lambda rng, z, y: {"where": _with_labels(rng.integers(4, size=z.shape, dtype=np.uint8) > 0, y)},
    "return_stats": lambda rng, z, y: {"return_stats": True},
    "ignore_index": lambda rng, z, y: {"labels": _some_ignored(rng, y), "ignore_index": _IGNORED},
    "dloss": lambda rng, z, y: {"dloss": rng.standard_normal(len(z), z.dtype), "reduction": "none"},
}
_LOSS = tuple(name for name in _GIVES if name != "dloss")
_SEVERAL = ("class_weight, label_smoothing", ALL)
# The options of each function: the plain call, each alone, and several together.
OPTIONS = {
    "cross_entropy": (PLAIN, *_LOSS, *_SEVERAL),
    "cross_entropy_with_grad": (PLAIN, *_LOSS, "dloss", *_SEVERAL),
    "softmax": (PLAIN, "scale", "where", ALL),
}
_WITH_OUT = ("cross_entropy_with_grad", "softmax")

LEGEND = (
    "What options cost: time over that of the plain call; float32, all calls of a function and shape in turns. "
    "`ignore_index` ignores a fifth of the rows and `where` leaves out a quarter of the classes, both at random; "
    '`dloss` is a factor for each row, with `reduction="none"`; "all" is all options of the function together, with '
    "class indices as labels. An empty cell was not timed."
)


def _with_labels(mask: np.ndarray, labels: np.ndarray) -> np.ndarray:
    # A loss is infinite where its label is left out.
    mask[np.arange(len(mask)), labels] = True
    return mask


def _some_ignored(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
    labels = labels.copy()
    labels[rng.choice(len(labels), len(labels) // 5, replace=False)] = _IGNORED
    return labels


def cases(shapes: Iterable[tuple[int, int]] = _SHAPES) -> list[Case]:
    """List the calls: every function with each of its options, in every shape."""
    return [
        Case("options", operation, shape, option=option)
        for operation, options in OPTIONS.items()
        for shape in shapes
        for option in options
    ]


def inputs(given: Iterable[Case]) -> dict[Case, tuple[list[np.ndarray], dict[str, Any]]]:
    """Make the arrays of each case, and what its option gives.

    Cases that differ in their options alone share the logits and the result's memory: where arrays lie takes its time,
    too, and as many of the largest as there are options would take much memory. A case without an option has arrays
    only.
    """
    made: dict[Case, tuple[list[np.ndarray], dict[str, Any]]] = {}
    shared: dict[Case, tuple[list[np.ndarray], np.ndarray]] = {}
    for case in given:
        problem = case._replace(option="")
        if problem not in shared:
            arrays = make(problem)
            shared[problem] = arrays, np.empty_like(arrays[0])
        arrays, out = shared[problem]
        options: dict[str, Any] = {}
        if case.option and case.operation in _WITH_OUT:
            options["out"] = out
        logits, *rest = arrays
        for name in _together(case):
            labels = rest[0] if rest else np.zeros(len(logits), np.int64)
            options |= _GIVES[name](np.random.default_rng(1), logits, labels)
        made[case] = ([logits, options.pop("labels")] if "labels" in options else arrays), options
    return made


def _together(case: Case) -> list[str]:
    """List the single options that a case's option consists of."""
    if case.option == ALL:
        return [name for name in OPTIONS[case.operation] if name in _GIVES and name != _PROBABILITIES]
    return case.option.split(", ") if case.option not in ("", PLAIN) else []


# The table ------------------------------------------------------------------------------------------------------------


class Costs(NamedTuple):
    """What the options of a function cost in one shape."""

    operation: str
    shape: tuple[int, ...]
    plain: float  # seconds
    ratios: dict[str, float | None]  # of each option's time to that; None: not timed


def costs_of(operation: str, shape: tuple[int, ...], seconds: Mapping[str, float]) -> Costs:
    """Compare a function's options with its plain call; without one raise `InputError`: all would be left out."""
    if PLAIN not in seconds:
        raise InputError(f"expected a plain call of {operation} {' × '.join(map(str, shape))} beside its options")
    plain, names = seconds[PLAIN], dict.fromkeys([*OPTIONS.get(operation, ()), *seconds])
    ratios = {name: seconds[name] / plain if name in seconds else None for name in names if name != PLAIN}
    return Costs(operation, shape, plain, ratios)


def costs_table(costs: list[Costs]) -> str:
    """Lay out a row for each function and option, and a column for each shape."""
    shapes = list(dict.fromkeys(c.shape for c in costs))
    rows = []
    for operation in dict.fromkeys(c.operation for c in costs):
        here = {c.shape: c for c in costs if c.operation == operation}
        plain = [f"{1e3 * here[shape].plain:.3g}" if shape in here else "" for shape in shapes]
        rows.append([f"`{operation}`", f"{PLAIN}, ms", *plain])
        for option in dict.fromkeys(name for c in here.values() for name in c.ratios):
            ratios = [here[shape].ratios.get(option) if shape in here else None for shape in shapes]
            rows.append([f"`{operation}`", option, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)])
    return table(["function", "option", *(" × ".join(f"{n:,}" for n in shape) for shape in shapes)], rows, 2)


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input gives one line and the status 2."""
    every = list(dict.fromkeys(name for names in OPTIONS.values() for name in names if name != PLAIN))
    parser = argparse.ArgumentParser(prog="python -m benchmarks.options", description=__doc__.splitlines()[0])
    parser.add_argument("--options", nargs="+", metavar="NAME", default=every, help="some of them (default: all)")
    parser.add_argument("--rounds", type=int, default=21, help="rounds in which each call has its turn (default: 21)")
    parser.add_argument("--quick", action="store_true", help="small shapes")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.exit(2, f"options: --rounds: expected at least 1, got {args.rounds}\n")
    if unknown := [name for name in args.options if name not in every]:
        parser.exit(2, f"options: --options: expected some of {'; '.join(every)}, got {unknown[0]}\n")
    from benchmarks.contenders import OURS, TABLE

    costs = []
    for shape in _SHAPES[:1] if args.quick else _SHAPES:
        chosen = [case for case in cases([shape]) if case.option in (PLAIN, *args.options)]
        for operation in OPTIONS:
            asked = [case for case in chosen if case.operation == operation]
            if len(asked) == 1:  # a function that has none of these options
                continue
            calls = {
                case.option: TABLE[operation][OURS].setup(arrays, **options)
                for case, (arrays, options) in inputs(asked).items()
            }
            for call in calls.values():
                call.run()
            plain, *others = time_calls(calls, rounds=args.rounds, seconds=0).values()
            ratios = [median(a / b for a, b in zip(other, plain, strict=True)) for other in others]
            costs.append(Costs(operation, shape, median(plain), dict(zip(list(calls)[1:], ratios, strict=True))))
    print(costs_table(costs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
