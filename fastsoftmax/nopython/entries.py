"""Implementations as the user's code calls them: compiled once on a machine, like kernels, and read from their cache.

What Numba compiles for the user is a call. It still links the implementation's code, and may inline it; that is small,
as it holds no kernel (see `symbols`).
"""

from fastsoftmax.kernels.compiling.dispatchers import kept_dispatcher

from .symbols import digest


def entry(name, implementation):
    """Make a function that calls an implementation which the cache keeps: of the same parameters and defaults."""
    implementation.__name__ = name  # as the log tells it
    dispatcher = kept_dispatcher(implementation, implementation, digest, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    names = ", ".join(implementation.__code__.co_varnames[: implementation.__code__.co_argcount])
    # Numba reads the names and defaults of parameters from it.
    call = eval(f"lambda {names}: dispatcher({names})", {"dispatcher": dispatcher})
    call.__defaults__ = implementation.__defaults__
    return call
