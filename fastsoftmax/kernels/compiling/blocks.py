"""Variables where blocks of instructions meet: each is one of several values then, by the block that was left."""

import numpy as np
from llvmlite import ir

from .numbers import Number, number
from .values import DOUBLE, FLOAT, Value, builder
from .views import leaves, rebuild, same_leaf


class Blocks:
    """Variables, and the branches that give them values."""

    def __init__(self, variables):
        self.variables = variables

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

    def _as(self, name, start):
        """Give a variable at the end of a round, of the kind that it had before the loop."""
        value = self.variables[name]
        found, wanted = leaves(value), leaves(start)
        if len(found) != len(wanted):
            raise TypeError(f"{name}: expected the kind that it had before the loop")
        made = []
        for leaf, like in zip(found, wanted, strict=True):
            leaf = unknown(leaf) if isinstance(like, Value) else leaf
            fits = leaf.ir.type == like.ir.type if isinstance(like, Value) else same_leaf(leaf, like)
            if not fits:
                raise TypeError(f"{name}: expected {like!r} as before the loop, got {leaf!r}")
            made.append(leaf)
        return rebuild(start, iter(made))


def _known(leaf, row, name):
    """Make a value of a leaf that is known, of the kind that the others are of."""
    for other in row:
        if isinstance(other, Number) and other.ir.type in (FLOAT, DOUBLE) and not isinstance(leaf, bool):
            return Number(ir.Constant(other.ir.type, float(leaf)))
    try:
        return number(leaf)
    except TypeError:
        raise TypeError(f"{name}: expected values of one kind from all branches, got {row!r}") from None


def unknown(value):
    """Give a value whose numbers are values too: what a loop may change is not known."""
    parts = [
        number(leaf) if isinstance(leaf, (bool, int, float, np.number)) and not isinstance(leaf, Value) else leaf
        for leaf in leaves(value)
    ]
    return rebuild(value, iter(parts))


def empty_phi(leaf):
    """Begin a value that is one of several, if it is not known."""
    return leaf.like(builder().phi(leaf.ir.type)) if isinstance(leaf, Value) else leaf
