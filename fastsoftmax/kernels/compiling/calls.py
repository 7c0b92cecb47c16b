"""Calls of functions that are not inlined: written once for each kind of arguments."""

from llvmlite import ir

from .scopes import DONE, pack, unknown_leaves, unpack, with_leaves
from .values import INT32, POINTER, Pointer, Value, builder, scopes
from .views import Array


def _kind_of(value):
    """Describe what decides how a function is written: what is known of its arguments, and the types of the rest."""
    if isinstance(value, Array):
        return Array, value.stored, _kind_of(value.shape)
    if isinstance(value, tuple):
        return tuple(_kind_of(part) for part in value)
    return (type(value), str(value.ir.type)) if isinstance(value, Value) else (type(value), value)


def call_noinline(run, function, arguments):
    """Call a function; `run` writes what one does."""
    scope, key = scopes[-1], (function, _kind_of(arguments))
    if key not in scope.apart:
        scope.apart[key] = _write(run, scope, function, arguments)
    callee, kind, result = scope.apart[key]
    place = scope.place(kind)
    status = builder().call(callee.function, [*(leaf.ir for leaf in unknown_leaves(arguments)), place])
    if callee.can_fail:
        scope.fail_if(builder().icmp_unsigned("!=", status, INT32(DONE)), status)
    return with_leaves(result, unpack(builder(), place, kind))


def _write(run, scope, function, arguments):
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
