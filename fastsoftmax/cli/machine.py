"""What the machine does: memory bandwidth, the vector exp's throughput, and the registers it is compiled to."""

import contextlib
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numba
import numpy as np

from fastsoftmax import threads, workers
from fastsoftmax.conversions import Array
from fastsoftmax.kernels import probes
from fastsoftmax.kernels.compiling.jit import Kernel

# A measurement moves at least this much, and the best of several counts: a limit is what was reached once.
_TRAFFIC = 2**28
_TRIES = 5
_SECONDS = 0.1
_IN_L1 = 2_048


def _copy(array: Array, repeats: int, pieces: int) -> None:
    """Copy one half to the other by the C library, which goes past the caches where it deems that faster."""
    source, target = np.split(array, 2)

    def copy_piece(source_and_target: tuple[Array, Array]) -> None:
        for _ in range(repeats):
            np.copyto(*source_and_target[::-1])

    with ThreadPoolExecutor(pieces) as pool:
        list(pool.map(copy_piece, zip(np.split(source, pieces), np.split(target, pieces), strict=True)))


def _run(kernel: Kernel) -> Callable[[Array, int, int], None]:
    return lambda array, repeats, pieces: threads.run(kernel, threads.SERIAL_BELOW, array, repeats, pieces)


# (what to run, the best of which counts, and how often it moves each byte): in place and copies count what is read and
# what is written.
KINDS: dict[str, tuple[tuple[Callable[[Array, int, int], None], ...], int]] = {
    "read": ((_run(probes.read),), 1),
    "in place": ((_run(probes.scale),), 2),
    "copy": ((_copy, _run(probes.copy)), 1),
}


def bandwidth(kind: str, size: int, n_threads: int) -> float:
    """Measure the bytes per second of one of `KINDS` on data of a size."""
    runs, moved = KINDS[kind]
    array = np.ones(size // 4 // (2 * n_threads) * (2 * n_threads), np.float32)
    repeats = max(1, _TRAFFIC // size)
    seconds = min(_best(partial(run, array, repeats, n_threads)) for run in runs)
    return repeats * array.nbytes * moved / seconds


def exps(n_threads: int) -> float:
    """Measure the float32 exps per second on data in the first-level cache."""
    exp = _run(probes.exp)
    array, repeats = np.linspace(-4, 4, _IN_L1, dtype=np.float32), 10_000
    return n_threads * repeats * _IN_L1 / _best(partial(exp, array, repeats, n_threads))


def _best(run: Callable[[], object]) -> float:
    run()
    durations: list[float] = []
    while len(durations) < _TRIES or sum(durations) < _SECONDS:
        start = time.perf_counter()
        run()
        durations.append(time.perf_counter() - start)
    return min(durations)


# Threads -----------------------------------------------------------------------------------------------------------

_CGROUPS = Path("/sys/fs/cgroup")


def threads_that_run(count: int) -> int:
    """Count those of Numba's OpenMP threads that do a part of a loop with as many parts; else all."""
    if numba.threading_layer() != "omp" or threads._lost_in_fork:  # type: ignore[attr-defined]
        return count
    return len(workers.threads_that_run(count))


def quota() -> float | None:
    """Give how many processors' time Linux lets this process's control groups use; None for all."""
    folders = [_CGROUPS]
    try:
        own = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        own = []
    for line in own:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            group = _CGROUPS / path.lstrip("/")
            folders += [group, *(parent for parent in group.parents if _CGROUPS in parent.parents)]
        elif "cpu" in controllers.split(","):
            folders += [_CGROUPS / controllers / path.lstrip("/"), _CGROUPS / controllers, _CGROUPS / "cpu"]
    quotas = [quota for folder in folders if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def _quota_of(group: Path) -> float | None:
    """Read it of one group, by the second version of control groups, or by the first."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with contextlib.suppress(OSError, ValueError):
            quota, period = " ".join((group / name).read_text() for name in names).split()
            if float(quota) > 0:  # "max" is no number, and -1 is no limit
                return float(quota) / float(period)
    return None


# Registers ---------------------------------------------------------------------------------------------------------

_BITS = {"zmm": 512, "ymm": 256, "xmm": 128, "NEON": 128}
_ARITHMETIC = re.compile(
    r"^\s*(?:v?(?:fn?m)?(?:add|sub|mul)\w*ps\s.*?%(?P<x86>[xyz]mm)|f(?:ml[as]|mul|add|sub).*4s)", re.M
)


def registers(assembly: str) -> tuple[str, int] | None:
    """Find the widest registers that a kernel computes in, and their bits; None where they are not known."""
    found = {match["x86"] or "NEON" for match in _ARITHMETIC.finditer(assembly)}
    return max(((name, _BITS[name]) for name in found), key=lambda pair: pair[1], default=None)
