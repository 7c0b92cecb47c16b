"""What each option of the loss costs: its time over that of the plain call.

``python -m benchmarks.options`` prints a table: calls take turns in one process; medians of their ratios.
"""

import argparse
import sys
from functools import partial
from statistics import median
from typing import Any

import numpy as np

from benchmarks.dialects import Call
from benchmarks.readme import table
from benchmarks.round_robin import time_calls

_SHAPES = [(32, 10), (65_536, 10), (8_192, 1_000), (1_024, 32_000), (8, 4_194_304)]


def options(rows: int, classes: int) -> dict[str, dict[str, Any]]:
    """Give the options, each alone and all together."""
    rng = np.random.default_rng(0)
    each = {
        "class_weight": {"class_weight": rng.uniform(0.5, 2, classes).astype(np.float32)},
        "sample_weight": {"sample_weight": rng.uniform(0.5, 2, rows)},
        "label_smoothing": {"label_smoothing": 0.1},
        "z_loss": {"z_loss": 1e-4},
    }
    together = {name: value for option in each.values() for name, value in option.items()}
    return {"plain": {}, **each, "class_weight, label_smoothing": each["class_weight"] | each["label_smoothing"]} | {
        "all": together
    }


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input gives one line and the status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.options", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=21, help="rounds in which each call has its turn (default: 21)")
    parser.add_argument("--quick", action="store_true", help="small shapes")
    args = parser.parse_args(argv)
    if args.rounds < 1:
        parser.exit(2, f"options: --rounds: expected at least 1, got {args.rounds}\n")
    import fastsoftmax as fs

    rows = []
    for shape in _SHAPES[:1] if args.quick else _SHAPES:
        rng = np.random.default_rng(1)
        logits = rng.standard_normal(shape, np.float32)
        labels, out = rng.integers(shape[1], size=shape[0]), np.empty_like(logits)
        for name in ("cross_entropy", "cross_entropy_with_grad"):
            function = partial(getattr(fs, name), logits, labels, **({"out": out} if name.endswith("grad") else {}))
            calls = {what: Call(partial(function, **given)) for what, given in options(*shape).items()}
            for call in calls.values():
                call.run()
            plain, *others = time_calls(calls, rounds=args.rounds, seconds=0).values()
            ratios = (median(a / b for a, b in zip(other, plain, strict=True)) for other in others)
            cells = [f"{median(plain) * 1e3:.3g}", *(f"{ratio:.2f}" for ratio in ratios)]
            rows.append([f"`{name}`", " × ".join(f"{n:,}" for n in shape), *cells])
    print(table(["", "shape", "plain, ms", *list(calls)[1:]], rows, 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
