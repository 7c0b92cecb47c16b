"""Compile functions by running them: Python over values that are not known yet writes LLVM's instructions down.

Numba infers the types of each helper, optimises it, and makes machine code of it that nothing runs, before it becomes
part of a kernel: 0.1 s each, ten seconds for a cross entropy. Here a helper is Python that runs once, while a kernel is
compiled. A function without branches is called as it is: `a * b` of two vectors writes a multiplication down. One whose
branches or loops depend on values that are not known yet is `staged`: it is read as a syntax tree, and what its
statements mean is written down, an `if` as two blocks that meet, a loop as a block that follows itself. What is known
costs nothing: a branch on it is decided, a short loop over it unrolled, a None passed on.

Of Python there is what kernels need: assignments, `if`, `while`, `for` over `range` and `prange`, `continue`, `return`.
"""

import ast
import functools
import linecache
import textwrap

import numpy as np
from llvmlite import ir
from numba import prange

from .values import (
    BINARY,
    BOOL,
    BYTE,
    COMPARE,
    DOUBLE,
    FLOAT,
    INT,
    INT32,
    POINTER,
    PYTHONS,
    Array,
    Number,
    Pointer,
    Value,
    builder,
    call,
    convert,
    leaves,
    number,
    opposite,
    rebuild,
    same_leaf,
    scopes,
    truth,
)

# What an LLVM function of a kernel returns.
DONE, NO_MEMORY, OUT_OF_BOUNDS = range(3)

_UNROLLED = 16  # rounds of a loop that are written down one by one, if it is known that there are no more
_LINE = 64


def staged(function):
    """Mark a function whose branches or loops depend on values that are not known yet."""
    function.is_staged = True
    return function


def apart(function):
    """Mark one that few rows need: it becomes a call, for inlined it takes registers from the loops beside it.

    512 × 32,000 logsumexp in float64 took 16 ms where it takes 14.
    """
    function.is_apart = True
    return staged(function)


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


def write_kernel(module, name, function, arguments, pool, result, *, checks_bounds):
    """Write a kernel as an LLVM function: of the leaves of its arguments, the pool, and where its result goes."""
    scope = Scope(
        module, name, [*leaves(arguments), pool, Pointer(ir.Constant(POINTER, None))], checks_bounds=checks_bounds
    )
    *given, pool, place = scope.function.args
    scope.pool = Number(pool)
    scopes.append(scope)
    try:
        value = run(
            function,
            rebuild(arguments, iter([leaf.like(arg) for leaf, arg in zip(leaves(arguments), given, strict=True)])),
        )
        if result is not None:
            scope.builder.store(convert(value, result), place)
        scope.end()
    finally:
        scopes.pop()
    return scope


def empty(shape, dtype=np.float64):
    """Do `np.empty`, until the function returns."""
    shape, dtype = shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype)
    array = Array(dtype, None, tuple(shape))
    if not isinstance(array.size, Value) and not array.size:
        return array._replace(data=Pointer(ir.Constant(POINTER, None)))
    size = number(array.size * dtype.itemsize).ir
    return array._replace(data=Pointer(scopes[-1].allocate(size)))


def zeros(shape, dtype=np.float64):
    """Do `np.zeros`, likewise."""
    array = empty(shape, dtype)
    size = number(array.size * array.itemsize).ir
    call("llvm.memset.p0.i64", ir.VoidType(), [array.data.ir, BYTE(0), size, BOOL(0)])
    return array


_REPLACED = PYTHONS | {np.empty: empty, np.zeros: zeros}


@functools.cache
def _parsed(function):
    """Read a function's syntax tree."""
    code = function.__code__
    lines = linecache.getlines(code.co_filename, function.__globals__)[code.co_firstlineno - 1 :]
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("def "))
    depth = len(lines[start]) - len(lines[start].lstrip())
    stop = start + 1
    while stop < len(lines) and (not lines[stop].strip() or lines[stop][depth : depth + 1] in " )"):
        stop += 1
    tree = ast.parse(textwrap.dedent("".join(lines[start:stop]))).body[0]
    return ast.increment_lineno(tree, code.co_firstlineno + start - 1)


@functools.cache
def _assigned(*nodes):
    """List the names that statements assign."""
    found = {}
    for node in nodes:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                found[part.id] = None
    return tuple(found)


@functools.cache
def _used(*nodes):
    """List all names in statements."""
    return tuple(dict.fromkeys(part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)))


