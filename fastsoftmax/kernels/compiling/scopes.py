"""LLVM functions while they are written: memory of their own, tasks, and what goes from one to another."""

from dataclasses import replace

import numpy as np
from llvmlite import ir

from .numbers import number
from .values import BOOL, BYTE, INT, INT32, POINTER, Pointer, Value, call, scopes
from .views import Array, leaves, rebuild

# What an LLVM function of a kernel returns.
DONE, NO_MEMORY, OUT_OF_BOUNDS = range(3)

_LINE = 64


class Scope:
    """An LLVM function that is being written."""

    def __init__(self, module, name, arguments, *, pool=None, checks_bounds=False):
        kinds = [POINTER if isinstance(leaf, Pointer) else leaf.ir.type for leaf in arguments]
        self.function = ir.Function(module, ir.FunctionType(INT32, kinds), name)
        self.function.linkage = "internal"
        self.function.attributes.add("nounwind")
        self.module = module
        self.builder = ir.IRBuilder(self.function.append_basic_block())
        self.pool = pool
        self.checks_bounds = checks_bounds
        self.can_fail = False
        self.apart = {}
        self.loops = 0
        self._rooms = []

    def place(self, kind, count=1, align=None):
        """Make room on the stack, once, however often it is passed."""
        with self.builder.goto_entry_block():
            room = self.builder.alloca(kind, count)
        room.type = POINTER  # to anything
        if align is not None:
            room.align = align
        return room

    def allocate(self, size):
        """Allocate memory that is freed when the function returns, from a multiple of 64 bytes on."""
        if self.loops:
            raise TypeError("memory cannot be allocated in a loop: it is freed when the function returns")
        place = self.place(POINTER)
        with self.builder.goto_entry_block():
            self.builder.store(POINTER(None), place)
        data = call("NRT_Allocate", POINTER, [self.builder.add(size, INT(_LINE))])
        self.builder.store(data, place)
        self._rooms.append(place)
        missing = self.builder.icmp_unsigned("==", data, POINTER(None))
        self.fail_if(missing, INT32(NO_MEMORY))
        bits = self.builder.ptrtoint(data, INT)
        left = self.builder.and_(self.builder.neg(bits), INT(_LINE - 1))
        return self.builder.gep(data, [left], source_etype=BYTE)

    def fail_if(self, condition, status):
        """Return a status under a condition."""
        self.can_fail = True
        with self.builder.if_then(condition, likely=False):
            self.end(status)

    def end(self, status=None):
        """Free what was allocated, and return a status, or that all is done."""
        for place in self._rooms:
            call("NRT_Free", ir.VoidType(), [self.builder.load(place, typ=POINTER)])
        self.builder.ret(INT32(DONE) if status is None else status)

    def check_bounds(self, index, count, size):
        """Return a status unless `count` elements from `index` are elements of an array."""
        some = self.builder.icmp_signed(">", count, INT(0))
        before = self.builder.icmp_signed("<", index, INT(0))
        beyond = self.builder.icmp_signed(">", self.builder.add(index, count), size)
        self.fail_if(self.builder.and_(some, self.builder.or_(before, beyond)), INT32(OUT_OF_BOUNDS))

    def inner(self, name, arguments):
        """Begin another function beside this one."""
        name = self.module.get_unique_name(name)
        scope = Scope(self.module, name, arguments, checks_bounds=self.checks_bounds)
        scope.apart = self.apart
        return scope


def empty(shape, dtype=np.float64):
    """Allocate an array as `np.empty` does, until the function returns."""
    shape, dtype = shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype)
    array = Array(dtype, None, tuple(shape))
    if not isinstance(array.size, Value) and not array.size:
        return replace(array, data=Pointer(ir.Constant(POINTER, None)))
    size = number(array.size * dtype.itemsize).ir
    return replace(array, data=Pointer(scopes[-1].allocate(size)))


def zeros(shape, dtype=np.float64):
    """Allocate an array of zeros likewise."""
    array = empty(shape, dtype)
    size = number(array.size * array.itemsize).ir
    call("llvm.memset.p0.i64", ir.VoidType(), [array.data.ir, BYTE(0), size, BOOL(0)])
    return array


def unknown_leaves(value):
    """List what a value is made of that is not known."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, Value)]


def with_leaves(like, found):
    """Give a value as `like` with other LLVM values where something is not known."""
    found = iter(found)
    return rebuild(like, iter([leaf.like(next(found)) if isinstance(leaf, Value) else leaf for leaf in leaves(like)]))


def struct_of(values):
    """Give the type of a struct that holds values."""
    return ir.LiteralStructType([POINTER if isinstance(value, Pointer) else value.ir.type for value in values])


def pack(build, pointer, values):
    """Store values in a struct; give its type."""
    kind = struct_of(values)
    for i, value in enumerate(values):
        build.store(value.ir, build.gep(pointer, [INT32(0), INT32(i)], source_etype=kind))
    return kind


def unpack(build, pointer, kind):
    """Load what `pack` stored."""
    places = [build.gep(pointer, [INT32(0), INT32(i)], source_etype=kind) for i in range(len(kind.elements))]
    return [build.load(place, typ=element) for place, element in zip(places, kind.elements, strict=True)]


def do_tasks(scope, task, closure, n_tasks):
    """Call a task n times: here, or, where there is a pool, through its `run_tasks`."""
    build = scope.builder
    here, there, after = (build.append_basic_block() for _ in range(3))
    build.cbranch(build.icmp_signed("==", scope.pool.ir, INT(0)), here, there)
    build.position_at_end(here)
    loop, done = build.append_basic_block(), build.append_basic_block()
    build.cbranch(build.icmp_signed(">", n_tasks, INT(0)), loop, after)
    build.position_at_end(loop)
    index = build.phi(INT)
    status = build.call(task.function, [closure, index])
    index.add_incoming(INT(0), here)
    following = build.add(index, INT(1))
    index.add_incoming(following, loop)
    more = build.icmp_signed("<", following, n_tasks)
    fine = build.icmp_unsigned("==", status, INT32(DONE))
    build.cbranch(build.and_(more, fine), loop, done)
    build.position_at_end(done)
    build.branch(after)
    build.position_at_end(there)
    kind = ir.FunctionType(INT32, [POINTER, POINTER, INT, INT, INT])
    result, error = scope.place(INT), scope.place(POINTER)
    run_tasks = build.inttoptr(scope.pool.ir, ir.PointerType(kind))
    arguments = [build.ptrtoint(pointer, INT) for pointer in (task.function, closure)]
    build.call(run_tasks, [result, error, *arguments, n_tasks])
    worst = build.trunc(build.load(result, typ=INT), INT32)
    build.branch(after)
    build.position_at_end(after)
    phi = build.phi(INT32)
    for value, block in ((INT32(DONE), here), (status, done), (worst, there)):
        phi.add_incoming(value, block)
    scope.fail_if(build.icmp_unsigned("!=", phi, INT32(DONE)), phi)
