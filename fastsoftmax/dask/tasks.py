"""Tasks: each on one thread, its errors with the place of its chunk, and their results merged in one order."""

import functools
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar

from dask.delayed import Delayed, delayed

from fastsoftmax import threads

P = ParamSpec("P")
R = TypeVar("R")


def on_one_thread(function: Callable[P, R]) -> Callable[P, R]:
    """Let a task's kernels run on its own thread alone: Dask has as many of these at work as there are processors."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with threads.at_most(1):
            return function(*args, **kwargs)

    return run


def of_chunk(function: Callable[..., R]) -> Callable[..., R]:
    """Let a task say which chunk does not fit: its first argument, which the function itself does not take."""

    @on_one_thread
    @functools.wraps(function)
    def run(chunk: object, *args: object) -> R:
        try:
            return function(*args)
        except (TypeError, ValueError) as error:
            if type(error) not in (TypeError, ValueError):  # which may want other arguments
                raise
            raise type(error)(f"{error} (in chunk {chunk})") from error

    return run


def tree(merge: Callable[[R, R], R], parts: Sequence[Delayed]) -> Delayed:
    """Merge neighbours, pair by pair: the order is that of the chunks, whoever is done first."""
    merge_two = delayed(merge)
    while len(parts) > 1:
        pairs = [merge_two(*parts[at : at + 2]) for at in range(0, len(parts) - 1, 2)]
        parts = [*pairs, *parts[2 * len(pairs) :]]
    return parts[0]


def sent(value: object) -> Delayed:
    """Give a value that many tasks take a place in the graph: it travels once to each worker, and cannot be lost."""
    place: Delayed = delayed(value, traverse=False)
    return place
