"""What Python's loops mean in a staged function: `for` over `range` and `prange`, and `while`."""

from llvmlite import ir
from numba import prange

from .blocks import empty_phi, unknown
from .expressions import Expressions
from .numbers import Number, number, truth
from .scopes import do_tasks, pack, struct_of, unknown_leaves, unpack, with_leaves
from .syntax import assigned, used
from .values import POINTER, Pointer, Value, builder, scopes
from .views import leaves, rebuild

_UNROLLED = 32  # rounds of a loop that are written down one by one, if it is known that there are no more: a tile's


class Loops(Expressions):
    """Loops of a function; `_block` writes statements, and `_continue` goes on with the next round."""

    def __init__(self, function, variables):
        super().__init__(function, variables)
        self._continued = []  # (block, variables of each that goes on) for each loop, the innermost last

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
            if type(self)(self.function, variables)._block(body):
                task.end()
        finally:
            scopes.pop()
        do_tasks(scope, task, closure, number(n_tasks).ir)
