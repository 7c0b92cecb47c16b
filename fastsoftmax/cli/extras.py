"""Modules that the base install does without."""

import importlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from fastsoftmax.cli.errors import InputError

_Item = TypeVar("_Item")


def progress(items: Sequence[_Item], description: str, unit: str) -> Iterable[_Item]:
    """Show a progress bar over items, if tqdm is there and stderr is a terminal."""
    try:
        from tqdm import tqdm
    except ImportError:
        return items
    bar: Iterable[_Item] = tqdm(items, desc=description, unit=unit, disable=None)  # None: where it is no terminal
    return bar


def extra(module: str, name: str) -> Any:
    """Import a module that an extra brings.

    Raises
    ------
    InputError
        If it is not installed; the message says how to.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(f'this needs {package}: pip install "fastsoftmax[{name}]"') from None
