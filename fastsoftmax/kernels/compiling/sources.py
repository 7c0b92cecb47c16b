"""The kernels' source files, in all sub-packages: what they were when this process imported them."""

import functools
import hashlib
import os
from importlib.resources import files

_ROOT = __package__.rpartition(".")[0]  # the package of all kernels
_FOLDER = files(_ROOT)  # which may be in a zip


def _digest_of(content):
    return hashlib.sha256(content).hexdigest()


def _walk(folder, path=""):
    """Read the source files in a folder and those below: (path from the first one, content)."""
    for entry in folder.iterdir():
        if entry.name.endswith(".py"):
            yield path + entry.name, entry.read_bytes()
        elif entry.is_dir():
            yield from _walk(entry, f"{path}{entry.name}/")


def _walk_quickly(folder, path=""):
    """Do the same outside a zip, in half of the time."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                with open(entry.path, "rb", buffering=0) as file:
                    yield path + entry.name, file.read()
            elif entry.name != "__pycache__" and entry.is_dir():
                yield from _walk_quickly(entry.path, f"{path}{entry.name}/")


_CONTENTS = dict((_walk_quickly if isinstance(_FOLDER, os.PathLike) else _walk)(_FOLDER))


@functools.cache
def _digests():
    return {path: _digest_of(content) for path, content in sorted(_CONTENTS.items())}


@functools.cache
def digest():
    """Give a digest of them all, and of where each of them is."""
    return _digest_of(repr(_digests()).encode())


def is_own(module):
    """Whether a module is one of the kernels'."""
    return module.startswith(f"{_ROOT}.")


def lines_of(module):
    """Read the source of one of their modules, in lines.

    Raises
    ------
    RuntimeError
        If it is no longer what was imported, as after an update: what would be compiled then is half of each.
    """
    path = module.removeprefix(f"{_ROOT}.").replace(".", "/") + ".py"
    try:
        content = _FOLDER.joinpath(*path.split("/")).read_bytes()
    except OSError:
        content = b""
    if _digest_of(content) != _digests()[path]:
        raise RuntimeError(f"fastsoftmax's {path} has changed since it was imported: start the process again")
    return content.decode().splitlines(keepends=True)
