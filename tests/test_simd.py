"""The vector language, operation by operation: the same bits as NumPy, lane by lane, on whatever floats there are.

A table for each kind of result: an operation of three vectors, and what NumPy makes of the same lanes as rows of three
matrices. fma is computed from fractions, and sums are taken in the order that the kernels promise. What holds for
vectors of 64 bytes holds for those of one lane, and for sixteen float64 lanes, which stand beside sixteen of float32.
"""

import functools
import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from fastsoftmax.conversions import stored
from fastsoftmax.kernels.compiling.jit import probe
from fastsoftmax.kernels.compiling.numbers import Number
from fastsoftmax.kernels.gemm import micro_tile
from fastsoftmax.kernels.rows.logits import LogitView
from fastsoftmax.kernels.simd import accumulate, memory, reduce, transpose, vector
from fastsoftmax.kernels.simd.convert import demote, promote
from fastsoftmax.kernels.simd.vector import broadcast, lanes_in, lanes_of, lone, splat

BOTH = pytest.mark.parametrize("dtype", [np.float32, np.float64])
KINDS = [(np.float32, 16), (np.float64, 8), (np.float64, 16), (np.float32, 1), (np.float64, 1)]


@functools.cache
def inputs(dtype, lanes):
    """Three matrices with a vector a row: all triples of special values, all magnitudes, and sums that cancel."""
    info, rng = np.finfo(dtype), np.random.default_rng(0)
    few = [0.0, info.smallest_subnormal, info.tiny, 1.0, 1 + info.eps, info.max, np.inf]
    special = np.array([*few, *np.negative(few), np.nan, 3.3], dtype)
    triples = rng.permutation(np.array(list(itertools.product(special, repeat=3)), dtype)).T
    plain = rng.uniform(1, 2, (3, 2048)) * rng.choice([-1, 1], (3, 2048))
    exponents = rng.integers(info.minexp - info.nmant, info.maxexp // 2, (3, 1024))
    plain[:, :1024] = np.ldexp(plain[:, :1024], exponents)
    a, b, c = plain.astype(dtype)
    c[1024:1536] = -(a * b)[1024:1536]
    c[1536:] = rng.choice(special, 512)
    b[1800:] = a[1800:]
    return tuple(np.concatenate(pair).reshape(-1, lanes) for pair in zip(triples, (a, b, c), strict=True))


def rounded(exact, dtype):
    """A fraction rounded once, to the nearest, ties to even."""
    info = np.finfo(dtype)
    exponent = abs(exact.numerator).bit_length() - exact.denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent
    unit = Fraction(2) ** (max(exponent, info.minexp) - info.nmant)
    nearest = round(exact / unit) * unit
    return float(nearest) if abs(nearest) <= Fraction(float(info.max)) else math.inf * (1 if exact > 0 else -1)


def exact_fma(a, b, c):
    a, b, c = np.broadcast_arrays(a, b, c)
    results = np.where(np.isfinite(a) & np.isfinite(b) & ~np.isfinite(c), c, a * b + c)
    for at in np.argwhere(np.isfinite(a) & np.isfinite(b) & np.isfinite(c)):
        x, y, z = (Fraction(float(array[*at])) for array in (a, b, c))
        if exact := x * y + z:
            results[*at] = rounded(exact, a.dtype) or (0.0 if exact > 0 else -0.0)
        elif x * y:
            results[*at] = 0.0  # where both are zeros, NumPy knows the sign
    return results


def by_lanes(array, numbers):
    """Each row with the same number in a lane."""
    return np.broadcast_to(np.asarray(numbers, array.dtype), array.shape)


def without(lane):
    return lambda a, b, c: np.where(np.arange(a.shape[1]) == lane, 0, a)


def with_lane(a, lane, number):
    return np.where(np.arange(a.shape[1]) == lane, np.asarray(number, a.dtype), a)


def first_where(found):
    """The first column in which each row is true, as a column; their count if there is none."""
    return np.where(found.any(1), found.argmax(1), found.shape[1])[:, None]


COEFFICIENTS = (1.5, -0.1, 0.7), (1.5, -0.2, 0.3)


def horner(a, b, c):
    low, middle, high = (a.dtype.type(x) for x in COEFFICIENTS[a.itemsize == 8])
    return exact_fma(exact_fma(high, a, middle), a, low)


def wide(a):
    return a.astype(np.float64)


# Vectors of the same type ------------------------------------------------------------------------------------------

VECTORS = {
    "+": [lambda a, b, c: a + b] * 2,
    "-": [lambda a, b, c: a - b] * 2,
    "*": [lambda a, b, c: a * b] * 2,
    "/": [lambda a, b, c: a / b] * 2,
    "negation": [lambda a, b, c: -a] * 2,
    "fma": (vector.fma, exact_fma),
    "magnitude": (lambda a, b, c: vector.magnitude(a), lambda a, b, c: abs(a)),
    "greater": (lambda a, b, c: vector.greater(a, b), lambda a, b, c: np.where(a > b, a, b)),
    "less": (lambda a, b, c: vector.less(a, b), lambda a, b, c: np.where(a < b, a, b)),
    "where_equal": (lambda a, b, c: vector.where_equal(a, b, c, -c), lambda a, b, c: np.where(a == b, c, -c)),
    "where_greater": (lambda a, b, c: vector.where_greater(a, b, c, -c), lambda a, b, c: np.where(a > b, c, -c)),
    "zero_below": (lambda a, b, c: vector.zero_below(c, a, b), lambda a, b, c: np.where(a < b, 0, c)),
    "drop_lane, the first": (lambda a, b, c: vector.drop_lane(a, 0), without(0)),
    "drop_lane": (lambda a, b, c: vector.drop_lane(a, 5), without(5)),
    "drop_lane, none": (lambda a, b, c: vector.drop_lane(a, 16), lambda a, b, c: a),
    "set_lane, the first": (
        lambda a, b, c: vector.set_lane(a, 0, reduce.first_lane(b)),
        lambda a, b, c: with_lane(a, 0, b[:, :1]),
    ),
    "set_lane": (lambda a, b, c: vector.set_lane(a, 5, 0.1), lambda a, b, c: with_lane(a, 5, 0.1)),
    "set_lane, none": (lambda a, b, c: vector.set_lane(a, 16, 0.1), lambda a, b, c: a),
    "set_lane of a match": (
        lambda a, b, c: vector.set_lane(a, reduce.matching_lane(b, c), reduce.first_lane(c)),
        lambda a, b, c: with_lane(a, first_where(b == c), c[:, :1]),
    ),
    "set_lane before a match": (
        lambda a, b, c: vector.set_lane(a, reduce.matching_lane(b, c) - 1, -0.0),
        lambda a, b, c: with_lane(a, first_where(b == c) - 1, -0.0),
    ),
    "splat of a constant": (lambda a, b, c: splat(a, 0.1), lambda a, b, c: by_lanes(a, 0.1)),
    "splat of a lane": (lambda a, b, c: splat(a, reduce.first_lane(b)), lambda a, b, c: by_lanes(a, b[:, :1])),
    "splat of a float64": (
        lambda a, b, c: splat(a, reduce.first_lane(promote(a) * promote(b))),
        lambda a, b, c: by_lanes(a, (wide(a) * wide(b))[:, :1]),
    ),
    "broadcast of a constant": (lambda a, b, c: broadcast(lone(0.1, a.dtype), a), lambda a, b, c: by_lanes(a, 0.1)),
    "broadcast of what one lane has": (
        lambda a, b, c: broadcast(vector.fma(*(lone(reduce.first_lane(x), a.dtype) for x in (a, b, c))), a),
        lambda a, b, c: by_lanes(a, exact_fma(a[:, :1], b[:, :1], c[:, :1])),
    ),
    "demote of what promote gives": (lambda a, b, c: demote(promote(a), a), lambda a, b, c: a),
    "demote": (
        lambda a, b, c: demote(promote(a) * promote(b), a),
        lambda a, b, c: (wide(a) * wide(b)).astype(a.dtype),
    ),
    "constant": (
        lambda a, b, c: vector.constant(0.1, 0.2)(a),
        lambda a, b, c: by_lanes(a, 0.1 if a.itemsize == 4 else 0.2),
    ),
    "constant, −0": (lambda a, b, c: vector.constant(-0.0, -0.0)(a), lambda a, b, c: by_lanes(a, -0.0)),
    "polynomial": (lambda a, b, c: vector.polynomial(*COEFFICIENTS)(a), horner),
}

# Of vectors of 64 bytes only.
TILES = {
    "empty_tile": (lambda a, b, c: micro_tile.empty_tile(a, 2, 3)[5], lambda a, b, c: by_lanes(a, 0.0)),
    "add_products, row 0": (
        lambda a, b, c: micro_tile.add_products((a, b, c, -a), (a, b), (b, c))[1],
        lambda a, b, c: exact_fma(a, c, b),
    ),
    "add_products, row 1": (
        lambda a, b, c: micro_tile.add_products((a, b, c, -a), (a, b), (b, c))[2],
        lambda a, b, c: exact_fma(b, b, c),
    ),
    "add_tiles": (lambda a, b, c: micro_tile.add_tiles((a, b), (b, c))[1], lambda a, b, c: b + c),
}


# As many float64 lanes ---------------------------------------------------------------------------------------------


def knuth(total, addend, error):
    new = total + addend
    back = new - total
    return new, error + ((total - (new - back)) + (addend - back))


def exact_sum(total, addend):
    """The rounded sum, and what it rounded off, by fractions; where anything is infinite or NaN, as `knuth` says."""
    new, error = knuth(total, addend, 0.0)
    for at in np.argwhere(np.isfinite(new)):
        error[*at] = float(Fraction(float(total[*at])) + Fraction(float(addend[*at])) - Fraction(float(new[*at])))
    return new, error


def added(total, a):
    """A running sum and a vector: of float32 it has no second part."""
    if a.dtype == np.float32:
        return total[0] + wide(a), None
    return knuth(total[0], a, 0.0 if total[1] is None else total[1])


def total_of(*vectors):
    return functools.reduce(added, vectors, (np.zeros(vectors[0].shape), None))


def kernel_total_of(*vectors):
    return functools.reduce(accumulate.add_to_sum, vectors, accumulate.empty_sum(vectors[0]))


def added_four(a, b, c):
    return total_of((a + b) + (c + a)) if a.dtype == np.float32 else total_of(a, b, c, a)


def settled(total, error):
    return total if error is None else total + np.where(np.isnan(error), 0, error)


def last(running):
    """What a running sum has rounded off; its total where it keeps no such thing."""
    return running[0] if running[1] is None else running[1]


DOUBLES = {
    "promote": (lambda a, b, c: promote(a), lambda a, b, c: wide(a)),
    "splat of float64 lanes": (lambda a, b, c: splat(promote(a), 0.1), lambda a, b, c: by_lanes(wide(a), 0.1)),
    "splat of float64 lanes, of a lane": (
        lambda a, b, c: splat(promote(a), reduce.first_lane(b)),
        lambda a, b, c: by_lanes(wide(a), b[:, :1]),
    ),
    "broadcast of one float64 lane": (
        lambda a, b, c: broadcast(lone(reduce.first_lane(a)) / lone(reduce.first_lane(b)), promote(c)),
        lambda a, b, c: by_lanes(wide(a), wide(a)[:, :1] / wide(b)[:, :1]),
    ),
    "add_to_sum": (lambda *abc: kernel_total_of(*abc).total, lambda *abc: total_of(*abc)[0]),
    "add_to_sum, the rest": (lambda *abc: last(kernel_total_of(*abc)), lambda *abc: last(total_of(*abc))),
    "add_to_sum of float64 lanes": (
        lambda *abc: kernel_total_of(*map(promote, abc)).total,
        lambda *abc: total_of(*map(wide, abc))[0],
    ),
    "add_to_sum of float64 lanes, the rest": (
        lambda *abc: kernel_total_of(*map(promote, abc)).error,
        lambda *abc: total_of(*map(wide, abc))[1],
    ),
    "add_four_to_sum": (
        lambda a, b, c: accumulate.add_four_to_sum(accumulate.empty_sum(a), a, b, c, a).total,
        lambda a, b, c: added_four(a, b, c)[0],
    ),
    "add_four_to_sum, the rest": (
        lambda a, b, c: last(accumulate.add_four_to_sum(accumulate.empty_sum(a), a, b, c, a)),
        lambda a, b, c: last(added_four(a, b, c)),
    ),
    "two_sum": (lambda *abc: accumulate.two_sum(*map(promote, abc))[0], lambda *abc: knuth(*map(wide, abc))[0]),
    "two_sum, the rest": (
        lambda *abc: accumulate.two_sum(*map(promote, abc))[1],
        lambda *abc: knuth(*map(wide, abc))[1],
    ),
    "two_sum is exact": (
        lambda a, b, c: accumulate.two_sum(promote(a), promote(b), splat(promote(a), 0.0))[1],
        lambda a, b, c: exact_sum(wide(a), wide(b))[1],
    ),
    "settled": (lambda a, b, c: accumulate.settled(promote(a), promote(b)), lambda a, b, c: settled(wide(a), wide(b))),
    "lane_sums": (
        lambda *abc: accumulate.lane_sums(kernel_total_of(*abc)),
        lambda *abc: settled(*total_of(*abc)),
    ),
}


# Numbers -----------------------------------------------------------------------------------------------------------


def folded(a, combine=np.add):
    """Lane i with lane i + half, until one is left."""
    while a.shape[-1] > 1:
        a = combine(*np.split(a, 2, axis=-1))
    return a[..., 0]


def sum_of(total, error):
    if error is None:
        return folded(total)
    while total.shape[-1] > 1:
        low, high = np.split(error, 2, axis=-1)
        total, error = knuth(*np.split(total, 2, axis=-1), low + high)
    return settled(total, error)[..., 0]


NUMBERS = {
    "first_lane": (lambda a, b, c: reduce.first_lane(a), lambda a, b, c: a[:, 0]),
    "greatest_lane": (
        lambda a, b, c: reduce.greatest_lane(a),
        lambda a, b, c: folded(a, lambda low, high: np.where(low > high, low, high)),
    ),
    "count_equal": (lambda a, b, c: reduce.count_equal(a, b), lambda a, b, c: (a == b).sum(1)),
    "matching_lane": (
        lambda a, b, c: reduce.matching_lane(a, b),
        lambda a, b, c: first_where(a == b)[:, 0],
    ),
    "sum_of": (
        lambda a, b, c: accumulate.sum_of(kernel_total_of(a, b)),
        lambda a, b, c: sum_of(*total_of(a, b)),
    ),
    "sum_of float64 lanes": (
        lambda a, b, c: accumulate.sum_of(kernel_total_of(promote(a), promote(b))),
        lambda a, b, c: sum_of(*total_of(wide(a), wide(b))),
    ),
}


def compiled(table, lanes):
    """The kernel of a table, for vectors of so many lanes; a number takes the place of a vector's first lane."""

    def write(results, i, size, *vectors):
        for k, (operation, _) in enumerate(table.values()):
            value, place = operation(*vectors), i + size * k
            if isinstance(value, Number):
                results[place] = value
            else:
                memory.store(results, place, value)

    @probe
    def kernel(a, b, c, results):
        for i in range(0, a.size, lanes):
            write(results, i, a.size, memory.load(a, i, lanes), memory.load(b, i, lanes), memory.load(c, i, lanes))

    return kernel


TABLES = {"vectors": VECTORS, "tiles": TILES, "doubles": DOUBLES, "numbers": NUMBERS}


@functools.cache
def results_of(title, dtype, lanes):
    """The results of a table on all inputs, by operation."""
    given, table = inputs(dtype, lanes), TABLES[title]
    results = np.empty((len(table), *given[0].shape), dtype if title in ("vectors", "tiles") else np.float64)
    compiled(table, lanes).serial(*(matrix.reshape(-1) for matrix in given), results.reshape(-1))
    return dict(zip(table, results[..., 0] if title == "numbers" else results, strict=True))


def check(title, name, kind, assert_same_bits):
    got = results_of(title, *kind)[name]
    with np.errstate(all="ignore"):
        want = np.asarray(TABLES[title][name][1](*inputs(*kind))).astype(got.dtype)
    assert_same_bits(got, want, name)


OF_ANY_LANES = [(title, name) for title in ("vectors", "doubles", "numbers") for name in TABLES[title]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[1]} {kind[0].__name__}")
@pytest.mark.parametrize("operation", OF_ANY_LANES, ids=lambda operation: operation[1])
def test_operation(operation, kind, assert_same_bits):
    check(*operation, kind, assert_same_bits)


@BOTH
@pytest.mark.parametrize("name", TILES)
def test_operation_of_tiles(name, dtype, assert_same_bits):
    check("tiles", name, (dtype, lanes_in(dtype)), assert_same_bits)


@probe
def compiled_sum_all(values) -> float:
    return accumulate.sum_all(values)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 31, 32, 33, 64, 77, 200])
