"""Where a kernel runs: on the pool where that pays and cannot harm the process, else on this thread."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel as pool

from fastsoftmax import openmp, workers

if TYPE_CHECKING:
    from fastsoftmax.kernels.compiling.jit import Bound, Kernel

# Below this many elements one thread is done before a second has begun (M49).
SERIAL_BELOW = 32_768
# From so many on, some 100 µs, it pays to see to it that workers do not run on the caller's processor (M45).
_PLACED_FROM = 2**18
# So many products of a matrix product take as long as one element of a row.
PRODUCTS_PER_ELEMENT = 16

_one_caller = threading.Lock()


def count_for(elements: int) -> int:
    """Count the threads that `run` shares so much work out to: 1 for little work or where threads are unsafe."""
    if elements < SERIAL_BELOW or _lost_in_fork:
        return 1
    launch()
    # numba.get_num_threads() takes a lock that forked children share: a child born meanwhile never gives it back.
    return int(pool._get_num_threads())  # type: ignore[attr-defined]  # set when launched


def has_pool() -> bool:
    """Launch the threads, and tell whether kernels may run on them: not in a process that has lost them."""
    if _lost_in_fork:
        return False
    launch()
    return True


def run(kernel: Kernel | Bound, elements: int, *args: object) -> None:
    """Run a kernel on this thread if `count_for` says one, on the pool else."""
    # Little work is told without a call of `count_for`, which a small call would notice (M47).
    if elements < SERIAL_BELOW or (count := count_for(elements)) == 1:
        kernel.serial(*args)
    elif pool._threading_layer == "workqueue":
        _run_on_workqueue(kernel, *args)
    else:
        if elements >= _PLACED_FROM and pool._threading_layer == "omp":
            workers.keep_off(count)
        kernel.parallel(*args)


def multiply(kernel: Kernel | Bound, products: int, *args: object) -> None:
    """Run a kernel that multiplies matrices by `gemm`: its last argument is how many threads there are."""
    elements = products // PRODUCTS_PER_ELEMENT
    run(kernel, elements, *args, count_for(elements))


@contextmanager
def at_most(count: int) -> Iterator[None]:
    """Let the kernels that this thread runs have no more threads than so many, whatever Numba's own number is."""
    if count >= config.NUMBA_NUM_THREADS or _lost_in_fork:  # type: ignore[attr-defined]
        yield
        return
    launch()
    usual = pool._get_num_threads()  # type: ignore[attr-defined]  # set when launched
    pool._set_num_threads(min(usual, count))  # type: ignore[attr-defined]
    try:
        yield
    finally:
        pool._set_num_threads(usual)  # type: ignore[attr-defined]


def _run_on_workqueue(kernel: Kernel | Bound, *args: object) -> None:
    """Admit one caller at a time: a second one inside Numba's workqueue aborts the process.

    A thread that Python did not start may be one of the queue's own workers, inside a user's parallel kernel.
    """
    foreign = isinstance(threading.current_thread(), threading._DummyThread)
    if foreign or _one_caller.locked():
        kernel.serial(*args)
        return
    # Two that find it free in the same moment wait for each other here. Not `acquire(blocking=False)` and `try`: a
    # KeyboardInterrupt between the two would leave it locked for good, while `with` has no such gap.
    with _one_caller:
        kernel.parallel(*args)


def launch() -> None:
    """Launch Numba's threads, unless they are, so that they soon sleep when there is no work.

    GNU OpenMP's threads spin for milliseconds after each kernel, and take the cores from what comes next: on two cores
    a matrix product and a short kernel, in turn, took three times as long as with threads that spin five thousand times
    (M44). A thousand gains little more, but threads that have fallen asleep are slow to wake and may do so on the
    caller's core: then short kernels in a row take several times as long. OpenMP reads this when it is loaded; what the
    user has set stands.
    """
    if not pool._is_initialized:
        with global_compiler_lock, _short_spins(), openmp.count_kept():
            try:
                pool._launch_threads()
            except ValueError as error:
                layer = config.THREADING_LAYER  # type: ignore[attr-defined]
                problem = f"expected a threading layer that can be loaded, got {layer!r}"
                raise ValueError(f"NUMBA_THREADING_LAYER: {problem}: {' '.join(str(error).split())}") from error


@contextmanager
def _short_spins() -> Iterator[None]:
    if "OMP_WAIT_POLICY" in os.environ or "GOMP_SPINCOUNT" in os.environ:
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = "5000"
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]


# Forks -----------------------------------------------------------------------------------------------------------


def _threads_are_gone() -> bool:
    """Whether Numba believes in threads that this process, a fork of the one that launched them, does not have.

    Threads of Python's own, such as a queue's, are none of them; others' may be a BLAS's, so that a fork with such
    threads counts as well. It may have launched its own before it imported this: then it is slower. Else it would die.
    """
    if not pool._is_initialized:
        return False
    try:
        tasks = {int(task) for task in os.listdir("/proc/self/task")}
    except OSError:  # no /proc: no fork to fear where this module was there to see it
        return False
    return tasks <= {thread.native_id for thread in threading.enumerate()} or _is_forked()


def _is_forked() -> bool:
    """Whether this process is a fork of its parent: each program that is begun has addresses of its own.

    They differ even between two runs of the same program, unless the system is told not to choose them at random.
    """
    try:
        ours, theirs = (Path(f"/proc/{process}/auxv").read_bytes() for process in ("self", os.getppid()))
    except OSError:
        return False
    return ours == theirs


# GNU OpenMP kills a forked child at its first parallel kernel.
_lost_in_fork = _threads_are_gone()


def _after_fork() -> None:
    global _lost_in_fork
    _lost_in_fork = _lost_in_fork or bool(pool._is_initialized)


def _release_compiler_in_child() -> None:
    global_compiler_lock.release()
    _after_fork()


if hasattr(os, "register_at_fork"):
    # A child born while another thread compiles, or launches the threads, would wait for that thread for ever.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=_release_compiler_in_child,
    )