def run(function, arguments):
    """Run a function on values, as part of the one that is being written."""
    if not getattr(function, "is_staged", False):
        return function(*arguments)
    tree = _parsed(function)
    names = [argument.arg for argument in tree.args.args]
    if len(arguments) != len(names):
        raise TypeError(f"{function.__name__}: expected {len(names)} arguments, got {len(arguments)}")
    return _Run(function, dict(zip(names, arguments, strict=True))).result(tree.body)


class _Run:
    """A run of a function: its variables, and where it has got to."""

    def __init__(self, function, variables):
        self.function = function
        self.variables = variables
        self._returned = []  # (block, variables with the result under "return")
        self._continued = []  # the same for each loop, the innermost last
        self._exit = None

    def result(self, statements):
        """Run all statements and give what is returned."""
        for statement in statements:
            if isinstance(statement, ast.Return) and not self._returned:
                return self._value(statement.value)  # what most functions do: no blocks have to meet
            if not self._statement(statement):
                break
        else:
            if not self._returned:
                return None
            self._leave(None)
        builder().position_at_end(self._exit)
        return self._meet(self._exit, self._returned)["return"]

    # Statements: each gives whether the next one is reached ---------------------------------------------------------

    def _block(self, statements):
        return all(self._statement(statement) for statement in statements)

    def _statement(self, node):
        try:
            return getattr(self, f"_{type(node).__name__.lower()}")(node)
        except Exception as error:
            if not getattr(error, "is_located", False):
                error.is_located = True
                error.add_note(f"in {self.function.__code__.co_filename}:{node.lineno}, {self.function.__name__}")
            raise

    def _expr(self, node):
        self._value(node.value)
        return True

    def _assign(self, node):
        value = self._value(node.value)
        for target in node.targets:
            self._bind(target, value)
        return True

    def _augassign(self, node):
        place = (
            ast.copy_location(ast.Name(node.target.id, ast.Load()), node) if isinstance(node.target, ast.Name) else None
        )
        operation = BINARY[type(node.op).__name__]
        if place is not None:
            self.variables[node.target.id] = operation(self._value(place), self._value(node.value))
        else:
            array, index = self._value(node.target.value), self._value(node.target.slice)
            array.put(index, operation(array.part(index), self._value(node.value)))
        return True

    def _bind(self, target, value):
        if isinstance(target, ast.Name):
            self.variables[target.id] = value
        elif isinstance(target, ast.Tuple):
            for part, item in zip(target.elts, value, strict=True):
                self._bind(part, item)
        else:
            self._value(target.value).put(self._value(target.slice), value)

    def _return(self, node):
        self._leave(self._value(node.value) if node.value else None)
        return False

    def _leave(self, value):
        self._exit = self._exit or builder().append_basic_block()
        self._returned.append((builder().block, {"return": value}))
        builder().branch(self._exit)

    def _continue(self, node):
        block, variables = self._continued[-1]
        variables.append((builder().block, self.variables))
        builder().branch(block)
        return False

    def _pass(self, node):
        return True

    def _if(self, node):
        condition = self._value(node.test)
        if not isinstance(condition, Value):
            return self._block(node.body if condition else node.orelse)
        blocks = builder().append_basic_block(), builder().append_basic_block()
        builder().cbranch(truth(condition).ir, *blocks)
        return self._branches(blocks, [lambda: self._block(node.body), lambda: self._block(node.orelse)])

    def _branches(self, blocks, branches):
        """Write each branch in its block, and let them meet."""
        before, ends = self.variables, []
        for block, branch in zip(blocks, branches, strict=True):
            builder().position_at_end(block)
            self.variables = dict(before)
            if branch():
                ends.append((builder().block, self.variables))
        if not ends:
            return False
        if len(ends) == 1:
            builder().position_at_end(ends[0][0])
            self.variables = ends[0][1]
            return True
        after = builder().append_basic_block()
        for block, _ in ends:
            builder().position_at_end(block)
            builder().branch(after)
        builder().position_at_end(after)
        self.variables = self._meet(after, ends)
        return True

    def _meet(self, block, ends):
        """Give the variables of all ends, which lead to a block that is being begun."""
        first, *others = (variables for _, variables in ends)
        names = [name for name in first if all(name in other for other in others)]
        return {name: self._phi(name, [(end, variables[name]) for end, variables in ends]) for name in names}

    def _phi(self, name, choices):
        """Give a value that is one of several, by the block that was left."""
        like = choices[0][1]
        if all(value is like for _, value in choices):
            return like
        columns = [leaves(value) for _, value in choices]
        if len({len(column) for column in columns}) != 1:
            raise TypeError(f"{name}: expected values of one kind from all branches")
        made = []
        for row in zip(*columns, strict=True):
            if all(same_leaf(leaf, row[0]) for leaf in row):
                made.append(row[0])
                continue
            row = [leaf if isinstance(leaf, Value) else _known(leaf, row, name) for leaf in row]
            if len({str(leaf.ir.type) for leaf in row}) != 1:
                raise TypeError(f"{name}: expected one type, got {[str(leaf.ir.type) for leaf in row]}")
            phi = builder().phi(row[0].ir.type)
            for leaf, (end, _) in zip(row, choices, strict=True):
                phi.add_incoming(leaf.ir, end)
            made.append(row[0].like(phi))
        return rebuild(like, iter(made))

    # Loops ----------------------------------------------------------------------------------------------------------

    def _for(self, node):
        callee = self._value(node.iter.func)
        arguments = self._arguments(node.iter)
        if callee is prange:
            self._tasks(node, *arguments)
            return True
        start, stop, step = {1: (0, *arguments, 1), 2: (*arguments, 1), 3: arguments}[len(arguments)]
        known = not any(isinstance(bound, Value) for bound in (start, stop, step))
        if known and len(range(start, stop, step)) <= _UNROLLED:
            return all(self._round(node, i) for i in range(start, stop, step))
        backwards = not isinstance(step, Value) and step < 0  # one that is not known is positive
        ahead = "__gt__" if backwards else "__lt__"
        index, target = number(start), node.target.id

        def goes_on(variables):
            return getattr(variables[target], ahead)(stop)

        def next_one():
            self.variables[target] = self.variables[target] + step

        self.variables[target] = index
        self._loop((*_assigned(*node.body), target), goes_on, node.body, next_one)
        return True

    def _round(self, node, i):
        """Write one round of a loop that is unrolled."""
        self.variables[node.target.id] = i
        return self._block(node.body)

    def _while(self, node):
        def goes_on(variables):
            return self._value(node.test)

        self._loop(_assigned(*node.body), goes_on, node.body, lambda: None)
        return True

    def _loop(self, assigned, goes_on, body, next_one):
        """Write a loop, its condition at its end: variables that it assigns are phis in its body and after it."""
        carried = [name for name in dict.fromkeys(assigned) if name in self.variables]
        start = {name: _unknown(self.variables[name]) for name in carried}
        before = self.variables = self.variables | start
        condition = goes_on(before)
        if not isinstance(condition, Value) and not condition:
            return
        first, inside = builder().block, builder().append_basic_block()
        if isinstance(condition, Value):
            after = builder().append_basic_block()
            builder().cbranch(truth(condition).ir, inside, after)
        else:
            raise TypeError("a loop whose condition is always true")
        builder().position_at_end(inside)
        phis = {name: [_empty_phi(leaf) for leaf in leaves(value)] for name, value in start.items()}
        self.variables = before | {name: rebuild(start[name], iter(found)) for name, found in phis.items()}
        latch = builder().append_basic_block()
        self._continued.append((latch, []))
        scopes[-1].loops += 1
        if self._block(body):
            self._continue(None)
        scopes[-1].loops -= 1
        _, ends = self._continued.pop()
        builder().position_at_end(latch)
        kept = [(block, {name: variables[name] for name in carried}) for block, variables in ends]
        self.variables = before | self._meet(latch, kept)
        next_one()
        condition = truth(goes_on(self.variables)).ir
        end, final = builder().block, {name: self._as(name, start[name]) for name in carried}
        builder().cbranch(condition, inside, after)
        for name, found in phis.items():
            for phi, then, last in zip(found, leaves(start[name]), leaves(final[name]), strict=True):
                if isinstance(phi, Value):
                    phi.ir.add_incoming(then.ir, first)
                    phi.ir.add_incoming(last.ir, end)
        builder().position_at_end(after)
        choices = [(first, start), (end, final)]
        self.variables = before | {
            name: self._phi(name, [(block, found[name]) for block, found in choices]) for name in carried
        }

    def _as(self, name, start):
        """Give a variable at the end of a round, of the kind that it had before the loop."""
        value = self.variables[name]
        found, wanted = leaves(value), leaves(start)
        if len(found) != len(wanted):
            raise TypeError(f"{name}: expected the kind that it had before the loop")
        made = []
        for leaf, like in zip(found, wanted, strict=True):
            leaf = _unknown(leaf) if isinstance(like, Value) else leaf
            fits = leaf.ir.type == like.ir.type if isinstance(like, Value) else same_leaf(leaf, like)
            if not fits:
                raise TypeError(f"{name}: expected {like!r} as before the loop, got {leaf!r}")
            made.append(leaf)
        return rebuild(start, iter(made))

    def _tasks(self, node, n_tasks):
        """Write the body of a loop over `prange` as a function, and have all tasks done, here or on the pool."""
        scope, body, target = scopes[-1], node.body, node.target.id
        names = [name for name in _used(*body) if name in self.variables and name != target]
        values = tuple(self.variables[name] for name in names)
        known = _unknown_leaves(values)
        kind = _struct_of(known)
        closure = scope.place(kind)
        _pack(scope.builder, closure, known)
        task = scope.inner(f"{self.function.__name__}_task", [Pointer(ir.Constant(POINTER, None)), number(0)])
        pointer, index = task.function.args
        again = _with_leaves(values, _unpack(task.builder, pointer, kind))
        variables = dict(zip(names, again, strict=True)) | {target: Number(index)}
        scopes.append(task)
        try:
            if _Run(self.function, variables)._block(body):
                task.end()
        finally:
            scopes.pop()
        _do_tasks(scope, task, closure, number(n_tasks).ir)

    # Expressions ----------------------------------------------------------------------------------------------------

    def _value(self, node):
        kind = type(node)
        if kind is ast.Name:
            return self._named(node.id)
        if kind is ast.Constant:
            return node.value
        if kind is ast.BinOp:
            return BINARY[type(node.op).__name__](self._value(node.left), self._value(node.right))
        return getattr(self, f"_value_of_{kind.__name__.lower()}")(node)

    def _named(self, name):
        if name in self.variables:
            return self.variables[name]
        if name in self.function.__code__.co_freevars:
            cells = zip(self.function.__code__.co_freevars, self.function.__closure__, strict=True)
            return dict(cells)[name].cell_contents
        try:
            return self.function.__globals__[name]
        except KeyError:
            builtins = self.function.__globals__["__builtins__"]
            return builtins[name] if isinstance(builtins, dict) else getattr(builtins, name)

    def _value_of_tuple(self, node):
        return tuple(self._items(node.elts))

    def _items(self, nodes):
        for node in nodes:
            if isinstance(node, ast.Starred):
                yield from self._value(node.value)
            else:
                yield self._value(node)

    def _value_of_attribute(self, node):
        return getattr(self._value(node.value), node.attr)

    def _value_of_subscript(self, node):
        value, index = self._value(node.value), self._value(node.slice)
        return value.part(index) if isinstance(value, Array) else value[index]

    def _value_of_slice(self, node):
        return slice(*(bound and self._value(bound) for bound in (node.lower, node.upper, node.step)))

    def _value_of_unaryop(self, node):
        value = self._value(node.operand)
        return opposite(value) if isinstance(node.op, ast.Not) else -value

    def _value_of_compare(self, node):
        result, left = True, self._value(node.left)
        for operation, right in zip(node.ops, node.comparators, strict=True):
            right = self._value(right)
            holds = COMPARE[type(operation).__name__](left, right)
            if not isinstance(holds, Value) and not holds:
                return False
            result = holds if result is True else result if holds is True else result & holds
            left = right
        return result

    def _value_of_boolop(self, node):
        """Python's `and` and `or`: what is right of a known answer is not computed."""
        decides = isinstance(node.op, ast.Or)
        return self._chain(list(node.values), decides)

    def _chain(self, nodes, decides):
        first, *rest = nodes
        value = self._value(first)
        if not rest:
            return value
        if not isinstance(value, Value):
            return value if bool(value) == decides else self._chain(rest, decides)
        value = truth(value)
        blocks = builder().append_basic_block(), builder().append_basic_block()
        builder().cbranch(value.ir, *(blocks if not decides else blocks[::-1]))
        return self._choice(blocks, lambda: self._chain(rest, decides), lambda: decides)

    def _value_of_ifexp(self, node):
        condition = self._value(node.test)
        if not isinstance(condition, Value):
            return self._value(node.body if condition else node.orelse)
        blocks = builder().append_basic_block(), builder().append_basic_block()
        builder().cbranch(truth(condition).ir, *blocks)
        return self._choice(blocks, lambda: self._value(node.body), lambda: self._value(node.orelse))

    def _choice(self, blocks, then, otherwise):
        """Give a value that one of two branches computes."""
        before = self.variables

        def branch(compute):
            def compute_in_branch():
                self.variables = before | {"chosen value": compute()}
                return True

            return compute_in_branch

        self._branches(blocks, [branch(then), branch(otherwise)])
        return self.variables.pop("chosen value")

    def _value_of_call(self, node):
        callee, arguments = self._value(node.func), self._arguments(node)
        callee = _REPLACED.get(callee, callee)
        if getattr(callee, "is_apart", False):
            return _call_apart(callee, arguments)
        return run(callee, arguments)

    def _arguments(self, node):
        if node.keywords:
            raise TypeError("arguments are passed by position")
        return tuple(self._items(node.args))


