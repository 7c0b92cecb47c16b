"""Numba's pool of threads, for the tasks of all kernels.

Numba takes long to make a `prange` loop of each kernel (M51). So there is one, compiled once on a machine, that calls a
task by its address.
"""

import functools

from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic

from .compiling.dispatchers import Parallel
from .compiling.jit import Labels, kernel, use_pool
from .compiling.numbers import Number
from .compiling.rounding import to_nearest
from .compiling.values import INT, INT32, POINTER, builder, call


@intrinsic
def _call_task(typingctx, task, closure, index):
    """Call a task of `staging`, and give its status."""

    def codegen(context, build, signature, args):
        kind = ir.FunctionType(INT32, [POINTER, INT])
        function = build.inttoptr(args[0], ir.PointerType(kind))
        with to_nearest(build):
            status = build.call(function, [build.inttoptr(args[1], POINTER), args[2]])
        return build.zext(status, INT)

    return types.int64(types.int64, types.int64, types.int64), codegen


@Parallel
def run_tasks(task, closure, n_tasks):
    """Call a task for each index, and give the greatest status."""
    worst = 0
    for index in prange(n_tasks):
        worst = max(worst, _call_task(task, closure, index))
    return worst


SIGNATURE = (types.int64, types.int64, types.int64)


@functools.cache
def address():
    """Give where the machine code of `run_tasks` begins."""
    run_tasks.dispatcher.compile(SIGNATURE)
    compiled = run_tasks.dispatcher.overloads[SIGNATURE]
    return compiled.library.get_pointer_to_function(compiled.fndesc.llvm_func_name)


use_pool(address)


@kernel
def thread_ids(ids: Labels):
    """Write the system's number of the thread that does each part of a loop; with OpenMP each thread does one."""
    for part in prange(ids.size):
        ids[part] = _thread_id()


def _thread_id():
    return Number(builder().sext(call("gettid", INT32, []), INT))
