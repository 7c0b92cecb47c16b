"""Implementations as the user's code calls them: compiled once on a machine, like kernels, and read from their cache.

What Numba compiles for the user is a call. It still links the implementation's code, and may inline it; that is small,
as it holds no kernel (see `symbols`).
"""

import functools
import inspect

from fastsoftmax.kernels.compiling.dispatchers import kept_dispatcher

from .symbols import digest


def checked_by(check):
    """Mark the implementation of a public function: `check` is given the types of its arguments, by name, before."""

    def mark(function):
        function.check = check
        return function

    return mark


def entry(function, args, kwargs):
    """Give what calls an implementation that was marked so, for types of arguments that it takes."""
    given = inspect.signature(function).bind(*args, **kwargs)
    given.apply_defaults()
    function.check(given.arguments)
    return _call_of(function)


@functools.cache
def _call_of(function):
    """Make a function of the same parameters and defaults, which Numba reads from it, that calls the kept code."""
    dispatcher = kept_dispatcher(function, function, digest, no_cpython_wrapper=True, no_cfunc_wrapper=True)
    names = ", ".join(inspect.signature(function).parameters)
    call = eval(f"lambda {names}: dispatcher({names})", {"dispatcher": dispatcher})
    call.__defaults__ = function.__defaults__
    return call