def test_sum_all(size, assert_same_bits):
    """Fours of vectors, then vectors, then the rest with zeros."""
    values = np.random.default_rng(size).standard_normal(size) * 10.0 ** np.arange(size % 30 + 1)[-1]
    fours = values[: size // 32 * 32].reshape(-1, 4, 8)
    rest = values[fours.size :]
    rest = np.pad(rest, (0, 8 - len(rest) % 8)).reshape(-1, 8)
    vectors = [*((fours[:, 0] + fours[:, 1]) + (fours[:, 2] + fours[:, 3])), *rest]
    total = functools.reduce(lambda total, vector: knuth(total[0], vector, total[1]), vectors, (np.zeros(8),) * 2)
    assert_same_bits(np.float64(compiled_sum_all.serial(values)), sum_of(*total))


# Memory: what a source, a row of targets and a number make of the row ----------------------------------------------

SIZE, STEP = 1024, 37  # elements of a source and of a row; and from one row of a tile to the next


def store_all(row, vectors):
    for k, value in enumerate(vectors):
        memory.store(row, k * lanes_of(value), value)


def known_counts(array):
    return [lanes_in(array.dtype) + k for k in (-1, 0, 1)]


def load_all(source, count):
    return tuple(memory.load(source, k * 13) for k in range(count))


def loaded(source, count):
    width = lanes_in(source.dtype)
    return np.array([source[k * 13 : k * 13 + width] for k in range(count)])


def streamed(source, row, n):
    memory.stream(row, 1 + memory.unaligned(row, 1), memory.load(source, 5))
    memory.finish_streams()
    memory.prefetch(source, n * 10**9)


def put(row, at, values, count=None):
    values = values[:count]
    row[at : at + len(values)] = values


def first(values, count, fill):
    """The first values, and others filled."""
    return np.where(np.arange(len(values)) < count, values, fill)


def put_tile(source, row, n_rows, left):
    """Two vectors a row of three: some of them, and the others 0."""
    width = lanes_in(source.dtype)
    for r in range(3):
        put(row, 2 * r * width, first(source[4 + STEP * r :][: 2 * width], left if r < n_rows else 0, 0))


def put_part(source, row, n_rows, left):
    width = lanes_in(source.dtype)
    for r in range(min(n_rows, 3)):
        put(row, 4 + STEP * r, loaded(source, 6)[2 * r : 2 * r + 2].ravel(), min(left, 2 * width))


def put_lane_sums(source, row, n):
    for r, c in itertools.product(range(4), range(min(n, 5))):
        row[3 + STEP * r + c] = folded(loaded(source, 20)[5 * r + c]) + source[9 + c]


def put_transposed(source, row, n_rows, n_columns, n_kept, kept_columns):
    """Of a whole tile; blocks that no column of the source or of the target is in are left out."""
    side = transpose.side_of(source)
    for r, c in itertools.product(range(lanes_in(source.dtype)), repeat=2):
        wanted = n_columns > c // side * side and kept_columns > r // side * side
        if wanted and c < n_kept and r < kept_columns:
            row[2 + 41 * c + r] = source[7 + STEP * r + c] if r < n_rows and c < n_columns else 0


def put_block(source, row, n):
    side = transpose.side_of(source)
    for r, c in itertools.product(range(side), repeat=2):
        row[2 + 41 * c + r] = source[7 + STEP * r + c]


def transposed_part(*sizes):
    """Transpose a part whose sizes are given, or None for the number."""

    def operation(source, row, n):
        n_rows, n_columns, n_kept, kept_columns = (n if size is None else size for size in sizes)
        transpose.transpose_part(source, 7, STEP, n_rows, n_columns, row, 2, 41, n_kept, kept_columns)

    return operation, lambda source, row, n: put_transposed(
        source, row, *(n if size is None else size for size in sizes)
    )


MEMORY = {
    "load and store": (
        lambda source, row, n: memory.store(row, 3, memory.load(source, 5)),
        lambda source, row, n: put(row, 3, source[5:], lanes_in(row.dtype)),
    ),
    "load and store of one lane": (
        lambda source, row, n: memory.store(row, n, memory.load(source, n, 1)),
        lambda source, row, n: put(row, n, source[n:], 1),
    ),
    "load and store of 4 lanes": (
        lambda source, row, n: memory.store(row, n, memory.load(source, 5, 4)),
        lambda source, row, n: put(row, n, source[5:], 4),
    ),
    "load and store of 32 lanes": (
        lambda source, row, n: memory.store(row, 3, memory.load(source, n, 32)),
        lambda source, row, n: put(row, 3, source[n:], 32),
    ),
    "load_first": (
        lambda source, row, n: memory.store(row, 3, memory.load_first(source, 5, n, 7.0)),
        lambda source, row, n: put(row, 3, first(source[5 : 5 + lanes_in(row.dtype)], n, 7)),
    ),
    "load_first of a known number": (
        lambda source, row, n: memory.store(row, 3, memory.load_first(source, 5, 3, -0.0)),
        lambda source, row, n: put(row, 3, first(source[5 : 5 + lanes_in(row.dtype)], 3, -0.0)),
    ),
    "load_first of all but one, and of all": (
        lambda source, row, n: store_all(row, [memory.load_first(source, 5, k, 7.0) for k in known_counts(source)]),
        lambda source, row, n: put(
            row, 0, np.ravel([first(source[5:][: lanes_in(row.dtype)], k, 7) for k in known_counts(row)])
        ),
    ),
    "store_first": (
        lambda source, row, n: memory.store_first(row, 3, n, memory.load(source, 5)),
        lambda source, row, n: put(row, 3, source[5:], min(n, lanes_in(row.dtype))),
    ),
    "store_first of one lane": (
        lambda source, row, n: memory.store_first(row, 3, n, memory.load(source, 5, 1)),
        lambda source, row, n: put(row, 3, source[5:], min(n, 1)),
    ),
    "store_first of 32 lanes": (
        lambda source, row, n: memory.store_first(row, 3, n, memory.load(source, 5, 32)),
        lambda source, row, n: put(row, 3, source[5:], min(n, 32)),
    ),
    "store_first of a known number": (
        lambda source, row, n: memory.store_first(row, 3, 5, memory.load(source, 5)),
        lambda source, row, n: put(row, 3, source[5:], 5),
    ),
    "store_first of all but one": (
        lambda source, row, n: memory.store_first(row, 3, lanes_in(row.dtype) - 1, memory.load(source, 5)),
        lambda source, row, n: put(row, 3, source[5:], lanes_in(row.dtype) - 1),
    ),
    "store_first of more than all": (
        lambda source, row, n: memory.store_first(row, 3, 20, memory.load(source, 5)),
        lambda source, row, n: put(row, 3, source[5:], lanes_in(row.dtype)),
    ),
    "first_ones": (
        lambda source, row, n: memory.store(row, 3, memory.first_ones(source, n)),
        lambda source, row, n: put(row, 3, first(np.ones(lanes_in(row.dtype)), n, 0)),
    ),
    "an element": (
        lambda source, row, n: row.__setitem__(n, source[n + 1]),
        lambda source, row, n: put(row, n, source[n + 1 :], 1),
    ),
    "zeros": (
        lambda source, row, n: row.__setitem__(slice(3, n + 3), 0),
        lambda source, row, n: put(row, 3, np.zeros(n)),
    ),
    "stream": (streamed, lambda source, row, n: put(row, lanes_in(row.dtype), source[5:], lanes_in(row.dtype))),
    "overlap": (
        lambda source, row, n: row.__setitem__(n, memory.overlap(source[0:n], source[5:9])),
        lambda source, row, n: put(row, n, [n > 5]),
    ),
    "broadcast_several": (
        lambda source, row, n: store_all(row, micro_tile.broadcast_several(source, n, STEP, 3)),
        lambda source, row, n: put(row, 0, np.repeat(source[n::STEP][:3], lanes_in(row.dtype))),
    ),
    "load_several": (
        lambda source, row, n: store_all(row, micro_tile.load_several(source, 4, STEP, n, 3, 2)),
        lambda source, row, n: [
            put(row, k * lanes_in(row.dtype), first(source[4 + STEP * k :][: lanes_in(row.dtype)], n - 3 * k, 0))
            for k in range(2)
        ],
    ),
    "load_tile, some columns": (
        lambda source, row, n: store_all(
            row, micro_tile.load_tile(source, 4, STEP, 2, n, micro_tile.empty_tile(row, 3, 2), 2)
        ),
        lambda source, row, n: put_tile(source, row, 2, n),
    ),
    "load_tile, some rows": (
        lambda source, row, n: store_all(
            row, micro_tile.load_tile(source, 4, STEP, n, 19, micro_tile.empty_tile(row, 3, 2), 2)
        ),
        lambda source, row, n: put_tile(source, row, n, 19),
    ),
    "store_tile, some columns": (
        lambda source, row, n: micro_tile.store_tile(row, 4, STEP, 2, n, load_all(source, 6), 2),
        lambda source, row, n: put_part(source, row, 2, n),
    ),
    "store_tile, some rows": (
        lambda source, row, n: micro_tile.store_tile(row, 4, STEP, n, 19, load_all(source, 6), 2),
        lambda source, row, n: put_part(source, row, n, 19),
    ),
    "store_lane_sums": (
        lambda source, row, n: micro_tile.store_lane_sums(row, 3, STEP, n, load_all(source, 20), 5, source, 9),
        put_lane_sums,
    ),
    "transpose_block": (
        lambda source, row, n: transpose.transpose_block(source, 7, STEP, row, 2, 41),
        put_block,
    ),
    "transpose_part, some rows": transposed_part(None, 16, 16, 16),
    "transpose_part, some columns": transposed_part(16, None, 16, 16),
    "transpose_part, some rows kept": transposed_part(16, 16, None, 16),
    "transpose_part, some columns kept": transposed_part(16, 16, 16, None),
    "transpose_part, some of all": transposed_part(5, None, 7, None),
}


# What is no plain array: a source and a row of targets with a mask, what they are where it is 0, and what else.
VIEWS = {
    "arrays": (None, None),
    "views": ({"fill": -math.inf}, {"fill": 0.5}),
    "a view of what is kept": ({"fill": -3.0, "kept": 0.0}, None),
}
OF_ARRAYS = ("overlap", "broadcast", "load_several", "load_tile", "store_tile", "store_lane")
OF_WHOLE_VECTORS = ("load and store", "stream", "transpose")


def operations_of(view):
    """The operations that take such arrays; what is kept fills whole vectors, or is 0."""
    return [
        name
        for name in MEMORY
        if view == "arrays"
        or (not name.startswith(OF_ARRAYS) and (view == "views" or name.startswith(OF_WHOLE_VECTORS)))
    ]


@functools.cache
def compiled_memory(view):
    of_source, of_targets = VIEWS[view]

    def viewed(array, mask, options):
        return array if options is None else LogitView(array, mask, **options)

    def write(source, targets, mask, n):
        for k, name in enumerate(operations_of(view)):
            MEMORY[name][0](viewed(source, mask, of_source), viewed(targets[k], mask, of_targets), n)

    @probe
    def kernel(source, targets, mask, n):
        write(source, targets, mask, n)

    return kernel


@functools.cache
def memory_after(view, dtype, n):
    """The source, the mask, and the rows by name; what is not stored to is −1."""
    rng, names = np.random.default_rng(1), operations_of(view)
    source, mask = rng.standard_normal(SIZE).astype(dtype), rng.choice([0, 1, 255], SIZE).astype(np.uint8)
    space = np.full(len(names) * SIZE + 64, -1, dtype)
    start = -space.ctypes.data % 64 // space.itemsize  # rows at multiples of 64 bytes
    targets = space[start:][: len(names) * SIZE].reshape(-1, SIZE)
    compiled_memory(view).serial(stored(source), stored(targets), mask, n)
    return source, mask, dict(zip(names, targets, strict=True))


def seen(array, mask, options):
    """An array as a view has it."""
    return array if options is None else np.where(mask, options.get("kept", array), options["fill"]).astype(array.dtype)


@BOTH
@pytest.mark.parametrize(("view", "name"), [(view, name) for view in VIEWS for name in operations_of(view)])
def test_memory(view, name, dtype, assert_same_bits):
    """For each number of elements up to more than there are lanes."""
    of_source, of_targets = VIEWS[view]
    for n in range(35):
        source, mask, targets = memory_after(view, dtype, n)
        want = np.full(SIZE, -1, dtype)
        MEMORY[name][1](seen(source, mask, of_source), want, n)
        if name != "zeros":  # which pass by the mask
            want = np.where(want == -1, want, seen(want, mask, of_targets))
        assert_same_bits(targets[name], want, f"{name} {n}")


@pytest.mark.parametrize("view", ["arrays", pytest.param("views", marks=pytest.mark.exhaustive)])
def test_memory_of_half_types(view, half, assert_same_bits):
    """As of float32, rounded once: `test_half_conversions` has the numbers that it takes to tell how."""
    of_source, of_targets = VIEWS[view]
    for n in range(35):
        source, mask, targets = memory_after(view, half, n)
        source = source.astype(np.float32)
        for name in operations_of(view):
            want = np.full(SIZE, -1, np.float32)
            MEMORY[name][1](seen(source, mask, of_source), want, n)
            if name != "zeros":
                want = np.where(want == -1, want, seen(want, mask, of_targets))
            assert_same_bits(targets[name], want.astype(half), f"{name} {n}")


# Masks of bytes as lanes, and how many lanes count
ALLOWED = {
    "some": lambda n, lanes: n,
    "a known number": lambda n, lanes: 5,
    "all but one": lambda n, lanes: lanes - 1,
    "all": lambda n, lanes: lanes,
}


def write_allowed(mask, results, n):
    for k, count in enumerate(ALLOWED.values()):
        allowed = memory.load_allowed(mask, 3, count(n, lanes_of(results)), results)
        memory.store(results, k * lanes_of(results), allowed)


@probe
def compiled_allowed(mask, results, n):
    write_allowed(mask, results, n)


@BOTH
def test_load_allowed(dtype, assert_same_bits):
    mask, lanes = np.random.default_rng(0).choice([0, 1, 255], 32).astype(np.uint8), lanes_in(dtype)
    for n in range(20):
        results = np.empty((len(ALLOWED), lanes), dtype)
        compiled_allowed.serial(mask, results.reshape(-1), n)
        want = [first(mask[3 : 3 + lanes] != 0, count(n, lanes), 0) for count in ALLOWED.values()]
        assert_same_bits(results, np.array(want, dtype), f"{n}")


# float64 lanes from integers and to them, and beside float32 ones -------------------------------------------------

# (lanes, how many of them count, if that is known when the kernel is compiled)
INTEGERS = [(lanes, known) for lanes in (1, 8, 16) for known in (None, 0, 5, lanes)]


def write_integers(integers, results, n):
    for k, (lanes, known) in enumerate(INTEGERS):
        memory.store(results, 16 * k, memory.load_integers(integers, 3, n if known is None else known, lanes))


@probe
def compiled_integers(integers, results, n):
    write_integers(integers, results, n)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 15, 16, 17])
