"""Classes that do not lie next to each other, such as those of images, without a copy: see `kernels.rows.planes`."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastsoftmax import arrays, kernels, threads
from fastsoftmax.conversions import Array, stored
from fastsoftmax.options import Options

if TYPE_CHECKING:
    from fastsoftmax.kernels.compiling.jit import Bound, Kernel
    from fastsoftmax.kernels.regimes import RowKernels
    from fastsoftmax.kernels.rows.planes import Planes

# Fewer rows next to each other would leave most of a vector empty.
_FEWEST_INNER = 8


class Layout(NamedTuple):
    """How an array lies in memory: numbers of rows, of classes, and of elements."""

    n_rows: int
    n_classes: int
    n_inner: int  # rows that lie next to each other
    outer_step: int  # from such rows to the next ones
    class_step: int


class Call(NamedTuple):
    """A kernel with what it takes of an operation's arrays."""

    kernel: Kernel | Bound
    inputs: list[Array]
    planes: Planes
    results: list[Array]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return self.planes.n_rows

    def run(self, *rest: object) -> None:
        """Run it, on what it takes between its planes and the result."""
        elements = self.planes.n_rows * self.planes.n_classes
        threads.run(self.kernel, elements, *self.inputs, *self.planes, *rest, *self.results)


def prepare(
    routes: RowKernels, inputs: Sequence[Array], axis: int, given: Options | None, result: Array | None = None
) -> Call | None:
    """Prepare an operation on arrays as they lie; None where no kernel can, or it does not pay.

    A mask or class probabilities are rows already.
    """
    if given is not None and not given.values.keys().isdisjoint(("where", "label_probs")):
        return None
    layouts = _in_step([_layout_of(array, axis) for array in ([*inputs] if result is None else [*inputs, result])])
    if layouts is None or (result is not None and _overlaps_itself(layouts[-1])):
        return None
    layout, out_layout = layouts[0], layouts[-1]
    if any(each != layout for each in layouts[1 : len(inputs)]):
        return None
    kernel = routes.choose_spatial(stored(inputs[0]).dtype, layout.n_classes)
    if kernel is None:
        return None
    streams = result is not None and _streams(inputs, result)
    planes = kernels.rows.planes.Planes(*layout, out_layout.outer_step, out_layout.class_step, streams)
    bound = given.bound(kernel) if given else kernel
    return Call(bound, [_span(array) for array in inputs], planes, [] if result is None else [_span(result)])


def result_for(out: Array | None, inputs: Sequence[Array], axis: int, others: Sequence[Array] = ()) -> Array:
    """Give the array that a kernel writes to: `out`, where it can write there itself, or a new one."""
    layout = None if out is None else _layout_of(out, axis)
    if out is not None and layout is not None and not _overlaps_itself(layout):
        shared = [array for array in inputs if array is not out and np.may_share_memory(array, out)]
        are_out = all(array.ctypes.data == out.ctypes.data and array.strides == out.strides for array in shared)
        if are_out and not any(np.may_share_memory(array, out) for array in others):
            return out
    return np.empty_like(inputs[0], subok=False)


def _layout_of(array: Array, axis: int) -> Layout | None:
    """Find how an array lies; None where not even rows are next to each other."""
    size, shape = array.itemsize, array.shape
    if not array.size or not array.flags.aligned or any(step < 0 or step % size for step in array.strides):
        return None
    steps = [step // size for step in array.strides]
    merged: list[tuple[int, int]] = []  # axes of rows that lie as one: how long, and the step
    for i, (length, step) in enumerate(zip(shape, steps, strict=True)):
        if i == axis or length == 1:
            continue
        if merged and merged[-1][1] == length * step:
            merged[-1] = merged[-1][0] * length, step
        else:
            merged.append((length, step))
    if not 1 <= len(merged) <= 2 or merged[-1][1] != 1 or merged[-1][0] < _FEWEST_INNER:
        return None
    (n_outer, outer_step), (n_inner, _) = merged if len(merged) == 2 else [(1, 0), *merged]
    if shape[axis] > 1 and steps[axis] == 0:
        return None
    return Layout(n_outer * n_inner, shape[axis], n_inner, outer_step, steps[axis])


def _in_step(found: list[Layout | None]) -> list[Layout] | None:
    """Give layouts of one shape the same number of rows next to each other, the least; None where that cannot be."""
    layouts = [layout for layout in found if layout is not None]
    if len(layouts) < len(found):
        return None
    least = min(layout.n_inner for layout in layouts)
    if any(least < layout.n_inner < layout.n_rows for layout in layouts):
        return None
    return [
        layout if layout.n_inner == least else layout._replace(n_inner=least, outer_step=least) for layout in layouts
    ]


def _overlaps_itself(layout: Layout) -> bool:
    """Whether two places of an array are one in memory."""
    n_outer = layout.n_rows // layout.n_inner
    axes = [(1, layout.n_inner), (layout.class_step, layout.n_classes), (layout.outer_step, n_outer)]
    axes = sorted((step, length) for step, length in axes if length > 1)
    return any(not before or step < before * length for (before, length), (step, _) in itertools.pairwise(axes))


def _span(array: Array) -> Array:
    """View all memory from an array's first element to its last."""
    if array.flags.c_contiguous:
        return arrays.contiguous(array).reshape(-1)
    size = 1 + sum((n - 1) * step // array.itemsize for n, step in zip(array.shape, array.strides, strict=True))
    return arrays.contiguous(np.lib.stride_tricks.as_strided(array, (size,), (array.itemsize,)))


def _streams(inputs: Sequence[Array], result: Array) -> bool:
    """Whether a result is written past the caches; of a half type lines would be written in two parts."""
    if result.nbytes < kernels.tuning.STREAM_BYTES or result.itemsize == 2:
        return False
    return not any(np.may_share_memory(array, result) for array in inputs)
