"""Arrays in chunks of rows: what may come in, chunk beside chunk, and results put together again."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.base import is_dask_collection, tokenize
from dask.core import flatten
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph

from fastsoftmax.conversions import Array, array_of
from fastsoftmax.dask.tasks import task


def matrix(name: str, value: object, instead: str) -> da.Array:
    """Take a Dask array of two axes, the second of known length."""
    if not isinstance(value, da.Array):
        came = type(value).__name__
        advice = "its .to_dask_array(lengths=True) is one" if is_dask_collection(value) else instead
        raise TypeError(f"{name}: expected a Dask array, got {came}; {advice}")
    if value.ndim != 2:
        raise ValueError(f"{name}: expected two axes, rows first, got shape {value.shape}")
    if math.isnan(value.shape[1]):
        raise ValueError(f"{name}: expected a known number of columns, got shape {value.shape}")
    return value


def row_chunks(name: str, value: object, instead: str) -> da.Array:
    """Take a Dask array of rows: chunks of whole rows."""
    array = matrix(name, value, instead)
    if array.numblocks[1] != 1:
        advice = f"{name}.rechunk({{1: -1}}) makes such chunks"
        raise ValueError(f"{name}: expected chunks of whole rows, got {array.numblocks[1]} along axis 1; {advice}")
    return array


def check_in_memory(name: str, value: object) -> None:
    """Refuse what Dask would have to compute at once."""
    if is_dask_collection(value):
        raise TypeError(f"{name}: expected an array in memory, got {type(value).__name__}; its .compute() is one")


def beside(name: str, value: object, rows: da.Array, first: str) -> da.Array:
    """Take an array that has something for each row, in memory or Dask's, in the chunks of the rows."""
    array = value if isinstance(value, da.Array) else array_of(name, value)
    if array.ndim == 0 or (_is_known(array.shape[0], rows.shape[0]) and array.shape[0] != rows.shape[0]):
        raise ValueError(f"{name}: expected {rows.shape[0]} rows like {first}, got shape {array.shape}")
    chunks = (rows.chunks[0], *((length,) for length in array.shape[1:]))
    if _is_known(*array.shape, rows.shape[0]):
        return array.rechunk(chunks) if isinstance(array, da.Array) else da.from_array(array, chunks)
    if not isinstance(array, da.Array):
        advice = f"{first}.compute_chunk_sizes() counts them"
        raise ValueError(f"{name}: expected a Dask array where the rows of {first} are not counted; {advice}")
    expected = (rows.numblocks[0], *(1 for _ in array.shape[1:]))
    if array.numblocks != expected:
        raise ValueError(f"{name}: expected {expected} chunks like {first}, got {array.numblocks}")
    return array


def _is_known(*lengths: float) -> bool:
    return not any(map(math.isnan, lengths))


def starts(chunks: Sequence[float]) -> list[float]:
    """Give where each chunk starts; NaN where that is not known."""
    return list(itertools.accumulate(chunks, initial=0))[:-1]


def blocks(*arrays: da.Array) -> list[list[Delayed]]:
    """Give the chunks of each array, those of its first rows first.

    The graphs are optimised as one, or what rows and labels are both made of would be read for each of them.
    """
    merged = HighLevelGraph.merge(*(array.__dask_graph__() for array in arrays))
    keys = [list(flatten(array.__dask_keys__())) for array in arrays]
    optimized = arrays[0].__dask_optimize__(merged, [key for each in keys for key in each])
    name = f"chunks-{tokenize(keys)}"
    graph = HighLevelGraph.from_collections(name, optimized, dependencies=())
    return [[Delayed(key, graph, layer=name) for key in each] for each in keys]


def zipped(*columns: da.Array | None) -> list[tuple[object, ...]]:
    """Give what belongs together of arrays in chunks of rows: a chunk's number, and its part of each, or None."""
    lists = blocks(*(column for column in columns if column is not None))
    numbers = range(len(lists[0]))
    nothing = [None] * len(numbers)
    return list(zip(numbers, *(nothing if column is None else lists.pop(0) for column in columns), strict=True))


def gathered(
    function: Callable[..., Array],
    parts: list[Delayed],
    *others: Delayed,
    chunks: tuple[tuple[float, ...], ...],
    dtype: np.dtype[Any],
) -> da.Array:
    """Put together an array whose chunks along its first axis a function gives, each of its part and all others.

    In one layer of a graph: a layer for each chunk, with all that the others depend on, grows with their square.
    """
    name = f"{function.__name__.strip('_')}-{tokenize(parts, others)}"
    rest = (0,) * (len(chunks) - 1)
    keys = [(name, at, *rest) for at in range(len(parts))]
    tasks = {key: task(key, function, part, *others) for key, part in zip(keys, parts, strict=True)}
    graph = HighLevelGraph.from_collections(name, tasks, dependencies=[*parts, *others])
    return da.Array(graph, name, chunks, meta=np.empty((0,) * len(chunks), dtype))


def single(value: Delayed, shape: tuple[int, ...], dtype: np.dtype[Any]) -> da.Array:
    """Give an array of one chunk."""
    return da.from_delayed(value, shape, meta=np.empty((0,) * len(shape), dtype))
