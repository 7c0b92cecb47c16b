"""Tasks of kernels on XLA's own threads.

XLA calls handlers from several threads, and OpenMP makes a team for each thread that it is called from: the process
would have a multiple of them. So kernels share their tasks out to the threads that XLA has already.

Who waits for one of them on another may wait for ever, for all may be taken by those who wait likewise. So the caller
does tasks itself until none is left, and then waits only for those that a helper has begun. A helper that comes late
finds nothing to do, or the tasks of a later loop. One call at a time shares its tasks out: another one that comes
meanwhile does all of its own on the thread that it is on.
"""

import functools
import os
from ctypes import Structure, addressof, c_char, c_int64, c_void_p

from llvmlite import ir

from fastsoftmax.jax.handlers import abi
from fastsoftmax.jax.handlers.frames import (
    UNKNOWN,
    Outcome,
    call_address,
    compiled,
    pointer,
    read,
    room_for,
    write,
    write_function,
)
from fastsoftmax.kernels.compiling.numbers import Number, minimum
from fastsoftmax.kernels.compiling.rounding import to_nearest
from fastsoftmax.kernels.compiling.staging import run, staged
from fastsoftmax.kernels.compiling.values import INT, INT32, POINTER, Pointer, builder, call, scopes
from fastsoftmax.threads import SERIAL_BELOW


class _State(Structure):
    """What caller and helpers share; what they write at the same time is not on one line of the cache."""

    _fields_ = (
        ("is_taken", c_int64),
        # Of the call that has it.
        ("api", c_void_p),
        ("context", c_void_p),
        ("n_threads", c_int64),
        # Of its loop.
        ("task", c_int64),
        ("closure", c_int64),
        ("n_tasks", c_int64),
        ("worst", c_int64),
        ("is_open", c_int64),  # whether helpers may take part
        ("n_coming", c_int64),  # helpers that were sent for and have not come
        ("apart", c_char * 48),
        ("next", c_int64),  # the first task that nobody has
        ("apart_too", c_char * 56),
        ("n_helping", c_int64),  # helpers that have come and not gone
    )


_STATE = _State()  # for ever: helpers may come late


# What is atomic -------------------------------------------------------------------------------------------------------


def _get(field):
    return Number(builder().load_atomic(_place(field), "seq_cst", 8, typ=INT))


def _swap(field, value):
    return _atomically("xchg", field, value)


def _add(field, value):
    return _atomically("add", field, value)


def _atomically(operation, field, value):
    """Change a field, and give what it was."""
    value = value.ir if isinstance(value, Number) else INT(value)
    return Number(builder().atomic_rmw(operation, _place(field), value, "seq_cst"))


def _place(field):
    return pointer(addressof(_STATE) + field.offset)


# Calls ----------------------------------------------------------------------------------------------------------------


@staged
def admit(frame, elements):
    """Give the pool that a kernel calls its tasks by, 0 where it does them itself, and of how many threads it is."""
    pool, n_threads = 0, 1
    if elements >= SERIAL_BELOW and _swap(_State.is_taken, 1) == 0:
        write(1, frame.outcome, Outcome.admitted)
        n_threads = minimum(_count_threads(frame), elements // SERIAL_BELOW + 1)  # each has enough to do
        if n_threads > 1:
            pool = _loop_address()
            write(read(frame.call, abi.Call.api), addressof(_STATE), _State.api)
            write(read(frame.call, abi.Call.context), addressof(_STATE), _State.context)
            write(n_threads, addressof(_STATE), _State.n_threads)
    return pool, n_threads


@staged
def leave(frame):
    """Let others have it after a call that was admitted."""
    if read(frame.outcome, Outcome.admitted) != 0:
        _swap(_State.is_taken, 0)


@staged
def _count_threads(frame):
    """Ask XLA for its threads."""
    count = scopes[-1].place(INT)
    builder().store(INT(1), count)
    context, api = read(frame.call, abi.Call.context), read(frame.call, abi.Call.api)
    given = room_for(abi.CountThreads, context=context, count=Number(builder().ptrtoint(count, INT)))
    _succeeds(api, abi.Api.count_threads, given)
    return Number(builder().load(count, typ=INT))


@staged
def _succeeds(api, function, given):
    """Call a function of the interface, and give whether it was done."""
    error = Number(call_address(read(api, function), INT, given))
    if error != 0:
        call_address(read(api, abi.Api.destroy_error), ir.VoidType(), room_for(abi.DestroyError, error=error))
    return error == 0


# Loops ----------------------------------------------------------------------------------------------------------------


@functools.cache
def _loop_address():
    return compiled(_write_loop, "fastsoftmax_xla_loop")


@functools.cache
def _helper_address():
    return compiled(_write_helper, "fastsoftmax_xla_helper")


def _write_loop(module, name):
    """Write what a kernel calls its tasks by, as Numba's pool is called: see `kernels.pool`."""

    @staged
    def loop(result, error, task, closure, n_tasks):
        builder().store(_share_out(task, closure, n_tasks).ir, result.ir)

    nowhere = Pointer(ir.Constant(POINTER, None))
    function = write_function(module, name, loop, [nowhere, nowhere, UNKNOWN, UNKNOWN, UNKNOWN])
    function.linkage = "external"


def _write_helper(module, name):
    """Write what XLA's threads call."""

    def helper(nothing):
        with to_nearest(builder()):
            run(_help, ())

    write_function(module, name, helper, [UNKNOWN]).linkage = "external"


@staged
def _share_out(task, closure, n_tasks):
    """Have all tasks done, and give the greatest status."""
    _describe(task, closure, n_tasks)
    _swap(_State.is_open, 1)
    _send_for(minimum(read(addressof(_STATE), _State.n_threads), n_tasks) - 1 - _get(_State.n_coming))
    _take_part()
    _swap(_State.is_open, 0)
    while _get(_State.n_helping) != 0:  # which have seen that it was open, or will see that it is not
        _let_others_run()
    return _get(_State.worst)


def _describe(task, closure, n_tasks):
    for field, value in ((_State.task, task), (_State.closure, closure), (_State.n_tasks, n_tasks), (_State.worst, 0)):
        write(value, addressof(_STATE), field)
    _swap(_State.next, 0)


@staged
def _send_for(n_helpers):
    api, context = read(addressof(_STATE), _State.api), read(addressof(_STATE), _State.context)
    for _ in range(n_helpers):
        _add(_State.n_coming, 1)
        if not _succeeds(api, abi.Api.schedule, room_for(abi.Schedule, context=context, function=_helper_address())):
            _add(_State.n_coming, -1)


@staged
def _help():
    _add(_State.n_coming, -1)
    _add(_State.n_helping, 1)
    if _get(_State.is_open) != 0:
        _take_part()
    _add(_State.n_helping, -1)


@staged
def _take_part():
    """Do tasks until nobody has one left."""
    task, closure = read(addressof(_STATE), _State.task), read(addressof(_STATE), _State.closure)
    n_tasks, index = read(addressof(_STATE), _State.n_tasks), _add(_State.next, 1)
    while index < n_tasks:
        status = _done(task, closure, index)
        if status != 0:
            _atomically("max", _State.worst, status)
        index = _add(_State.next, 1)


def _done(task, closure, index):
    """Do a task, and give its status."""
    function = builder().inttoptr(task.ir, ir.PointerType(ir.FunctionType(INT32, [POINTER, INT])))
    return Number(builder().zext(builder().call(function, [pointer(closure), index.ir]), INT))


def _let_others_run():
    if hasattr(os, "sched_yield"):
        call("sched_yield", INT32, [])
