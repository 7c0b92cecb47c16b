"""Rounding to nearest, whatever a thread was told.

Libraries for interval arithmetic set another mode, and may leave it. `vecmath.exp` rounds by adding and subtracting a
large number: towards zero, e^z was NaN.
"""

import contextlib

from llvmlite import ir
from numba.core import cgutils

from .target import X86
from .values import INT32, POINTER

_MODE = 0x6000  # the bits of MXCSR that say how to round: none of them is to nearest


@contextlib.contextmanager
def to_nearest(build):
    """Build what comes meanwhile so that it rounds to nearest, and leaves the thread's mode as it was."""
    if not X86:
        yield
        return
    before, during = (cgutils.alloca_once(build, INT32) for _ in range(2))
    _call(build, "stmxcsr", before)
    state = build.load(before)
    other = build.icmp_unsigned("!=", build.and_(state, INT32(_MODE)), INT32(0))
    with cgutils.if_unlikely(build, other):
        build.store(build.and_(state, INT32(~_MODE & 0xFFFFFFFF)), during)
        _call(build, "ldmxcsr", during)
    yield
    with cgutils.if_unlikely(build, other):
        _call(build, "ldmxcsr", before)


def _call(build, instruction, place):
    kind = ir.FunctionType(ir.VoidType(), [POINTER])
    function = cgutils.get_or_insert_function(build.module, kind, f"llvm.x86.sse.{instruction}")
    build.call(function, [build.bitcast(place, POINTER)])
