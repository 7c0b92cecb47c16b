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
import inspect

from llvmlite import ir
from numba import prange

from .blocks import empty_phi, unknown
from .expressions import BINARY, REPLACED, Expressions
from .scopes import DONE, Scope, do_tasks, pack, struct_of, unknown_leaves, unpack, with_leaves
from .syntax import assigned, parsed, used
from .values import INT32, POINTER, Number, Pointer, Value, builder, convert, number, scopes, truth
from .views import Array, leaves, rebuild

_UNROLLED = 32  # rounds of a loop that are written down one by one, if it is known that there are no more: a tile's


def staged(function):
    """Mark a function whose branches or loops depend on values that are not known yet."""
    function.is_staged = True
    return function


def noinline(function):
    """Mark one that few rows need: it becomes a call, for inlined it takes registers from the loops beside it.

    512 × 32,000 logsumexp in float64 took 16 ms where it takes 14.
    """
    function.is_noinline = True
    return staged(function)


def write_kernel(module, name, function, arguments, pool, result, *, checks_bounds):
    """Write a kernel as an LLVM function: of the leaves of its arguments, the pool, and where its result goes."""
    scope = Scope(
        module,
        name,
        [*unknown_leaves(arguments), pool, Pointer(ir.Constant(POINTER, None))],
        checks_bounds=checks_bounds,
    )
    *given, pool, place = scope.function.args
    scope.pool = Number(pool)
    scopes.append(scope)
    try:
        value = run(function, with_leaves(arguments, given))
        if result is not None:
            scope.builder.store(convert(value, result), place)
        scope.end()
    finally:
        scopes.pop()
    return scope


def run(function, arguments, keywords=None):
    """Run a function on values, as part of the one that is being written."""
    if not getattr(function, "is_staged", False):
        return function(*arguments, **(keywords or {}))
    return _Run(function, bound(function, arguments, keywords)).result(parsed(function).body)


@functools.cache
def _signature(function):
    return inspect.signature(function)


def bound(function, arguments, keywords=None):
    """Give the parameters of a function by their names, those left out as their defaults."""
    try:
        found = _signature(function).bind(*arguments, **(keywords or {}))
    except TypeError as error:
        raise TypeError(f"{function.__name__}: {error}") from None
    found.apply_defaults()
    return found.arguments


