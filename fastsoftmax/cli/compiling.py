"""What is compiled while a command runs, shown to whoever waits for it."""

import contextlib
import logging
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from fastsoftmax.kernels.compiling.cache import folder_of
from fastsoftmax.kernels.operations import HELPERS

_LOG = logging.getLogger("fastsoftmax")


class _Bar(logging.Handler):
    """A progress bar over the kernels that the log tells of; there is none where nothing is compiled."""

    def __init__(self, tqdm: Any) -> None:
        super().__init__()
        self._tqdm, self._start = tqdm, 0.0
        self.bar: Any = None
        self.n_kernels, self.seconds = 0, 0.0
        self.how_often = ", once on this machine" if folder_of(HELPERS.total_loss.dispatcher) else ""

    def emit(self, record: logging.LogRecord) -> None:
        """Show the kernel that a record is about: DEBUG tells that one begins, INFO that it is done."""
        if self.bar is None:
            self._start = perf_counter()
            # disable=None: no bar where stderr is no terminal.
            self.bar = self._tqdm(desc=f"compiling{self.how_often}", unit=" kernels", disable=None)
        if record.levelno == logging.DEBUG:
            self.bar.set_postfix_str(getattr(record, "kernel", ""))
        elif record.levelno == logging.INFO:
            self.bar.update()
            self.n_kernels, self.seconds = self.n_kernels + 1, perf_counter() - self._start


@contextlib.contextmanager
def shown(tqdm: Any) -> Iterator[None]:
    """Show a bar while kernels are compiled, then print how many were and how long it took."""
    handler, level = _Bar(tqdm), _LOG.level
    _LOG.addHandler(handler)
    _LOG.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        _LOG.setLevel(level)
        _LOG.removeHandler(handler)
        if handler.bar is not None:
            handler.bar.close()
    if handler.n_kernels:
        print(f"compiled {handler.n_kernels} kernels in {handler.seconds:.1f} s{handler.how_often}")
