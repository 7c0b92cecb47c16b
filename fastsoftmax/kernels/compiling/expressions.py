"""What Python's expressions mean in a staged function: see `staging`."""

import ast
import math
import operator

import numpy as np

from .blocks import Blocks
from .numbers import integer, is_inf, is_nan, ldexp, maximum, minimum, opposite, real, truth
from .scopes import empty, zeros
from .values import DOUBLE, FLOAT, Value, builder

# What is called in place of some functions.
REPLACED = {
    np.empty: empty,
    np.zeros: zeros,
    min: minimum,
    max: maximum,
    math.isnan: is_nan,
    math.isinf: is_inf,
    math.ldexp: ldexp,
    np.intp: integer,
    np.float32: real(FLOAT, np.float32),
    np.float64: real(DOUBLE, np.float64),
}

BINARY = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "BitAnd": operator.and_,
    "BitOr": operator.or_,
    "BitXor": operator.xor,
    "LShift": operator.lshift,
    "RShift": operator.rshift,
    "Pow": operator.pow,
}
COMPARE = {
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Is": operator.is_,
    "IsNot": operator.is_not,
}


class Expressions(Blocks):
    """Expressions of a function, by its variables."""

    def __init__(self, function, variables):
        super().__init__(variables)
        self.function = function

    def _value(self, node):
        kind = type(node)
        if kind is ast.Name:
            return self._named(node.id)
        if kind is ast.Constant:
            return node.value
        if kind is ast.BinOp:
            return BINARY[type(node.op).__name__](self._value(node.left), self._value(node.right))
        evaluate = getattr(self, f"_value_of_{kind.__name__.lower()}", None)
        if evaluate is None:
            raise TypeError(f"kernels know no {kind.__name__}")
        return evaluate(node)

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
        return self._value(node.value)[self._value(node.slice)]

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
