"""Compiled kernels on disk: where, and when they are stale.

Numba's own cache looks at the file that holds a function, not at the helpers it calls from elsewhere; it keeps an index
a function, which two processes that compile at once can leave pointing to each other's code; and it fails at import
where nothing can be written. Here a file holds one kernel for one signature, replaced as a whole, and is used only if
every source file of the kernels, the versions and Numba's own settings are those it was compiled with, and if it is
whole: machine code with a hole, where the power failed before all of it was on disk, would run. The folder is the one
that Numba chooses: NUMBA_CACHE_DIR, beside the sources, or the user's cache.
"""

import contextlib
import hashlib
import os
import pickle
import tempfile
from importlib.resources import files
from pathlib import Path

import llvmlite
import numba
from numba import types
from numba.core import config
from numba.core.caching import FunctionCache
from numba.core.dispatcher import Dispatcher

from fastsoftmax._version import __version__


def cached(dispatcher):
    """Let a dispatcher keep what it compiles, unless no folder can be written or FASTSOFTMAX_CACHE is 0."""
    if os.environ.get("FASTSOFTMAX_CACHE", "1") != "0" and not config.DISABLE_JIT:
        with contextlib.suppress(RuntimeError):  # no folder can be written
            dispatcher._cache = _KernelCache(dispatcher.py_func)
    return dispatcher


def folder_of(dispatcher: Dispatcher) -> Path | None:
    """Give the folder where a dispatcher keeps what it compiles, or None if it keeps nothing."""
    cache = getattr(dispatcher, "_cache", None)
    return Path(cache.cache_path) if isinstance(cache, _KernelCache) else None


def is_kept(dispatcher: Dispatcher, signature: tuple[types.Type, ...]) -> bool:
    """Whether there is a file for a compiled signature of a dispatcher."""
    return dispatcher._cache.holds(signature, dispatcher.targetctx)


class _KernelCache(FunctionCache):
    """Numba's cache of a function, over files of our own."""

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _Files(Path(self._cache_path), self._impl.filename_base)

    def save_overload(self, sig, data):
        """Write a compiled signature, if the folder can still be written."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)

    def holds(self, sig, target_context):
        """Whether there is a file for a signature."""
        return self._cache_file.holds(self._index_key(sig, target_context.codegen()))


class _Files:
    """A file for each signature of a function."""

    def __init__(self, folder, name):
        self._folder = folder
        self._name = name

    def load(self, key):
        """Read what was compiled for a key, or None if there is nothing, or nothing of use."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
        return pickle.loads(data) if digest == _digest(key, data) else None

    def save(self, key, data):
        """Write what was compiled for a key."""
        data = pickle.dumps(data, protocol=-1)
        content = _digest(key, data) + data
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            try:
                file.write(content)
                file.close()
                Path(file.name).replace(self._path(key))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def holds(self, key):
        """Whether there is a file for a key."""
        return self._path(key).exists()

    def flush(self):
        """Remove every file of the function."""
        for path in self._folder.glob(f"{self._name}-*.kernel"):
            path.unlink(missing_ok=True)

    def _path(self, key):
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return self._folder / f"{self._name}-{digest}.kernel"


def _source_digest():
    digest = hashlib.sha256()
    for file in sorted(files(__package__).iterdir(), key=lambda file: file.name):  # which may be in a zip
        if file.name.endswith(".py"):
            digest.update(file.read_bytes())
    return digest.hexdigest()


_SOURCES = _source_digest()


_DIGEST_SIZE = hashlib.sha256().digest_size


def _digest(key, data):
    """Sign compiled code with all it depends on; signature and CPU are in the key."""
    versions = __version__, numba.__version__, llvmlite.__version__, _SOURCES
    settings = config.BOUNDSCHECK, config.OPT, config.DEBUGINFO_DEFAULT
    return hashlib.sha256(repr((versions, settings, key)).encode() + data).digest()
