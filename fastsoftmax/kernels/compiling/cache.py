"""Compiled kernels on disk: where, and when they are stale.

Numba's own cache looks at the file that holds a function, not at the helpers it calls from elsewhere; it keeps an index
a function, which two processes that compile at once can leave pointing to each other's code; and it fails at import
where nothing can be written. Here a file holds one kernel for one signature, replaced as a whole, and is used only if
every source file of the kernels, the versions and Numba's own settings are those it was compiled with, and if it is
whole: machine code with a hole, where the power failed before all of it was on disk, would run. They are written to the
folder that Numba chooses, the first that can be written of NUMBA_CACHE_DIR, beside the sources and the user's cache;
and read from the first two even where these cannot: an image may hold kernels compiled when it was built.
"""

import contextlib
import hashlib
import os
import pickle
import tempfile
import time
from pathlib import Path

import llvmlite
import numba
from numba import types
from numba.core import config
from numba.core.caching import FunctionCache, _CacheLocator
from numba.core.dispatcher import Dispatcher
from numba.core.runtime import rtsys

from fastsoftmax._version import __version__

from . import start
from .target import LEVELS, levels_here


def cached(dispatcher, source, sources_digest):
    """Let a dispatcher keep what it compiles, unless no folder can be written or FASTSOFTMAX_CACHE is 0."""
    if os.environ.get("FASTSOFTMAX_CACHE", "1") != "0" and not config.DISABLE_JIT:
        dispatcher._cache = _KernelCache(source, sources_digest)
    return dispatcher


def folder_of(dispatcher: Dispatcher) -> Path | None:
    """Give the folder where a dispatcher keeps what it compiles, or None if it keeps nothing."""
    cache = getattr(dispatcher, "_cache", None)
    return Path(cache.cache_path) if isinstance(cache, _KernelCache) and cache.can_write else None


def is_kept(dispatcher: Dispatcher, signature: tuple[types.Type, ...]) -> bool:
    """Whether there is a file for a compiled signature of a dispatcher."""
    return dispatcher._cache.holds(signature, dispatcher.targetctx)


class _BesideSources(_CacheLocator):
    """The last choice, whether it can be written or not, so that there is always a cache to read from."""

    def __init__(self, function, file):
        self._folder = Path(file).with_name("__pycache__")
        self._line = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, function, file):
        return cls(function, file)

    def get_cache_path(self):
        return str(self._folder)

    def get_source_stamp(self):
        return None  # the files are signed

    def get_disambiguator(self):
        return str(self._line)


def _locators():
    """Give Numba's choices of a folder, but what is installed is no place to write to.

    What an installer does not know it leaves behind, and that could be imported as an empty package.
    """
    choices = FunctionCache._impl_class._locator_classes
    if {"site-packages", "dist-packages"} & set(Path(__file__).parts):
        return sorted(choices, key=lambda choice: "InTree" in choice.__name__)
    return choices


class _Implementation(FunctionCache._impl_class):
    _locator_classes = (*_locators(), _BesideSources)


@contextlib.contextmanager
def _folder_from_the_start():
    asked_for = config.CACHE_DIR
    config.CACHE_DIR = os.path.join(start.FOLDER, asked_for) if asked_for else asked_for
    try:
        yield
    finally:
        config.CACHE_DIR = asked_for


class _KernelCache(FunctionCache):
    """Numba's cache of a function, over files of our own."""

    _impl_class = _Implementation

    def __init__(self, function, sources_digest):
        with _folder_from_the_start():
            super().__init__(function)
            locator, file = self._impl.locator, function.__code__.co_filename
            self.can_write = not isinstance(locator, _BesideSources)
            readable = [Path(self._cache_path), _BesideSources(function, file)._folder]
            if config.CACHE_DIR:
                readable.append(Path(config.CACHE_DIR, locator.get_suitable_cache_subpath(file)))
        self._cache_file = _Files(readable, self._impl.filename_base, sources_digest)

    def load_overload(self, sig, target_context):
        """Read a compiled signature. Numba would first learn all that it can compile, too, which takes long (M52)."""
        rtsys.initialize(target_context)
        for key in self._keys(sig, target_context.codegen()):
            data = self._cache_file.load(key)
            if data is not None:
                compiled = self._impl.rebuild(target_context, data)
                # Numba asks a library what must be bound before code that it becomes a part of is loaded.
                compiled.library._reload_init.update(compiled.reload_init)
                return compiled
        return None

    def _keys(self, sig, codegen):
        """Give the keys of what can run here, the best first: made for this processor, or for a level that it has."""
        own, (triple, *_), source = self._index_key(sig, codegen)
        yield own, codegen.magic_tuple(), source
        for level in levels_here():
            yield own, (triple, level, LEVELS[level]), source

    def save_overload(self, sig, data):
        """Write a compiled signature, if the folder can be written, still."""
        if self.can_write:
            with contextlib.suppress(OSError):
                super().save_overload(sig, data)

    def holds(self, sig, target_context):
        """Whether there is a file for a signature, compiled for this processor."""
        return self._cache_file.holds(self._index_key(sig, target_context.codegen()))


class _Files:
    """A file for each signature of a function: written to the first folder, read from all."""

    def __init__(self, folders, name, sources_digest):
        self._folder = folders[0]
        self._folders = tuple(dict.fromkeys(folders))
        self._name = name
        self._sources_digest = sources_digest

    def load(self, key):
        """Read what was compiled for a key, or None if there is nothing, or nothing of use."""
        for folder in self._folders:
            with contextlib.suppress(OSError):
                content = (folder / self._file(key)).read_bytes()
                digest, data = content[:_DIGEST_SIZE], content[_DIGEST_SIZE:]
                if digest == self._digest(key, data):
                    return pickle.loads(data)
        return None

    def save(self, key, data):
        """Write what was compiled for a key."""
        data = pickle.dumps(data, protocol=-1)
        content = self._digest(key, data) + data
        self._remove_leftovers()
        with tempfile.NamedTemporaryFile(dir=self._folder, suffix=_UNFINISHED, delete=False) as file:
            try:
                file.write(content)
                file.close()
                Path(file.name).replace(self._folder / self._file(key))
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise

    def _remove_leftovers(self):
        """Remove what processes that were killed while they wrote have left: what is older than an hour."""
        for path in self._folder.glob(f"*{_UNFINISHED}"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - 3600:
                    path.unlink()

    def holds(self, key):
        """Whether there is a file for a key."""
        return any((folder / self._file(key)).exists() for folder in self._folders)

    def flush(self):
        """Remove every file of the function."""
        for path in self._folder.glob(f"{self._name}-*.kernel"):
            path.unlink(missing_ok=True)

    def _file(self, key):
        digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return f"{self._name}-{digest}.kernel"

    def _digest(self, key, data):
        """Sign compiled code with all it depends on; signature and CPU are in the key."""
        versions = __version__, numba.__version__, llvmlite.__version__, self._sources_digest()
        settings = config.BOUNDSCHECK, config.OPT, config.DEBUGINFO_DEFAULT
        return hashlib.sha256(repr((versions, settings, key)).encode() + data).digest()


_UNFINISHED = ".tmp"


_DIGEST_SIZE = hashlib.sha256().digest_size
