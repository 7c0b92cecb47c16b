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
    """List the source files in a folder and those below: (path from the first one, file)."""
    for entry in folder.iterdir():
        if entry.name.endswith(".py"):
            yield path + entry.name, entry
        elif entry.is_dir():
            yield from _walk(entry, f"{path}{entry.name}/")


def _stamp(file):
    """Tell what a file is without reading it, which importing has no time for; in a zip it is read."""
    if not isinstance(file, os.PathLike):
        return _digest_of(file.read_bytes())
    found = os.stat(file)
    return found.st_mtime_ns, found.st_size


_STAMPS = {path: _stamp(file) for path, file in _walk(_FOLDER)}  # as they are imported


@functools.cache
def _digests():
    found = {}
    for path, file in sorted(_walk(_FOLDER), key=lambda each: each[0]):
        content = file.read_bytes()
        if _STAMPS.get(path) != _stamp(file):
            raise _changed(path)
        found[path] = _digest_of(content)
    return found


def _changed(path):
    return RuntimeError(f"fastsoftmax's {path} has changed since it was imported: start the process again")


@functools.cache
def digest():
    """Give a digest of them all, and of where each of them is.

    Raises
    ------
    RuntimeError
        If one of them has changed since it was imported.
    """
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
        raise _changed(path)
    return content.decode().splitlines(keepends=True)
