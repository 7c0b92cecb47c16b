"""``fastsoftmax warmup``: compile the kernels ahead and keep them on disk."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from numba.core import config

from fastsoftmax.cli.errors import InputError
from fastsoftmax.cli.extras import progress
from fastsoftmax.kernels import operations, pool
from fastsoftmax.kernels.compiling.cache import folder_of, is_kept
from fastsoftmax.kernels.compiling.halves import STORED
from fastsoftmax.kernels.compiling.target import LEVELS
from fastsoftmax.options import fields_of

DTYPES = ("float32", "float64", "float16", "bfloat16")
_USUAL = DTYPES[:2]

numba_config: Any = config  # which mypy cannot see into


class Compiled(NamedTuple):
    """What a kernel took: seconds, lines of LLVM's representation as it was written, and of assembly."""

    seconds: float
    ir_lines: int
    assembly_lines: int
    name: str


def run(args: argparse.Namespace) -> int:
    """Run the command, and return the exit status."""
    if args.into is not None and not args.into.is_dir():
        raise InputError(f"argument --into: expected a folder that exists, got {str(args.into)!r}")
    if args.into is None and not args.cpu:
        return _compile_here(_dtypes(args), args.options, args.report)
    return max(_compile_for(cpu, args) for cpu in (args.cpu or [None]))


def _dtypes(args: argparse.Namespace) -> Sequence[str]:
    if args.dtype in STORED:  # some of what half types ask for runs in float32
        return args.dtype, "float32"
    return (args.dtype,) if args.dtype else _USUAL


def _compile_for(cpu: str | None, args: argparse.Namespace) -> int:
    """Compile in a process that takes another processor for this one, or keeps kernels elsewhere."""
    environment = dict(os.environ)
    if cpu is not None:
        environment |= {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": LEVELS[cpu]}
    if args.into is not None:
        environment["NUMBA_CACHE_DIR"] = str(args.into.resolve())
    command = ["--dtype", args.dtype] if args.dtype else []
    command += ["--report"] if args.report else []
    for names in args.options:
        command += ["--options", *names]
    return subprocess.run([sys.executable, "-m", "fastsoftmax", "warmup", *command], env=environment).returncode


def _compile_here(dtypes: Sequence[str], options: Sequence[Sequence[str]], report: bool) -> int:
    folder = folder_of_kernels()
    start, found, kept = perf_counter(), [], 0
    kernels = list(everything(dtypes, options))
    for name, dispatcher, signature in progress(kernels, "compiling", "kernel"):
        seconds, compiled = perf_counter(), dispatcher.stats.cache_misses.total()
        dispatcher.compile(signature)
        kept += is_kept(dispatcher, signature)
        if dispatcher.stats.cache_misses.total() > compiled:
            library = dispatcher.overloads[signature].library
            assembly = library.get_asm_str().count("\n") if report else 0
            found.append(Compiled(perf_counter() - seconds, getattr(library, "ir_lines", 0), assembly, name))
    if kept < len(kernels):
        raise InputError(f"{len(kernels) - kept} of {len(kernels)} kernels could not be written to {str(folder)!r}")
    if report:
        _print_report(found)
    cpu = f" for {numba_config.CPU_NAME}" if numba_config.CPU_NAME else ""
    print(
        f"{len(found)} kernels compiled{cpu}, {len(kernels) - len(found)} were there already: "
        f"{perf_counter() - start:.1f} s, in {str(folder)!r}"
    )
    return 0


def _print_report(found: list[Compiled]) -> None:
    print(f"{'seconds':>8} {'IR lines':>9} {'assembly':>9}  kernel")
    for each in sorted(found, reverse=True):
        print(f"{each.seconds:8.2f} {each.ir_lines:9,} {each.assembly_lines:9,}  {each.name}")


def everything(dtypes: Sequence[str], options: Sequence[Sequence[str]] = ()) -> Iterator[tuple[str, Any, Any]]:
    """List all that is compiled, once: (name, dispatcher, signature).

    The plain kernels, and those that take options for each of some sets of them.
    """
    kernels, seen = list(operations.kernels()), set()
    chosen = kernels + [
        kernel.variant(known)
        for fields in map(fields_of, options)
        for kernel in kernels
        if (known := kernel.known(fields))
    ]
    for kernel in chosen:
        for dtype, order in product(dtypes, kernel.orders):
            if kernel is operations.HELPERS.round_to_half and dtype not in STORED:
                continue
            signature = kernel.signature(dtype, order)
            if (kernel, signature) not in seen:
                seen.add((kernel, signature))
                name = f"{kernel.__name__} {dtype}" + " of a transposed weight" * (order == "F")
                yield name, kernel.dispatcher, signature
    yield "run_tasks", pool.run_tasks.dispatcher, pool.SIGNATURE


def folder_of_kernels() -> Path:
    """Give the folder where compiled kernels are kept.

    Raises
    ------
    InputError
        If they are not; the message says why.
    """
    if numba_config.DISABLE_JIT:
        raise InputError("NUMBA_DISABLE_JIT is set, and no kernel runs without being compiled: unset it")
    folder = folder_of(operations.HELPERS.total_loss.dispatcher)
    if folder is not None:
        return folder
    if os.environ.get("FASTSOFTMAX_CACHE") == "0":
        raise InputError("FASTSOFTMAX_CACHE is 0, so every process compiles its kernels anew: unset it")
    raise InputError(
        "no folder for compiled kernels can be written, so every process compiles its own: "
        "set NUMBA_CACHE_DIR to one that can"
    )
