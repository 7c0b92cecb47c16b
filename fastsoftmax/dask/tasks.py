"""Tasks: each on one thread, its errors with the place of its chunk, and their results merged in one order."""

import functools
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, TypeVar

from dask._task_spec import Task, TaskRef
from dask.delayed import Delayed, delayed
from dask.highlevelgraph import HighLevelGraph

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


def mapped(function: Callable[..., R], chunks: Iterable[Sequence[object]], *others: Delayed) -> list[Delayed]:
    """Give a task for each chunk, which takes what belongs to the chunk and then all others.

    In one layer of a graph: Dask's work on a layer grows with the number of layers.
    """
    name = _name(function)
    given = {(name, at): (*of_chunk, *others) for at, of_chunk in enumerate(chunks)}
    tasks = {key: task(key, function, *arguments) for key, arguments in given.items()}
    return _delayed(name, tasks, list(tasks), [each for arguments in given.values() for each in arguments])


def tree(merge: Callable[[R, R], R], parts: Sequence[Delayed]) -> Delayed:
    """Merge neighbours, pair by pair: the order is that of the chunks, whoever is done first."""
    name, tasks = _name(merge), dict[Any, Any]()
    keys = [part.key for part in parts]
    while len(keys) > 1:
        pairs = list(zip(keys[::2], keys[1::2], strict=False))
        merged = [(name, len(tasks) + at) for at in range(len(pairs))]
        tasks.update((key, Task(key, merge, *map(TaskRef, pair))) for key, pair in zip(merged, pairs, strict=True))
        keys = [*merged, *keys[2 * len(pairs) :]]
    return _delayed(name, tasks, keys, parts)[0] if tasks else parts[0]


def _name(function: Callable[..., object]) -> str:
    """Name tasks as Dask's dashboard is to show them; each time they are other tasks."""
    return f"{function.__name__.strip('_')}-{uuid.uuid4().hex}"


def task(key: object, function: Callable[..., object], *arguments: object) -> Task:
    """Give what calls a function, where it is needed as an entry of a graph.

    Its references are explicit: a cluster takes the key of persisted data in a plain tuple of the old form for a value.
    """
    return Task(key, function, *(TaskRef(each.key) if isinstance(each, Delayed) else each for each in arguments))


def _delayed(name: str, tasks: dict[Any, Any], keys: Sequence[Any], arguments: Iterable[object]) -> list[Delayed]:
    """Give the results of some tasks of a layer."""
    needed = [each for each in arguments if isinstance(each, Delayed)]
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=needed)
    return [Delayed(key, graph, layer=name) for key in keys]


def sent(value: object) -> Delayed:
    """Give a value that many tasks take a place in the graph: it travels once to each worker, and cannot be lost."""
    place: Delayed = delayed(value, traverse=False)
    return place
