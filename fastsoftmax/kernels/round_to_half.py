"""What was computed in float32, as a half type."""

from numba import prange

from .compiling.jit import ComputeLine, Line, kernel
from .drivers import task_rows
from .rows.streamed import Pending, store_row
from .tuning import ROUND_SPAN


@kernel
def round_to_half(values: ComputeLine, rounded: Line):
    """Round each number once."""
    for task in prange(-(-values.size // ROUND_SPAN)):
        span = task_rows(task, ROUND_SPAN, values.size)
        store_row(Pending(_as_it_is, None, values, span.first, rounded, span.first, span.last))


def _as_it_is(value, j, left, nothing):
    return value
