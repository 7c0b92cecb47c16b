"""The kernels' source files: what they were when this process imported them."""

import hashlib
from importlib.resources import files


def _digest_of(content):
    return hashlib.sha256(content).hexdigest()


_FOLDER = files(__package__)  # which may be in a zip
_DIGESTS = {
    file.name: _digest_of(file.read_bytes())
    for file in sorted(_FOLDER.iterdir(), key=lambda file: file.name)
    if file.name.endswith(".py")
}


def digest():
    """Give a digest of them all."""
    return _digest_of(repr(_DIGESTS).encode())


def lines_of(name):
    """Read a source file's lines.

    Raises
    ------
    RuntimeError
        If it is no longer what was imported, as after an update: what would be compiled then is half of each.
    """
    try:
        content = _FOLDER.joinpath(name).read_bytes()
    except OSError:
        content = b""
    if _digest_of(content) != _DIGESTS[name]:
        raise RuntimeError(f"fastsoftmax's {name} has changed since it was imported: start the process again")
    return content.decode().splitlines(keepends=True)
