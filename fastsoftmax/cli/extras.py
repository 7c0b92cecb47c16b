"""Modules that the base install does without."""

import importlib
from typing import Any

from fastsoftmax.cli.data import InputError


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