def test_load_integers(n, assert_same_bits):
    integers = np.random.default_rng(n).integers(-(2**63), 2**63 - 1, 32)
    results, want = np.full((2, len(INTEGERS), 16), -1.0)
    for row, (lanes, known) in zip(want, INTEGERS, strict=True):
        put(row, 0, first(integers[3 : 3 + lanes].astype(np.float64), n if known is None else known, 0))
    compiled_integers.serial(integers, results.reshape(-1), n)
    assert_same_bits(results, want)


def write_to_integers(values, results, n):
    for k, (lanes, known) in enumerate(INTEGERS):
        memory.store_integers(results, 16 * k, n if known is None else known, memory.load(values, 3, lanes))


@probe
def compiled_to_integers(values, results, n):
    write_to_integers(values, results, n)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 8, 9, 15, 16, 17])
def test_store_integers(n):
    """What is not whole is cut off."""
    values = np.random.default_rng(n).standard_normal(32) * 10.0 ** np.arange(-14, 18)
    results, want = np.full((2, len(INTEGERS), 16), -1)
    for row, (lanes, known) in zip(want, INTEGERS, strict=True):
        put(row, 0, values[3 : 3 + lanes].astype(np.int64), n if known is None else known)
    compiled_to_integers.serial(values, results.reshape(-1), n)
    np.testing.assert_array_equal(results, want)