def _known(leaf, row, name):
    """Make a value of a leaf that is known, of the kind that the others are of."""
    for other in row:
        if isinstance(other, Number) and other.ir.type in (FLOAT, DOUBLE) and not isinstance(leaf, bool):
            return Number(ir.Constant(other.ir.type, float(leaf)))
    try:
        return number(leaf)
    except TypeError:
        raise TypeError(f"{name}: expected values of one kind from all branches, got {row!r}") from None


def _unknown(value):
    """Give a value whose numbers are values too: what a loop may change is not known."""
    parts = [
        number(leaf) if isinstance(leaf, (bool, int, float, np.number)) and not isinstance(leaf, Value) else leaf
        for leaf in leaves(value)
    ]
    return rebuild(value, iter(parts))


def _empty_phi(leaf):
    return leaf.like(builder().phi(leaf.ir.type)) if isinstance(leaf, Value) else leaf


# Functions apart, and tasks ----------------------------------------------------------------------------------------


def _kind_of(value):
    """Describe what decides how a function is written: what is known of its arguments, and the types of the rest."""
    if isinstance(value, Array):
        return Array, value.dtype, _kind_of(value.shape)
    if isinstance(value, tuple):
        return tuple(_kind_of(part) for part in value)
    return (type(value), str(value.ir.type)) if isinstance(value, Value) else (type(value), value)


