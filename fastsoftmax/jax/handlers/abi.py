"""The structures of XLA's foreign function interface, `xla/ffi/api/c_api.h`, as far as handlers read them.

Their fields have had these places since version 0.1 of the interface, which is the one that handlers ask for.
"""

from ctypes import Structure, c_char_p, c_int, c_int64, c_size_t, c_void_p

MAJOR, MINOR = 0, 1
METADATA = 1  # the kind of an extension
INVALID_ARGUMENT, RESOURCE_EXHAUSTED, INTERNAL = 3, 8, 13  # codes of errors

_HEAD = (("struct_size", c_size_t), ("extensions", c_void_p))


class Extension(Structure):
    """What a call may have besides: one after the other."""

    _fields_ = (("struct_size", c_size_t), ("kind", c_int), ("next", c_void_p))


class MetadataExtension(Structure):
    """A question for what a handler was made for."""

    _fields_ = (("base", Extension), ("metadata", c_void_p))


class Version(Structure):
    """A version of the interface."""

    _fields_ = (*_HEAD, ("major", c_int), ("minor", c_int))


class Metadata(Structure):
    """The answer."""

    _fields_ = (("struct_size", c_size_t), ("version", Version))


class Buffers(Structure):
    """The operands of a call, or its results."""

    _fields_ = (*_HEAD, ("size", c_int64), ("kinds", c_void_p), ("items", c_void_p))


class Attributes(Structure):
    """The attributes of a call, by their names in order."""

    _fields_ = (*_HEAD, ("size", c_int64), ("kinds", c_void_p), ("names", c_void_p), ("items", c_void_p))


class Call(Structure):
    """A call of a handler."""

    _fields_ = (
        *_HEAD,
        ("api", c_void_p),
        ("context", c_void_p),
        ("stage", c_int),
        ("operands", Buffers),
        ("results", Buffers),
        ("attributes", Attributes),
    )


class Buffer(Structure):
    """An array."""

    _fields_ = (*_HEAD, ("dtype", c_int), ("data", c_void_p), ("rank", c_int64), ("lengths", c_void_p))


class Scalar(Structure):
    """An attribute that is a number."""

    _fields_ = (("dtype", c_int), ("value", c_void_p))


class Api(Structure):
    """The functions of the interface, each of which takes one of the structures below."""

    _fields_ = (
        *_HEAD,
        ("version", Version),
        ("internal", c_void_p),
        ("create_error", c_void_p),
        ("error_message", c_void_p),
        ("destroy_error", c_void_p),
        ("others", c_void_p * 8),
        ("schedule", c_void_p),
        ("count_threads", c_void_p),
    )


class CreateError(Structure):
    """Make an error."""

    _fields_ = (*_HEAD, ("message", c_char_p), ("code", c_int))


class DestroyError(Structure):
    """Free it."""

    _fields_ = (*_HEAD, ("error", c_void_p))


class Schedule(Structure):
    """Have one of XLA's threads call a function with what it is to be given."""

    _fields_ = (*_HEAD, ("context", c_void_p), ("function", c_void_p), ("data", c_void_p))


class CountThreads(Structure):
    """Ask how many threads XLA has."""

    _fields_ = (*_HEAD, ("context", c_void_p), ("count", c_void_p))
