"""``fastsoftmax doctor``: describe the installation, measure the machine, and give advice."""

import argparse
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import llvmlite
import numba
import numpy as np
from llvmlite import binding as llvm

from fastsoftmax import threads
from fastsoftmax._version import __version__
from fastsoftmax.cli import machine
from fastsoftmax.cli.errors import InputError
from fastsoftmax.cli.warmup import folder_of_kernels, numba_config
from fastsoftmax.kernels import probes

# Larger than any cache.
_IN_MEMORY = 2**28
# They make NumPy's BLAS, or NumPy itself, do without instructions that the CPU has.
_CPU_TYPES = ("OPENBLAS_CORETYPE", "MKL_ENABLE_INSTRUCTIONS", "NPY_DISABLE_CPU_FEATURES")
# They bind OpenMP's threads to processors that they name.
_BINDING = ("GOMP_CPU_AFFINITY", "KMP_AFFINITY", "OMP_PLACES")


def run(_: argparse.Namespace) -> int:
    """Run the command, and return the exit status."""
    problems: list[str] = []
    for describe in (_versions, _cpu, _threads, _cache, _measurements):
        for name, value in describe(problems):
            print(f"{name:<18}{value}", flush=True)
    problems += _settings()
    print("", *[f"{problem[0].upper()}{problem[1:]}." for problem in problems or ["no problem found"]], sep="\n")
    return 0


def _settings() -> Iterator[str]:
    """Look for problems in the environment, and in Numba's file of settings."""
    if numba_config.BOUNDSCHECK:
        yield "NUMBA_BOUNDSCHECK is set, which makes kernels slower: unset it"
    if int(numba_config.OPT) < 3:
        yield f"NUMBA_OPT is {int(numba_config.OPT)}, which makes kernels up to fifteen times slower: unset it"
    if os.environ.get("OMP_WAIT_POLICY", "").lower() == "active":
        yield (
            "OMP_WAIT_POLICY is active: Numba's threads spin after each kernel and take the processors from NumPy's "
            "matrix products: unset it"
        )
    for name in _BINDING:
        if os.environ.get(name):
            yield f"{name} is set, which can bind several of Numba's threads to one processor: unset it"
    for name in _CPU_TYPES:
        if os.environ.get(name):
            yield f"{name} is set, which can make NumPy slower than this CPU allows: unset it"


def _versions(_: list[str]) -> Iterator[tuple[str, str]]:
    yield "fastsoftmax", __version__
    yield "Python", platform.python_version()
    yield "NumPy", np.__version__
    yield "Numba", numba.__version__
    yield "llvmlite", llvmlite.__version__
    yield "LLVM", ".".join(map(str, llvm.llvm_version_info))
    yield "platform", platform.platform()


def _cpu(problems: list[str]) -> Iterator[tuple[str, str]]:
    yield "CPU", f"{_cpu_name()} ({llvm.get_host_cpu_name()})"
    if numba_config.DISABLE_JIT:
        yield "vectors", "unknown: nothing is compiled"
        return
    registers, widest = machine.registers(probes.assembly()), _widest_vectors()
    if registers is None:
        yield "vectors", "unknown: no vector instruction found in a compiled kernel"
        return
    name, bits = registers
    yield "vectors", f"{bits} bits ({name} registers)"
    if bits < widest:
        problems.append(
            f"Kernels are compiled to vectors of {bits} bits, and this CPU has {widest}: "
            "unset NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NUMBA_ENABLE_AVX"
        )


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _widest_vectors() -> int:
    """Give the bits of the widest vectors that the CPU has, whatever Numba is told to compile for."""
    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx") else 128


def _threads(problems: list[str]) -> Iterator[tuple[str, str]]:
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        threads.launch()
        layer, count = numba.threading_layer(), numba.get_num_threads()  # type: ignore[attr-defined]
    except ValueError as error:
        yield "threading layer", "none"
        why = " ".join(str(error.__cause__ or error).split())
        problems.append(f"Numba has no threads ({why}): unset NUMBA_THREADING_LAYER")
        return
    yield "threading layer", layer
    yield "threads", f"{count}, of {processors} processors available"
    if threads._lost_in_fork:
        problems.append("this process is a fork of one whose threads had started: kernels run on one thread in it")
    if layer == "workqueue":
        problems.append(
            "Under the threading layer workqueue one caller at a time runs on all threads, the others on one each: "
            "install OpenMP (libgomp) or tbb"
        )
    elif not numba_config.DISABLE_JIT and (running := machine.threads_that_run(count)) < count:
        problems.append(f"kernels run on {running} of Numba's {count} threads: unset OMP_THREAD_LIMIT and OMP_DYNAMIC")
    quota = machine.quota()
    if quota is not None and quota < min(count, processors):
        problems.append(
            f"this container or control group may use {quota:.3g} of {processors} processors (cpu.max), and is stopped "
            f"when it has: set NUMBA_NUM_THREADS to {max(1, int(quota))}"
        )
    elif count != processors:
        problems.append(
            f"the number of Numba's threads is {count} where {processors} processors are available: "
            f"set NUMBA_NUM_THREADS to {processors}"
        )


def _cache(problems: list[str]) -> Iterator[tuple[str, str]]:
    try:
        folder = folder_of_kernels()
    except InputError as error:
        yield "kernel cache", "none"
        problems.append(str(error))
        return
    sizes = [path.stat().st_size for path in folder.glob("*.kernel")]
    writable = "writable" if os.access(folder, os.W_OK) else "not writable"
    yield "kernel cache", str(folder)
    yield "", f"{writable}, {len(sizes)} kernels of {sum(sizes) / 1e6:.1f} MB"


def _measurements(problems: list[str]) -> Iterator[tuple[str, str]]:
    if numba_config.DISABLE_JIT:
        yield "measured", "nothing: no kernel is compiled"
        return
    try:
        count = numba.get_num_threads()
    except ValueError:
        yield "measured", "nothing: there are no threads"
        return
    for kind in machine.KINDS:
        yield f"memory, {kind}", f"{machine.bandwidth(kind, _IN_MEMORY, count) / 1e9:.1f} GB/s"
    yield "exp (float32)", f"{machine.exps(count) / 1e9:.1f} per ns"
