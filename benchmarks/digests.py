"""Digests of every result, to see that a change of the kernels changes no bit.

``python -m benchmarks.digests FILE`` calls every public function in all regimes, each call in every way that promises
the same bits: by the serial twin, for some shapes by the parallel one too, into an `out` at an odd address, in place.
It writes the digests to FILE if there is no such file, else compares them with it. ``--path avx512`` compiles the
kernels from the source's path for AVX-512 on any machine, and plays the one instruction that others lack; such kernels
are kept if NUMBA_CACHE_DIR is set, which should be a folder of that path's own.
"""

import argparse
import hashlib
import inspect
import json
import os
import sys
from collections.abc import Iterator
from itertools import chain, product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from llvmlite import ir
from numba.core import config
from numba.core.registry import cpu_target

from benchmarks.readme import InputError, read

_REGIMES = {"usual": (1_000, 32_000_000, 2**23), "streamed": (0, 0, 2**23), "blocked": (0, 0, 0)}
_FEW, _MANY = (1, 2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 100, 127), (128, 130, 300, 1_000)
_LONG = [*product((1, 3, 21), (2**15, 33_000, 70_001))]  # rows of one block and of several
_ROWS, _PARALLEL_ROWS = (1, 3, 16, 35, 130, 700), (3, 300, 700, 3_000, 10_300)
_FEATURES, _COLUMNS, _HEADS = (1, 15, 33, 784), (1, 2, 5, 16, 17, 32, 33, 70, 300), (1, 5, 10, 20, 40, 63, 64, 100, 300)
_LARGE = (10_300, 784, 10), (3, 1, 33_000), (700, 1, 33_000), (5, 1, 262_145)  # ∂L/∂X past caches, ∂L/∂b in spans
# (reduction, whether rows are ignored, dloss), the first ones for the loss alone too; tiny dloss makes small quotients
_LOSSES = (
    *(("mean", False, None), ("sum", True, None), ("none", True, None), ("mean", True, -2.5), ("sum", False, 1e-15)),
    *(("sum", True, 1e-38), ("sum", False, 1e-300), ("none", False, "rows"), ("none", True, "rows")),
)
_SCALES = (1, 1e-15, -2.5, 1e-38, 0, 30, 1e10, 1e-300)  # of rows


def play_avx512() -> None:
    """Import the package, which everything else does later, with kernels for AVX-512 that run on any processor."""
    if "NUMBA_CACHE_DIR" not in os.environ:
        os.environ["FASTSOFTMAX_CACHE"] = "0"
    assert cpu_target.target_context  # is made by this, with the features of this processor
    with mock.patch.object(config, "CPU_FEATURES", "+avx512f"):
        from fastsoftmax.kernels.compiling import sources
        from fastsoftmax.kernels.vecmath import powers
    assert powers.AVX512
    mock.patch.object(powers, "_build_lookup", _build_lookup).start()
    # These kernels serve no one else, and no others serve here.
    played = f"{sources.digest()}, AVX-512 played"
    mock.patch.object(sources, "digest", return_value=played).start()


def _build_lookup(values, index):
    """Do `powers._build_lookup` a lane at a time."""
    from fastsoftmax.kernels.compiling.values import builder

    build = builder()
    result = ir.Constant(values.type, ir.Undefined)
    for lane in range(values.type.count):
        at = ir.Constant(ir.IntType(32), lane)
        place = build.and_(build.extract_element(index, at), ir.Constant(index.type.element, 15))
        result = build.insert_element(result, build.extract_element(values, place), at)
    return result


def force(twin: str) -> None:
    """Have one twin of each kernel run, whatever the size."""
    from fastsoftmax import threads

    threads.launch()
    threads.count_for = lambda elements: {"serial": 1, "parallel": 3}[twin]
    threads.run = lambda kernel, elements, *args: getattr(kernel, twin)(*args)


