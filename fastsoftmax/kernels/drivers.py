"""Runs: rows that follow each other on one thread, so that one can prepare the next or finish the last."""

from .compiling.staging import staged
from .tuning import FEWEST_RUNS, LONGEST_RUN


@staged
def rows_in_a_run(n_rows):
    """Choose how many rows a thread takes at a time: some runs for each of many threads, whatever the rows."""
    return max(1, min(LONGEST_RUN, n_rows // FEWEST_RUNS))


@staged
def distance_to_next(row, last, n_classes):
    """Give `following` (see `rows`) of a row in a run that ends before `last`."""
    return n_classes if row + 1 < last else 0
