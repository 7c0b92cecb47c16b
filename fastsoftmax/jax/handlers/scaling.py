"""Rows times a factor for each."""

from numba import prange

from fastsoftmax.kernels.compiling.numbers import Number, opposite
from fastsoftmax.kernels.compiling.staging import run, staged
from fastsoftmax.kernels.compiling.values import INT, builder, scopes
from fastsoftmax.kernels.drivers import task_rows
from fastsoftmax.kernels.simd.memory import load, load_first, store, store_first
from fastsoftmax.kernels.simd.vector import lanes_of, splat

_SPAN = 2**15  # elements of a task


def multiply_rows(values, factors, result, pool):
    """Write rows times factors, over them or elsewhere; by tasks that a pool does, if there is one."""
    scopes[-1].pool = Number(pool.ir)
    places = (builder().ptrtoint(array.data.ir, INT) for array in (values, result))
    is_in_place = Number(builder().icmp_unsigned("==", *places))
    run(_multiply_rows, (values, factors, result, is_in_place))


@staged
def _multiply_rows(values, factors, result, is_in_place):
    n_rows, n_classes = values.shape
    size = max(1, _SPAN // n_classes)
    for task in prange(-(-n_rows // size)):
        rows = task_rows(task, size, n_rows)
        factor, differ = factors[rows.first], 0
        for row in range(rows.first, rows.last):
            differ += factors[row] != factor
        if differ == 0:  # as behind a mean: all rows are one
            _multiply(values.flat, result.flat, rows.first * n_classes, rows.last * n_classes, factor, is_in_place)
        else:
            for row in range(rows.first, rows.last):
                start = row * n_classes
                _multiply(values.flat, result.flat, start, start + n_classes, factors[row], is_in_place)


@staged
def _multiply(values, result, start, stop, factor, is_in_place):
    if opposite(is_in_place) | (factor != 1):
        width, factors = lanes_of(values), splat(values, factor)
        i = start
        while i + width <= stop:
            store(result, i, load(values, i) * factors)
            i += width
        store_first(result, i, stop - i, load_first(values, i, stop - i, 0.0) * factors)