def _with(z: np.ndarray, *values: float) -> np.ndarray:
    return np.insert(z, (len(z) - 1) // 2, values)[: len(z)]


# From standard normal logits and a label to a row that hurts, by arithmetic alone: the same on every machine.
_FINITE = [
    *(lambda z, y, spread=spread: spread * z for spread in (0.1, 3, 20, 80, 1e30)),
    *(lambda z, y, lead=lead: np.where(np.arange(len(z)) == y, z.max() + lead, z) for lead in (1, 20, 60, -60)),
    lambda z, y: _with(z, 90),
    lambda z, y: np.round(z),
    lambda z, y: np.full_like(z, z[0]),
    lambda z, y: 3 * z + 5_000 * np.sign(z[0]),
    lambda z, y: np.where((z < 0) & (np.arange(len(z)) != y), -np.inf, 3 * z),
    lambda z, y: np.where(np.arange(len(z)) != y, -np.inf, 3 * z),
    lambda z, y: _with(-40 - np.abs(z), -0.5, -0.9327521295671886),  # whose exponentials add up to 1
]
_NONFINITE = [lambda z, y, values=values: _with(z, *values) for values in ((np.nan,), (np.inf,), (np.inf, np.nan))]
_NONFINITE += [lambda z, y: np.full_like(z, -np.inf), *_FINITE[1::3]]
_KINDS = {"plain": [lambda z, y: 3 * z], "hostile": _FINITE, "nonfinite": _NONFINITE}


def matrix(rows: int, columns: int, values: str = "plain", seed: int = 0) -> np.ndarray:
    """Make a factor or a gradient: normal; rows of several scales, whose sums cancel; or with NaN and infinities."""
    result = np.random.default_rng([rows, columns, seed]).standard_normal((rows, columns))
    if values == "hostile":
        result *= np.resize(_SCALES, rows)[:, None]
        result[rows // 2 : rows // 2 * 2] = result[: rows // 2] * (1, -1)[seed]
    if values == "nonfinite":
        result[1::7, 0], result[2::7, -1] = np.nan, np.inf
    return result


def _some_ignored(y: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(y)) % 3 == 0, -100, y)


def on_rows(shape: tuple[int, ...], values: str) -> Iterator[tuple]:
    """Give the calls of what is done row by row; the rows of logits are one kind after the other."""
    z, g, kinds = matrix(*shape), matrix(*shape, values, 1), _KINDS[values]
    y = np.random.default_rng(shape).integers(shape[1], size=shape[0])
    for row in range(shape[0]):
        z[row] = kinds[(sum(shape) + row) % len(kinds)](z[row], y[row])
    for function in ("softmax", "log_softmax", "logsumexp"):
        yield function, "", {"logits": z}
    yield "softmax_backward", "", {"probs": 1 / (1 + z * z) / shape[1], "dprobs": g}
    yield "log_softmax_backward", "", {"log_probs": -np.abs(z), "dlog_probs": g}
    for reduction, ignored, dloss in _LOSSES:
        what = f"{reduction}{' ignored' * ignored}{f' dloss {dloss}' if dloss else ''}"
        arguments = {"logits": z, "labels": _some_ignored(y) if ignored else y, "reduction": reduction}
        if dloss is None:
            yield "cross_entropy", what, arguments
        yield "cross_entropy_with_grad", what, {**arguments, "dloss": g[:, 0] if dloss == "rows" else dloss}


def on_layers(shape: tuple[int, ...], values: str) -> Iterator[tuple]:
    """Give the calls of a linear layer's functions."""
    rows, features, columns = shape
    x, dz = matrix(rows, features, values), matrix(rows, columns, values, 1)
    w, b = matrix(features, columns, seed=2), matrix(1, columns, seed=3)[0]
    yield "linear", "without bias", {"inputs": x, "weight": w}
    yield "linear", "", {"inputs": x, "weight": w, "bias": b}
    yield "weight_grad", "", {"inputs": x, "doutputs": dz}
    yield "input_grad", "", {"doutputs": dz, "weight": w}
    if features == 1:
        yield "bias_grad", "", {"doutputs": dz}
    if rows == 35:
        yield "linear_backward", "", {"inputs": x, "weight": w, "doutputs": dz}


def of_heads(shape: tuple[int, ...], values: str) -> Iterator[tuple]:
    """Give the calls of the linear layer and the loss in one."""
    rows, features, classes = shape
    w, b = matrix(features, classes) / np.sqrt(features), matrix(1, classes, seed=1)[0]
    y = np.random.default_rng(shape).integers(classes, size=rows)
    head = {"inputs": matrix(rows, features, values), "weight": w, "bias": b, "labels": y}
    sums = {**head, "labels": _some_ignored(y), "bias": None, "reduction": "sum"}
    chunks = {**head, "labels": _some_ignored(y), "reduction": "none", "workspace": (rows // 3 + 1) * classes * 4}
    for what, arguments in (("mean", head), ("sum ignored without bias", sums), ("none ignored in chunks", chunks)):
        yield "linear_cross_entropy", what, arguments
        yield "linear_cross_entropy_with_grad", what, arguments
    yield "linear_cross_entropy_with_grad", "sum without dinputs", {**sums, "inputs_grad": False}


def cases(dtype: type) -> Iterator[tuple[str, str, str, dict[str, Any], bool]]:
    """Give every case: (name, regime, function, arguments, whether the parallel twin does it too)."""
    for calls, regime, shapes in (
        (on_rows, "usual", [*product(_ROWS, _FEW + _MANY), *_LONG]),
        (on_rows, "streamed", [*product(_ROWS, (100, *_MANY)), *_LONG]),
        (on_rows, "blocked", [*product((1, 3, 21), (130, 300)), *_LONG]),
        (on_layers, "usual", [*product((*_ROWS, 3_000), _FEATURES, _COLUMNS), *_LARGE]),
        (on_layers, "streamed", [*product((1, 130, 300), (15, 784), (1, 5, 17, 32))]),
        (of_heads, "usual", [*product((1, 3, 35, 300), _FEATURES, _HEADS), (3_000, 33, 10), _LARGE[0]]),
    ):
        for shape, values in product(shapes, _KINDS):
            if values != "plain" and np.prod(shape) > 2**25:
                continue
            for function, what, arguments in calls(shape, values):
                name = " ".join((function, dtype.__name__, regime, "x".join(map(str, shape)), values, what))
                for key, value in arguments.items():
                    if getattr(value, "dtype", None) == np.float64:
                        arguments = {**arguments, key: value.astype(dtype)}
                parallel = shape[0] in _PARALLEL_ROWS and values != "nonfinite"
                yield name, regime, function, arguments, parallel


def ways(regime: str, name: str, arguments: dict[str, Any], parallel: bool) -> Iterator[tuple[str, Any]]:
    """Make a call in all ways that promise the same bits: (what to call the way, result)."""
    import fastsoftmax as fs
    from fastsoftmax.kernels import tuning

    tuning.STREAM_CLASSES, tuning.STREAM_BYTES, tuning.BLOCKED_BYTES = _REGIMES[regime]
    function = getattr(fs, name)
    for twin in ["parallel", "serial"] if parallel else ["serial"]:
        force(twin)
        result = function(**arguments)
        yield twin, result
    if "out" in inspect.signature(function).parameters:
        last = result[-1] if name.endswith("with_grad") else result
        yield "out", function(**arguments, out=room_for(last))
        for key, value in arguments.items():
            if isinstance(value, np.ndarray) and value.shape == getattr(last, "shape", None):
                out = value.copy()
                yield f"out={key}", function(**{**arguments, key: out}, out=out)


def room_for(result: Any) -> Any:
    """Make arrays like those of a result, full of NaN, that begin where no vector should."""
    if isinstance(result, tuple):
        return type(result)(*map(room_for, result))
    return None if result is None else np.full(result.size + 3, np.nan, result.dtype)[3:].reshape(result.shape)


def digest(result: Any) -> str:
    """Digest all arrays of a result, bytes, shapes and dtypes; all NaN are one."""
    if isinstance(result, tuple):
        content = " ".join(digest(part) for part in result if part is not None).encode()
    else:
        array = np.where(np.isnan(result), result.dtype.type(np.nan), result)
        content = f"{array.dtype} {array.shape} ".encode() + array.tobytes()
    return hashlib.sha256(content).hexdigest()


def main(argv: list[str] | None = None) -> int:
    """Run the command; bad input gives one line and the status 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.digests", description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="JSON: written if it does not exist, else compared with")
    parser.add_argument("--path", choices=["native", "avx512"], default="native", help="code path of the kernels")
    args = parser.parse_args(argv)
    try:
        before = json.loads(read(args.file)) if args.file.exists() else None
    except (InputError, ValueError) as error:
        parser.exit(2, f"digests: {error}\n")
    if args.path == "avx512":
        play_avx512()
    digests, unlike = {}, set()
    for name, *case in chain(cases(np.float32), cases(np.float64)):
        for way, result in ways(*case):
            value = digest(result)
            if digests.setdefault(name, value) != value:
                unlike.add(f"{name}, {way}")
    if before is None:
        args.file.write_text(json.dumps(digests, indent=0), encoding="utf-8")
        before = digests
    changed = {name for name in digests.keys() | before.keys() if digests.get(name) != before.get(name)}
    for names, what in (
        (unlike, "results are unlike the same by another way"),
        (changed, "digests changed or missing"),
    ):
        if names:
            print(f"{len(names):,} {what}:", *sorted(names)[:20], sep="\n  ")
    print(f"{len(digests.keys() - changed):,} of {len(digests):,} digests are those in {args.file}")
    return 1 if unlike or changed else 0


if __name__ == "__main__":
    sys.exit(main())