class _Run(Expressions):
    """A run of a function: its variables, and where it has got to."""

    def __init__(self, function, variables):
        super().__init__(function, variables)
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
            return self._meaning_of(node)(node)
        except Exception as error:
            if not getattr(error, "is_located", False):
                error.is_located = True
                error.add_note(f"in {self.function.__code__.co_filename}:{node.lineno}, {self.function.__name__}")
            raise

    def _meaning_of(self, node):
        meaning = getattr(self, f"_{type(node).__name__.lower()}", None)
        if meaning is None:
            raise TypeError(f"kernels know no {type(node).__name__}")
        return meaning

    def _expr(self, node):
        self._value(node.value)
        return True

    def _assign(self, node):
        value = self._value(node.value)
        for target in node.targets:
            self._bind(target, value)
        return True

    def _augassign(self, node):
        operation = BINARY[type(node.op).__name__]
        if isinstance(node.target, ast.Name):
            self.variables[node.target.id] = operation(self._named(node.target.id), self._value(node.value))
        else:
            array, index = self._value(node.target.value), self._value(node.target.slice)
            array[index] = operation(array[index], self._value(node.value))
        return True

    def _bind(self, target, value):
        if isinstance(target, ast.Name):
            self.variables[target.id] = value
        elif isinstance(target, ast.Tuple):
            for part, item in zip(target.elts, value, strict=True):
                self._bind(part, item)
        else:
            self._value(target.value)[self._value(target.slice)] = value

    def _return(self, node):
        self._leave(self._value(node.value) if node.value else None)
        return False

    def _leave(self, value):
        self._exit = self._exit or builder().append_basic_block()
        self._returned.append((builder().block, {"return": value}))
        builder().branch(self._exit)

    def _continue(self, node):
        if self._continued[-1] is None:
            raise TypeError("a loop that is unrolled has no `continue`")
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

    # Loops ----------------------------------------------------------------------------------------------------------

    def _for(self, node):
        callee = self._value(node.iter.func)
        arguments = tuple(self._items(node.iter.args))
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
        self._loop((*assigned(*node.body), target), goes_on, node.body, next_one)
        return True

    def _round(self, node, i):
        """Write one round of a loop that is unrolled."""
        self.variables[node.target.id] = i
        self._continued.append(None)
        reached = self._block(node.body)
        self._continued.pop()
        return reached

    def _while(self, node):
        def goes_on(variables):
            return self._value(node.test)

        self._loop(assigned(*node.body), goes_on, node.body, lambda: None)
        return True

    def _loop(self, assigned, goes_on, body, next_one):
        """Write a loop, its condition at its end: variables that it assigns are phis in its body and after it."""
        carried = [name for name in dict.fromkeys(assigned) if name in self.variables]
        start = {name: unknown(self.variables[name]) for name in carried}
        before = self.variables = self.variables | start
        condition = goes_on(before)
        if not isinstance(condition, Value):
            if condition:
                raise TypeError("a loop whose condition is always true")
            return
        first, inside, after = builder().block, builder().append_basic_block(), builder().append_basic_block()
        builder().cbranch(truth(condition).ir, inside, after)
        builder().position_at_end(inside)
        phis = {name: [empty_phi(leaf) for leaf in leaves(value)] for name, value in start.items()}
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

    def _tasks(self, node, n_tasks):
        """Write the body of a loop over `prange` as a function, and have all tasks done, here or on the pool."""
        scope, body, target = scopes[-1], node.body, node.target.id
        names = [name for name in used(*body) if name in self.variables and name != target]
        values = tuple(self.variables[name] for name in names)
        known = unknown_leaves(values)
        kind = struct_of(known)
        closure = scope.place(kind)
        pack(scope.builder, closure, known)
        task = scope.inner(f"{self.function.__name__}_task", [Pointer(ir.Constant(POINTER, None)), number(0)])
        pointer, index = task.function.args
        again = with_leaves(values, unpack(task.builder, pointer, kind))
        variables = dict(zip(names, again, strict=True)) | {target: Number(index)}
        scopes.append(task)
        try:
            if _Run(self.function, variables)._block(body):
                task.end()
        finally:
            scopes.pop()
        do_tasks(scope, task, closure, number(n_tasks).ir)

    def _value_of_call(self, node):
        callee, arguments = self._value(node.func), tuple(self._items(node.args))
        keywords = {keyword.arg: self._value(keyword.value) for keyword in node.keywords}
        callee = REPLACED.get(callee, callee)
        if getattr(callee, "is_noinline", False):
            return _call_noinline(callee, tuple(bound(callee, arguments, keywords).values()))
        return run(callee, arguments, keywords)


# Calls ---------------------------------------------------------------------------------------------------


def _kind_of(value):
    """Describe what decides how a function is written: what is known of its arguments, and the types of the rest."""
    if isinstance(value, Array):
        return Array, value.dtype, _kind_of(value.shape)
    if isinstance(value, tuple):
        return tuple(_kind_of(part) for part in value)
    return (type(value), str(value.ir.type)) if isinstance(value, Value) else (type(value), value)


def _call_noinline(function, arguments):
    """Call a function that is written once for each kind of arguments."""
    scope, key = scopes[-1], (function, _kind_of(arguments))
    if key not in scope.apart:
        scope.apart[key] = _write_noinline(scope, function, arguments)
    callee, kind, result = scope.apart[key]
    place = scope.place(kind)
    status = builder().call(callee.function, [*(leaf.ir for leaf in unknown_leaves(arguments)), place])
    if callee.can_fail:
        scope.fail_if(builder().icmp_unsigned("!=", status, INT32(DONE)), status)
    return with_leaves(result, unpack(builder(), place, kind))


def _write_noinline(scope, function, arguments):
    """Write a function apart; its last parameter is where its result goes."""
    unknown = unknown_leaves(arguments)
    callee = scope.inner(function.__name__, [*unknown, Pointer(ir.Constant(POINTER, None))])
    callee.function.attributes.add("noinline")
    *given, place = callee.function.args
    scopes.append(callee)
    try:
        result = run(function, with_leaves(arguments, given))
        kind = pack(callee.builder, place, unknown_leaves(result))
        callee.end()
    finally:
        scopes.pop()
    return callee, kind, result
