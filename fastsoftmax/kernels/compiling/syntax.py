"""The syntax trees of staged functions."""

import ast
import functools
import linecache
import textwrap

from . import sources


@functools.cache
def parsed(function):
    """Read a function's syntax tree."""
    code, module = function.__code__, function.__module__
    own = sources.is_own(module)
    lines = sources.lines_of(module) if own else linecache.getlines(code.co_filename, function.__globals__)
    lines = lines[code.co_firstlineno - 1 :]
    start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("def "))
    depth = len(lines[start]) - len(lines[start].lstrip())
    stop = start + 1
    while stop < len(lines) and (not lines[stop].strip() or lines[stop][depth : depth + 1] in " )"):
        stop += 1
    tree = ast.parse(textwrap.dedent("".join(lines[start:stop]))).body[0]
    return ast.increment_lineno(tree, code.co_firstlineno + start - 1)


@functools.cache
def assigned(*nodes):
    """List the names that statements assign."""
    parts = (part for node in nodes for part in ast.walk(node))
    return tuple(
        dict.fromkeys(part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    )


@functools.cache
def used(*nodes):
    """List all names in statements."""
    return tuple(dict.fromkeys(part.id for node in nodes for part in ast.walk(node) if isinstance(part, ast.Name)))
