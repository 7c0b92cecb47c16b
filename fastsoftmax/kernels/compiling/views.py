"""Arrays of a kernel while it is compiled, and what tuples and arrays are made of."""

import functools
import operator
from dataclasses import dataclass, replace

import numpy as np
from llvmlite import ir

from .halves import bits_of, build_from_half, build_to_half, is_half
from .numbers import Number, convert, number
from .values import BOOL, BYTE, ELEMENT_OF, FLOAT, Pointer, Value, builder, call, scopes


@dataclass(frozen=True)
class Array:
    """A contiguous array that someone else keeps alive: nothing counts references to it.

    Of order "F" are matrices whose transpose is C-contiguous, as NumPy has it; they have elements, but no rows.
    """

    stored: np.dtype
    data: Pointer
    shape: tuple
    order: str = "C"

    @property
    def dtype(self):
        """The dtype that its elements are computed in."""
        return np.dtype(np.float32) if is_half(self.stored) else self.stored

    @property
    def element(self):
        """The LLVM type of an element."""
        return ELEMENT_OF[self.stored]

    @property
    def itemsize(self):
        """The bytes of an element."""
        return self.stored.itemsize

    @property
    def size(self):
        """The number of elements."""
        return functools.reduce(operator.mul, self.shape)

    @property
    def flat(self):
        """All elements as one dimension, as they lie."""
        return replace(self, shape=(self.size,), order="C")

    @property
    def nbytes(self):
        """The bytes of all elements."""
        return self.size * self.itemsize

    def view(self, first, shape):
        """View elements from a flat index on."""
        data = builder().gep(self.data.ir, [number(first).ir], source_etype=self.element)
        return Array(self.stored, Pointer(data), shape)

    def __getitem__(self, index):
        """Give what Python's indexing gives; no index is negative."""
        if self.order == "F" and not isinstance(index, tuple):
            raise TypeError("expected a C-contiguous array to take rows of")
        if isinstance(index, slice):
            start = 0 if index.start is None else index.start
            stop = self.shape[0] if index.stop is None else index.stop
            rest = self.shape[1:]
            return self.view(functools.reduce(operator.mul, rest, start), (stop - start, *rest))
        if len(self.shape) == 2 and isinstance(index, tuple) and isinstance(index[1], slice):
            return self[index[0]][index[1]]
        if len(self.shape) == 2 and not isinstance(index, tuple):
            return self.view(index * self.shape[1], self.shape[1:])
        value = builder().load(self._place(index), typ=self.element, align=self.itemsize)
        return Number(build_from_half(value, self.stored) if is_half(self.stored) else value)

    def __setitem__(self, index, value):
        """Assign to an index; slices are filled with zeros."""
        if isinstance(index, slice):
            if isinstance(value, Value) or value != 0:
                raise TypeError("only zeros can fill a slice")
            part = self[index]
            size = number(part.size * self.itemsize).ir
            call("llvm.memset.p0.i64", ir.VoidType(), [part.data.ir, BYTE(0), size, BOOL(0)])
        else:
            builder().store(stored_number(self, value), self._place(index), align=self.itemsize)

    def _place(self, index):
        if isinstance(index, tuple):
            row, column = index
            index = row * self.shape[1] + column if self.order == "C" else column * self.shape[0] + row
        return address(self, index, 1)


def stored_number(array, value):
    """Build what an array stores for a number."""
    if not is_half(array.stored):
        return convert(value, array.element)
    if isinstance(value, (int, float)):
        return ir.Constant(array.element, bits_of(value, array.stored))
    return build_to_half(convert(value, FLOAT), array.stored)


def address(array, index, count=0):
    """Build the address of an element from which on `count` are touched."""
    index = number(index).ir
    if scopes[-1].checks_bounds:
        scopes[-1].check_bounds(index, number(count).ir, number(array.size).ir)
    return builder().gep(array.data.ir, [index], source_etype=array.element)


# Values made of values ------------------------------------------------------------------------------------------


def leaves(value):
    """List what a value is made of: the parts of tuples and arrays."""
    if isinstance(value, Array):
        return [value.data, *value.shape]
    if isinstance(value, tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def rebuild(like, parts):
    """Make a value as `like` of other leaves, in order, from an iterator."""
    if isinstance(like, Array):
        return replace(like, data=next(parts), shape=tuple(next(parts) for _ in like.shape))
    if isinstance(like, tuple):
        made = [rebuild(part, parts) for part in like]
        return type(like)(*made) if hasattr(like, "_fields") else tuple(made)
    return next(parts)


def same_leaf(a, b):
    """Whether two leaves are known to be the same."""
    if isinstance(a, Value) or isinstance(b, Value):
        return isinstance(a, Value) and isinstance(b, Value) and a.ir is b.ir
    return a is b or (type(a) is type(b) and a == b)