def _unknown_leaves(value):
    return [leaf for leaf in leaves(value) if isinstance(leaf, Value)]


def _with_leaves(like, found):
    """Give a value as `like` with other LLVM values where something is not known."""
    found = iter(found)
    return rebuild(like, iter([leaf.like(next(found)) if isinstance(leaf, Value) else leaf for leaf in leaves(like)]))


def _struct_of(values):
    """Give the type of a struct that holds values."""
    return ir.LiteralStructType([POINTER if isinstance(value, Pointer) else value.ir.type for value in values])


def _pack(build, pointer, values):
    """Store values in a struct; give its type."""
    kind = _struct_of(values)
    for i, value in enumerate(values):
        build.store(value.ir, build.gep(pointer, [INT32(0), INT32(i)], source_etype=kind))
    return kind


def _unpack(build, pointer, kind):
    """Load what `_pack` stored."""
    places = [build.gep(pointer, [INT32(0), INT32(i)], source_etype=kind) for i in range(len(kind.elements))]
    return [build.load(place, typ=element) for place, element in zip(places, kind.elements, strict=True)]


def _call_apart(function, arguments):
    """Call a function that is written once for each kind of arguments."""
    scope, key = scopes[-1], (function, _kind_of(arguments))
    if key not in scope.apart:
        scope.apart[key] = _write_apart(scope, function, arguments)
    callee, kind, result = scope.apart[key]
    place = scope.place(kind)
    status = builder().call(callee.function, [*(leaf.ir for leaf in _unknown_leaves(arguments)), place])
    if callee.can_fail:
        scope.fail_if(builder().icmp_unsigned("!=", status, INT32(DONE)), status)
    return _with_leaves(result, _unpack(builder(), place, kind))


def _write_apart(scope, function, arguments):
    """Write a function apart; its last parameter is where its result goes."""
    unknown = _unknown_leaves(arguments)
    callee = scope.inner(function.__name__, [*unknown, Pointer(ir.Constant(POINTER, None))])
    callee.function.attributes.add("noinline")
    *given, place = callee.function.args
    scopes.append(callee)
    try:
        result = run(function, _with_leaves(arguments, given))
        kind = _pack(callee.builder, place, _unknown_leaves(result))
        callee.end()
    finally:
        scopes.pop()
    return callee, kind, result


def _do_tasks(scope, task, closure, n_tasks):
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
