"""``fastsoftmax warmup``: compile the kernels ahead and keep them on disk."""

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numba import types
from numba.core import config

import fastsoftmax as fs
from fastsoftmax.cli.data import InputError
from fastsoftmax.cli.extras import extra
from fastsoftmax.kernels import blocked, cross_entropy, linear, softmax
from fastsoftmax.kernels.cache import folder_of, is_kept
from fastsoftmax.kernels.jit import DISPATCHERS, TWINS
from fastsoftmax.kernels.pool import thread_ids
from fastsoftmax.kernels.regimes import FEW_CLASSES, FEW_COLUMNS

DTYPES = ("float32", "float64")
# Kernels of many classes, and those that do the same for large results and for long rows.
_LARGE = (
    (softmax.softmax, softmax.softmax_streamed),
    (softmax.softmax, blocked.softmax_blocked),
    (softmax.log_softmax, softmax.log_softmax_streamed),
    (softmax.log_softmax, blocked.log_softmax_blocked),
    (softmax.logsumexp, blocked.logsumexp_blocked),
    (softmax.softmax_backward, softmax.softmax_backward_streamed),
    (softmax.log_softmax_backward, softmax.log_softmax_backward_streamed),
    (cross_entropy.cross_entropy, blocked.cross_entropy_blocked),
    (cross_entropy.cross_entropy_with_grad, cross_entropy.cross_entropy_with_grad_streamed),
    (cross_entropy.cross_entropy_with_grad, blocked.cross_entropy_with_grad_blocked),
)

numba_config: Any = config  # which mypy cannot see into


def run(args: argparse.Namespace) -> int:
    """Run the command, and return the exit status."""
    tqdm = extra("tqdm", "cli").tqdm
    folder = folder_of_kernels()
    start, compiled = perf_counter(), _count_compiled()
    calls = [call for dtype in ((args.dtype,) if args.dtype else DTYPES) for call in calls_of(dtype)]
    # disable=None: no bar where stderr is no terminal.
    for call in tqdm(calls, desc="compiling", unit="function", disable=None):
        call()
        compile_the_others()
    kept = [is_kept(kernel, signature) for kernel in DISPATCHERS for signature in kernel.signatures]
    if not all(kept):
        raise InputError(f"{len(kept) - sum(kept)} of {len(kept)} kernels could not be written to {str(folder)!r}")
    compiled = _count_compiled() - compiled
    print(
        f"{compiled} kernels compiled, {len(kept) - compiled} were there already: "
        f"{perf_counter() - start:.1f} s, in {str(folder)!r}"
    )
    return 0


def folder_of_kernels() -> Path:
    """Give the folder where compiled kernels are kept.

    Raises
    ------
    InputError
        If they are not; the message says why.
    """
    if numba_config.DISABLE_JIT:
        raise InputError("NUMBA_DISABLE_JIT is set, and no kernel runs without being compiled: unset it")
    folder = folder_of(DISPATCHERS[0])
    if folder is not None:
        return folder
    if os.environ.get("FASTSOFTMAX_CACHE") == "0":
        raise InputError("FASTSOFTMAX_CACHE is 0, so every process compiles its kernels anew: unset it")
    raise InputError(
        "no folder for compiled kernels can be written, so every process compiles its own: "
        "set NUMBA_CACHE_DIR to one that can"
    )


def _count_compiled() -> int:
    return sum(kernel.stats.cache_misses.total() for kernel in DISPATCHERS)


def calls_of(dtype: str) -> Iterator[Callable[[], object]]:
    """Give small calls of the public functions, which run the serial twin of each kernel, of few and many classes."""
    x = np.zeros((1, 1), dtype)
    labels = np.zeros(1, np.int64)
    for n_classes in (1, max(*FEW_CLASSES.values(), FEW_COLUMNS)):
        z = w = np.zeros((1, n_classes), dtype)
        yield partial(fs.softmax, z)
        yield partial(fs.log_softmax, z)
        yield partial(fs.logsumexp, z)
        yield partial(fs.cross_entropy, z, labels)
        yield partial(fs.cross_entropy_with_grad, z, labels)
        yield partial(fs.linear, x, w)
        yield partial(fs.weight_grad, x, z)
        yield partial(fs.linear_cross_entropy, x, w, None, labels)
        yield partial(fs.linear_cross_entropy_with_grad, x, w, None, labels)
    # One kernel each, whatever the number of classes; an input's gradient has another one for large results.
    yield partial(fs.softmax_backward, x, x)
    yield partial(fs.log_softmax_backward, x, x)
    yield partial(fs.bias_grad, x)
    yield partial(fs.input_grad, x, x)


def compile_the_others() -> None:
    """Compile, or load, what small calls do not run, for the signatures of what they do.

    Parallel twins are compiled so because where there is one thread, as in many a build of an image, large calls run
    the serial ones too.
    """
    for many, large in _LARGE:
        for signature in many.serial.signatures:
            large.serial.compile(signature)
    for signature in linear.input_grad.serial.signatures:
        linear.input_grad_few.serial.compile(signature[:-1])  # it need not know how many threads there are
    thread_ids.compile((types.int64[::1],))
    for serial, parallel in TWINS:
        for signature in serial.signatures:
            parallel.compile(signature)