@probe
def compiled_sums(values, totals, at):
    memory.store(totals, at, memory.load(totals, at, lanes_of(values)) + promote(memory.load(values, at)))


@BOTH
def test_float64_sums_in_memory(dtype, assert_same_bits):
    rng = np.random.default_rng(0)
    values, totals = rng.standard_normal(64).astype(dtype), rng.standard_normal(64)
    here = slice(9, 9 + lanes_in(dtype))
    want = totals.copy()
    want[here] += values[here]
    compiled_sums.serial(values, totals, 9)
    assert_same_bits(totals, want)


REFUSED = {
    "+ of two dtypes": lambda a, b: memory.load(a, 0) + memory.load(b, 0),
    "+ of other lanes": lambda a, b: memory.load(b, 0) + memory.load(b, 0, 16),
    "+ of one lane": lambda a, b: memory.load(b, 0) + lone(1.0),
    "+ of float64 lanes": lambda a, b: memory.load(a, 0) + promote(memory.load(a, 0)),
    "fma": lambda a, b: vector.fma(memory.load(a, 0), memory.load(b, 0), memory.load(a, 0)),
    "fma of other lanes": lambda a, b: vector.fma(memory.load(b, 0), memory.load(b, 0), lone(1.0)),
    "greater": lambda a, b: vector.greater(memory.load(a, 0), memory.load(b, 0)),
    "where_equal": lambda a, b: vector.where_equal(lone(0.0), lone(1.0), memory.load(b, 0), lone(0.0)),
    "zero_below": lambda a, b: vector.zero_below(memory.load(a, 0), memory.load(b, 0), memory.load(b, 0)),
    "count_equal": lambda a, b: reduce.count_equal(memory.load(a, 0), memory.load(b, 0)),
    "two_sum": lambda a, b: accumulate.two_sum(memory.load(b, 0), memory.load(b, 0), lone(0.0)),
    "add_to_sum": lambda a, b: accumulate.add_to_sum(accumulate.empty_sum(b), lone(0.0)),
    "store": lambda a, b: memory.store(a, 0, memory.load(b, 0)),
    "store of float64 lanes": lambda a, b: memory.store(a, 0, promote(memory.load(a, 0))),
    "store_first": lambda a, b: memory.store_first(a, 0, 3, memory.load(b, 0)),
    "stream": lambda a, b: memory.stream(b, 0, memory.load(a, 0)),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_vectors_of_two_types_are_refused(refused):
    @probe
    def kernel(a, b):
        refused(a, b)

    with pytest.raises(TypeError, match=r"expected .*(type|vector|sums)"):
        kernel.serial(np.ones(16, np.float32), np.ones(16))
