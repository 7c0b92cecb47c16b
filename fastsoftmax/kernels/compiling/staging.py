"""Compile functions by running them: Python over values that are not known yet writes LLVM's instructions down.

Numba infers the types of each helper, optimises it, and makes machine code of it that nothing runs, before it becomes
part of a kernel: many seconds for a cross entropy (M50). Here a helper is Python that runs once, while a kernel is
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

from .calls import call_noinline
from .expressions import BINARY, REPLACED
from .loops import Loops
from .numbers import Number, convert, truth
from .scopes import Scope, unknown_leaves, with_leaves
from .syntax import parsed
from .values import POINTER, Pointer, Value, builder, scopes


def staged(function):
    """Mark a function whose branches or loops depend on values that are not known yet."""
    function.is_staged = True
    return function


def noinline(function):
    """Mark one that few rows need: it becomes a call, for inlined it takes registers from the loops beside it.

    Inlined, the slow path of logsumexp in float64 made it a seventh slower (M15).
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
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    if not keywords and len(arguments) == len(names):  # most calls: binding them is slow
        return dict(zip(names, arguments, strict=True))
    try:
        found = _signature(function).bind(*arguments, **(keywords or {}))
    except TypeError as error:
        raise TypeError(f"{function.__name__}: {error}") from None
    found.apply_defaults()
    return found.arguments


class _Run(Loops):
    """A run of a function: its variables, and where it has got to."""

    def __init__(self, function, variables):
        super().__init__(function, variables)
        self._returned = []  # (block, variables with the result under "return")
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

    def _value_of_call(self, node):
        callee, arguments = self._value(node.func), tuple(self._items(node.args))
        keywords = {keyword.arg: self._value(keyword.value) for keyword in node.keywords}
        callee = REPLACED.get(callee, callee)
        if getattr(callee, "is_noinline", False):
            return call_noinline(run, callee, tuple(bound(callee, arguments, keywords).values()))
        return run(callee, arguments, keywords)
