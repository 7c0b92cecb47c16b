"""The elementary functions of vectors keep the errors that their docstrings state, and what these say of their ends.

Errors are in ulp of the exact result, by mpmath; subnormal results have the ulp of the smallest normal number.
"""

import inspect
import re
from fractions import Fraction

import numpy as np
import pytest

from fastsoftmax.kernels.compiling.jit import probe
from fastsoftmax.kernels.compiling.target import AVX512
from fastsoftmax.kernels.simd.convert import demote, promote
from fastsoftmax.kernels.simd.memory import load, store
from fastsoftmax.kernels.simd.vector import lanes_of, lone, splat
from fastsoftmax.kernels.vecmath import double_double, exp, exponents, log1p, powers, quotient, softcap

mpmath = pytest.importorskip("mpmath")
coefficients = pytest.importorskip("benchmarks.coefficients")
mp, mpf = mpmath.mp, mpmath.mpf

PRECISION = 240  # bits: enough for double-double numbers
# The least distance below the maximum at which exponentials may be zero, and that at which they are.
DEPTHS = {np.float32: (128.0, 128.0 if AVX512 else 133.0), np.float64: (745.0, 745.0 if AVX512 else 754.0)}


def stated(function, dtype=np.float64):
    """The greatest error, in ulp, that a docstring states for a dtype on this processor."""
    (statement,) = re.findall(r"Maximum error: (.*?)\. Valid range: ", " ".join(function.__doc__.split()))
    number = r"(\d[\d.]*(?:e-?\d+)?)"
    figures = {
        where: float(figure)
        for figure, where in re.findall(rf"{number}(?: ulp(?: of the softcap)?)?((?: in| without) \S+\b)", statement)
    }
    if not figures:
        return float(re.match(rf"{number} ulp", statement)[1])
    keys = [" without AVX-512"] * (not AVX512 and dtype == np.float32) + [f" in {np.dtype(dtype)}"]
    return next(figures[key] for key in keys if key in figures)


def units(exact, dtype):
    """The unit in the last place of each mpf."""
    info = np.finfo(dtype)
    least = info.minexp - info.nmant
    return np.array([mpmath.ldexp(1, max(mpmath.mag(x) - 1 - info.nmant, least) if x else least) for x in exact])


def errors(got, exact, dtype, of=None):
    """How far numbers, or sums of several arrays, are from a list of mpf, in ulp of a dtype: theirs, or of others."""
    with mp.workprec(PRECISION):
        parts = [map(mpf, part.tolist()) for part in (got if isinstance(got, tuple) else (got,))]
        off = [abs(sum(values) - x) for x, *values in zip(exact, *parts, strict=True)]
        return np.array([float(x / unit) for x, unit in zip(off, units(of or exact, dtype), strict=True)])


def exactly(function, *arguments):
    """Call a function of mpf with each of some floats."""
    with mp.workprec(PRECISION):
        return [function(*map(mpf, values)) for values in zip(*(a.tolist() for a in arguments), strict=True)]


def whole_vectors(*arrays):
    """Broadcast arrays, and repeat the last entry up to whole vectors."""
    arrays = [array.ravel() for array in np.broadcast_arrays(*arrays)]
    return [np.pad(array, (0, -len(array) % 16), mode="edge") for array in arrays]


def both_signs(x):
    return np.concatenate([-x[::-1], x])


# Exponentials ------------------------------------------------------------------------------------------------------


@probe
def compiled_exps(z, tops, results):
    for i in range(0, z.size, lanes_of(z)):
        scale, top = exp.scale_of(load(tops, i)), load(tops, i)
        store(results, i, exp.exp_scaled(load(z, i), scale))
        store(results, i + z.size, exp.exp_near(load(z, i), scale))
        store(results, i + 2 * z.size, scale.shift)
        store(results, i + 3 * z.size, exp.exponent_of(top - scale.shift))


def exps(z, top, dtype):
    """(z, tops, and of them exp_scaled, exp_near, the shift, the power of two)."""
    z, tops = whole_vectors(np.asarray(z, dtype), np.asarray(top, dtype))
    results = np.empty((4, len(z)), dtype)
    compiled_exps.serial(z, tops, results)
    return z, tops, *results


def exp_errors(got, z, shift, power, dtype):
    """e^(z − shift) · 2^(HEADROOM − power) is what they must be."""
    exact = exactly(lambda z, shift, k: mpmath.ldexp(mpmath.exp(z - shift), exp.HEADROOM - int(k)), z, shift, power)
    return errors(got, exact, dtype)


def distances(dtype, depth, above, n=3000):
    """From `depth` below a maximum to `above` above it: ends, dense, and as close to zero as floats are."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    close = np.geomspace(float(info.tiny), 1, n // 4).astype(dtype)
    ends = [-depth, np.nextafter(dtype(-depth), dtype(0)), -0.0, 0.0, info.smallest_subnormal, above]
    ends += [-info.smallest_subnormal, -info.tiny]
    return np.concatenate([rng.uniform(-depth, 0, n), rng.uniform(0, above, n // 4), both_signs(close), ends])


TOPS = [0.0, -0.0, 1e-40, 0.3465, -0.3466, 1.0, -17.3, 88.7, -745.1, 2047.9, 2048.0, -2048.0]
FAR_TOPS = [2048.25, -3001.7, 1e5, -7e6]  # taken off first
ABOVE = {np.float32: 43.0, np.float64: 664.0}


@pytest.mark.parametrize("top", TOPS + FAR_TOPS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_scaled(top, dtype):
    top = float(dtype(top))
    z = (top + distances(dtype, DEPTHS[dtype][0], ABOVE[dtype], 3000 if top == 0 else 800)).astype(dtype)
    z = z[(z >= dtype(top) - dtype(DEPTHS[dtype][0])) & (z.astype(np.float64) <= top + ABOVE[dtype])]
    z, _, got, _, shift, power = exps(z, top, dtype)
    assert (shift == (top if abs(top) > 2048 else 0)).all()
    assert (abs(power - (top - shift[0]) / np.log(2)) <= 0.5 + 1e-4).all()
    off = exp_errors(got, z, shift, power, dtype)
    assert off.max() <= stated(exp.exp_scaled, dtype), z[off.argmax()]


@pytest.mark.parametrize("top", TOPS, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_near(top, dtype):
    top = float(dtype(top))
    z = (top + distances(dtype, 40.0, ABOVE[dtype], 3000 if top == 0 else 800)).astype(dtype)
    z = z[(z >= dtype(top) - dtype(40)) & (z.astype(np.float64) <= top + ABOVE[dtype])]
    z, _, far, got, shift, power = exps(z, top, dtype)
    np.testing.assert_array_equal(got, far)
    off = exp_errors(got, z, shift, power, dtype)
    assert off.max() <= stated(exp.exp_near, dtype), z[off.argmax()]


@pytest.mark.parametrize("top", [*TOPS, *FAR_TOPS, np.inf, -np.inf, np.nan], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends_of_exp_scaled(top, dtype):
    """Zero far below, where that is; NaN for NaN, and for all where the maximum is no finite number."""
    least, most = DEPTHS[dtype]
    top = float(dtype(top))
    below = top - np.linspace(least, most, 50)[1:-1]
    z = np.array([np.nan, -np.inf, np.finfo(dtype).min, top - most - 0.1 - abs(top) / 2**20, *below, top]).astype(dtype)
    with np.errstate(invalid="ignore"):
        z, _, got, _, shift, power = exps(z, top, dtype)
    if not np.isfinite(top):
        assert np.isnan(got).all()
        return
    assert np.isnan(got[0])
    assert not got[1:4].any()
    assert got[-1] > 0
    between, kept = got[4:-1], got[4:-1] != 0
    off = exp_errors(got[4:-1][kept], z[4:-1][kept], shift[kept.nonzero()], power[kept.nonzero()], dtype)
    assert (off <= stated(exp.exp_scaled, dtype)).all()
    assert kept[between.argmin() :].all() or not AVX512


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_of_zero(dtype):
    """Exactly a power of two, whatever the sign of the zero."""
    _, _, far, near, _, _ = exps([0.0, -0.0], [[0.0], [-0.0]], dtype)
    assert (far == 2.0**exp.HEADROOM).all()
    assert (near == 2.0**exp.HEADROOM).all()


@probe
def compiled_exps_with_rests(z, rests, tops, top_rests, results):
    for i in range(0, z.size, lanes_of(z)):
        scale = exp.scale_of(load(tops, i), load(top_rests, i))
        store(results, i, exp.exp_scaled(load(z, i), scale, load(rests, i)))
        store(results, i + z.size, exp.exp_near(load(z, i), scale, load(rests, i)))


def exps_with_rests(z, rests, top, top_rest, dtype):
    """(exp_scaled, exp_near) of z + rests."""
    arrays = whole_vectors(*(np.asarray(array, dtype) for array in (z, rests, top, top_rest)))
    results = np.empty((2, len(arrays[0])), dtype)
    compiled_exps_with_rests.serial(*arrays, results)
    return results


def in_two_parts(z, factor=0.7):
    """z times a factor, and what that has rounded off."""
    factor = z.dtype.type(factor)
    product = z * factor
    exact = exactly(lambda z, rounded: z * mpf(float(factor)) - rounded, z, product)
    return product, np.array([float(rest) for rest in exact]).astype(z.dtype)


# Where numbers are so far apart that what they round off counts as much as a logit.
SPARSE_TOPS = {
    np.float32: [1e8, 3e8, 7e8, 1e9, 2e9, 3e9, 1e10, 1e12, 1e30],
    np.float64: [1e15, 1e16, 1e17, 2.4e17, 2.7e17, 5e17, 1e18, 2e18, 3e18, 1e19, 1e30],
}


def products_below(top, dtype):
    """Products down to four numbers below all that counts, with what they round off, the first of which is `top`."""
    depth, above = DEPTHS[dtype][1], ABOVE[dtype]
    step = float(np.spacing(dtype(abs(top))))
    steps = np.arange(-4, 5)[:, None] * step + np.array([-depth, -DEPTHS[dtype][0], 0])
    z = np.concatenate([[0.0], distances(dtype, depth + 4 * step, above, 800), steps.ravel()])
    return in_two_parts(((top + z) / 0.7).astype(dtype))


@pytest.mark.parametrize(
    ("dtype", "top"),
    [(dtype, top) for dtype in SPARSE_TOPS for top in (*TOPS, *FAR_TOPS, *SPARSE_TOPS[dtype])],
    ids=lambda value: str(value) if isinstance(value, float) else value.__name__,
)
def test_exp_of_what_is_rounded_off(dtype, top):
    """Zero or right where the result does not count."""
    z, rests = products_below(top, dtype)
    top, top_rest = z[0], rests[0]
    distance = z.astype(np.float64) - float(top)
    low, high = np.sort([distance, distance + (rests - top_rest)], axis=0)
    z, rests, low = whole_vectors(*(array[high <= ABOVE[dtype]] for array in (z, rests, low)))
    z, _, _, _, shift, power = exps(z, top, dtype)
    far, near = exps_with_rests(z, rests, top, top_rest, dtype)
    exact = exactly(
        lambda z, rest, shift, k: mpmath.ldexp(
            mpmath.exp(z + rest - (shift + mpf(float(top_rest)) if shift else 0)), exp.HEADROOM - int(k)
        ),
        *(z, rests, shift, power),
    )
    off = errors(far, exact, dtype)
    off[(low < -DEPTHS[dtype][0]) & (far == 0)] = 0
    assert off.max() <= stated(exp.exp_scaled, dtype), (z[off.argmax()], rests[off.argmax()], far[off.argmax()])
    is_near = low >= -40
    if abs(top) <= 2048:
        np.testing.assert_array_equal(near[is_near], far[is_near])


@pytest.mark.parametrize("top", [*TOPS, *FAR_TOPS, np.inf, -np.inf, np.nan], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends_of_exp_scaled_with_rests(top, dtype):
    """Zero far below, whatever the rest; NaN for NaN."""
    lowest = np.finfo(dtype).min
    z = [-np.inf, -np.inf, -np.inf, lowest, lowest, np.nan, np.nan]
    rests = [np.nan, 0.0, np.inf, 1e25, -1e25, 0.0, np.nan]
    with np.errstate(invalid="ignore"):
        got, _ = exps_with_rests(z, rests, top, 0.0 if np.isfinite(top) else np.nan, dtype)
    if np.isfinite(top):
        assert not got[:5].any()
    else:
        assert np.isnan(got[:5]).all()
    assert np.isnan(got[5:]).all()


@probe
def compiled_exps_of_products(z, tops, factors, results):
    for i in range(0, z.size, lanes_of(z)):
        top, factor = load(tops, i), load(factors, i)
        scale = exp.scale_of(top, factor=factor)
        store(results, i, exp.exp_scaled(load(z, i), scale))
        store(results, i + z.size, exp.exp_near(load(z, i), scale))
        store(results, i + 2 * z.size, scale.shift)
        store(results, i + 3 * z.size, exp.exponent_of(exp.scaled(top - scale.shift, factor)[0]))


@pytest.mark.parametrize("factor", [1e-3, 0.7, 3.1, 50.0])
@pytest.mark.parametrize("top", [*TOPS, *FAR_TOPS, 1e9, 1e30], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_exp_of_products(dtype, top, factor):
    """The product is not rounded before; far below the greatest it is zero."""
    top, factor = dtype(top), dtype(factor)
    below = np.concatenate([[0.0], distances(dtype, 2 * DEPTHS[dtype][1], 0.0, 800)])
    z = np.minimum((top + below / float(factor)).astype(dtype), top)
    z, tops, factors = whole_vectors(z, top, factor)
    results = np.empty((4, len(z)), dtype)
    compiled_exps_of_products.serial(z, tops, factors, results)
    far, near, shift, power = results
    exact = exactly(
        lambda z, shift, k: mpmath.ldexp(mpmath.exp(mpf(float(factor)) * (z - shift)), exp.HEADROOM - int(k)),
        *(z, shift, power),
    )
    off = errors(far, exact, dtype)
    q = float(factor) * (z.astype(np.float64) - float(top))
    off[(q < -DEPTHS[dtype][0]) & (far == 0)] = 0
    assert off.max() <= stated(exp.exp_scaled, dtype), (z[off.argmax()], far[off.argmax()])
    if abs(float(top) * float(factor)) <= 2048:
        np.testing.assert_array_equal(near[q >= -40], far[q >= -40])


# Quotients and products --------------------------------------------------------------------------------------------


@probe
def compiled_products(x, weights, totals, results):
    for i in range(0, x.size, lanes_of(x)):
        like = load(x, i)
        parts = quotient.quotient_of(like, load(weights, i, lanes_of(x)), load(totals, i, lanes_of(x)))
        store(results, i, quotient.multiply(like, parts))
        store(results, i + x.size, quotient.multiply_near(like, parts))
        store(results, i + 2 * x.size, parts.high)
        store(results, i + 3 * x.size, parts.low)


def products(x, weights, totals, dtype):
    """(x, weights, totals, and of them multiply, multiply_near, and the quotient's two parts)."""
    x, weights, totals = whole_vectors(np.asarray(x, dtype), np.asarray(weights, float), np.asarray(totals, float))
    results = np.empty((4, len(x)), dtype)
    compiled_products.serial(x, weights, totals, results)
    return x, weights, totals, *results


def factors(dtype, least, x_range, n=6000):
    """x, weights and totals by their logarithms' distribution, and of both signs; and quotients that are exact."""
    rng = np.random.default_rng(1)
    x = 2.0 ** rng.uniform(*x_range, n)
    totals = 2.0 ** rng.uniform(-8, 100, n)
    largest = np.finfo(dtype).maxexp - 1 - np.log2(x).clip(0)
    weights = totals * 2.0 ** rng.uniform(
        np.maximum(np.log2(least), -1000 - np.log2(totals)), np.minimum(largest, 900 - np.log2(totals))
    )
    weights = weights * rng.choice([-1, 1], n)
    totals[: n // 8] = abs(weights[: n // 8])
    return x.astype(dtype) * rng.choice([-1, 1], n).astype(dtype), weights, totals


def exact_products(x, weights, totals):
    return exactly(lambda x, weight, total: x * weight / total, x, weights, totals)


SMALLEST = {np.float32: (2.0**-120, 2.0**-98), np.float64: (2.0**-1016, 2.0**-965)}  # quotients, and products


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quotient_of(dtype):
    _, weights, totals, _, _, high, low = products(*factors(dtype, SMALLEST[dtype][0], (0, 1)), dtype)
    exact = exactly(lambda weight, total: weight / total, weights, totals)
    assert errors((high, low), exact, dtype).max() <= stated(quotient.quotient_of)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiply(dtype):
    """Also what is said of products that are too small, and of those close to it."""
    least, small = SMALLEST[dtype]
    x_range = (-124, 64.6) if dtype == np.float32 else (-1020, 64.6)
    x, weights, totals, got, *_ = products(*factors(dtype, least, x_range), dtype)
    exact = exact_products(x, weights, totals)
    size = np.array([float(abs(value)) for value in exact])
    off, limit = errors(got, exact, dtype), np.finfo(dtype).tiny
    finite = size < np.finfo(dtype).max
    plain = (size >= small) & finite
    assert off[plain].max() <= stated(quotient.multiply)
    assert off[(size >= limit * (1 + 2.0**-22)) & finite].max() <= 1.5
    too_small = size <= limit * (1 - 2.0**-22)
    assert not got[too_small].any()
    assert plain.sum() > 1000
    assert too_small.sum() > 200


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiply_at_the_smallest_normal_number(dtype):
    """Zero or right: which of them, two roundings decide."""
    least, limit = SMALLEST[dtype][0], float(np.finfo(dtype).tiny)
    rng = np.random.default_rng(2)
    quotients = 2.0 ** rng.uniform(np.log2(least), 0, 800)
    x = (limit / quotients * (1 + rng.integers(-4, 5, 800) * float(np.finfo(dtype).eps))).astype(dtype)
    x, weights, totals, got, *_ = products(x, quotients, 1.0, dtype)
    off = errors(got, exact_products(x, weights, totals), dtype)
    assert off[got != 0].max() <= 1.5
    assert (abs(got[got != 0]) >= limit * (1 - 2 * float(np.finfo(dtype).eps))).all()
    assert (got == 0).any()
    assert (got != 0).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_multiply_near(dtype):
    """From the least exponential that is near its maximum on; and the same bits as `multiply`."""
    x, weights, totals, far, got, *_ = products(*factors(dtype, quotient.LEAST_NEAR_QUOTIENT, (6.3, 64.6)), dtype)
    exact = exact_products(x, weights, totals)
    assert errors(got, exact, dtype).max() <= stated(quotient.multiply_near)
    np.testing.assert_array_equal(got, far)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_quotients_that_are_exact(dtype):
    """x · total / total is x, and x / x exactly 1."""
    rng = np.random.default_rng(3)
    x = rng.uniform(1, 2, 3200).astype(dtype)
    _, _, _, got, near, *_ = products(x, 1.0, x, dtype)
    assert (got == 1).all()
    assert (near == 1).all()
    _, _, _, got, near, *_ = products(x, -np.float64(x[::-1]), x[::-1], dtype)
    assert (got == -x).all()
    assert (near == -x).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "case",
    [
        (1.0, 0.0, 3.0, 0.0),
        (-2.0, 0.0, 3.0, 0.0),
        (0.0, 1.0, 3.0, 0.0),
        (-0.0, 1.0, 3.0, 0.0),
        (0.0, np.inf, 3.0, np.nan),
        (1.0, np.inf, 3.0, np.inf),
        (1.0, -np.inf, 3.0, -np.inf),
        (1.0, 1.0, 0.0, np.inf),
        (1.0, 0.0, 0.0, np.nan),
        (np.nan, 1.0, 3.0, np.nan),
        (1.0, np.nan, 3.0, np.nan),
        (1.0, 1.0, np.nan, np.nan),
        (np.nan, 0.0, 3.0, np.nan),
    ],
    ids=str,
)
def test_ends_of_multiply(case, dtype):
    x, weight, total, product = case
    with np.errstate(all="ignore"):
        got = products(x, weight, total, dtype)[3]
    np.testing.assert_array_equal(got, dtype(product))


# Logarithms --------------------------------------------------------------------------------------------------------


@probe
def compiled_logs(like, x, rests, results):
    for i in range(0, x.size, 8):
        store(results, i, log1p.log1p(load(x, i)))
        store(results, i + x.size, log1p.log1p_quotient(load(like, 0), load(x, i), load(rests, i)))
        store(results, i + 2 * x.size, double_double.log1p_double_double(load(x, i), load(rests, i)))


def logs(x, rests, dtype=np.float64):
    """(x, rests, and of them log1p, log1p_quotient and log1p_double_double)."""
    x, rests = whole_vectors(np.asarray(x, float), np.asarray(rests, float))
    results = np.empty((3, len(x)))
    compiled_logs.serial(np.zeros(16, dtype), x, rests, results)
    return x, rests, *results


def log_inputs(largest, n=4000):
    """From −1 on: at both ends, around 0, and where 1 + x is near a power of two or half a step from one."""
    rng = np.random.default_rng(4)
    near_minus_one = np.arange(1, 200) * 2.0**-53 - 1
    powers_of_two = np.exp2(np.arange(-40, 60)) * np.sqrt([[1], [2]]) * (1 + 2.0**-52 * np.arange(-2, 3)[:, None, None])
    return np.concatenate(
        [
            np.geomspace(1e-320, 1, n),
            -np.geomspace(1e-320, 1, n)[:-1],
            np.exp2(rng.uniform(0, np.log2(largest), n)),
            np.exp2(rng.uniform(-53, -1, n)) - 1,
            rng.uniform(-0.5, 1.5, n),
            powers_of_two.ravel() - 1,
            near_minus_one,
            [largest, 0.0, 5e-324, -5e-324, 2.0**-1022],
        ]
    )


LARGEST = 1.27e308


def test_log1p():
    x, _, got, _, _ = logs(log_inputs(LARGEST), 1.0)
    off = errors(got, exactly(mpmath.log1p, x), np.float64)
    assert off.max() <= stated(log1p.log1p), x[off.argmax()]
    assert not logs([0.0, -0.0], 1.0)[2].any()
    with np.errstate(invalid="ignore"):
        assert np.isnan(logs(np.nan, 1.0)[2]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_log1p_quotient(dtype):
    rng = np.random.default_rng(5)
    units = np.exp2(rng.choice([-1022, -500, 0, 64, 500, 1018], 6000) + rng.uniform(0, 1, 6000))
    quotients = np.concatenate([rng.uniform(-1080, 1022, 2000), rng.uniform(-60, 3, 4000)])
    parts = np.exp2(np.minimum(np.log2(units) + quotients, 1021.5))
    parts[-600:] = units[-600:] * (np.arange(600) / 100)
    parts, units, _, got, _ = logs(parts, units, dtype)
    off = errors(got, exactly(lambda part, unit: mpmath.log1p(part / unit), parts, units), dtype)
    assert off.max() <= stated(log1p.log1p_quotient, dtype), (parts[off.argmax()], units[off.argmax()])
    assert not logs(0.0, units, dtype)[3].any()
    assert np.isnan(logs([[np.nan], [1.0], [np.nan]], [[1.0], [np.nan], [np.nan]], dtype)[3][:3]).all()


def test_log1p_double_double():
    x = log_inputs(LARGEST)
    x = x[(x >= -0.9) & (abs(x) > 1e-290)]
    rests = x * np.random.default_rng(6).uniform(-1, 1, len(x)) * 2.0**-53
    x, rests, _, _, got = logs(x, rests)
    off = errors(got, exactly(lambda x, rest: mpmath.log1p(x + rest), x, rests), np.float64)
    assert off.max() <= stated(double_double.log1p_double_double), x[off.argmax()]
    assert not logs([0.0, -0.0], 0.0)[4].any()
    assert np.isnan(logs([np.nan, 1.0], [0.0, np.nan])[4]).all()


# Double-double exponentials ------------------------------------------------------------------------------------------


@probe
def compiled_exp_double_double(z, rests, results):
    for i in range(0, z.size, 8):
        parts = (
            *double_double.exp_double_double(load(z, i)),
            *double_double.exp_double_double(load(z, i), load(rests, i)),
        )
        for k in range(4):
            store(results, i + k * z.size, parts[k])


def exps_double_double(z, rests=None):
    """(z, and the two parts of e^z, or of e^(z + rests))."""
    z, rests_or_0 = whole_vectors(np.asarray(z, float), np.asarray(0.0 if rests is None else rests))
    results = np.empty((4, len(z)))
    compiled_exp_double_double.serial(z, rests_or_0, results)
    return z, *(results[:2] if rests is None else results[2:])


def double_double_errors(z, rests, high, low):
    """How far double-double exponentials are from e^(z + rests): in ulp, and over |z|."""
    with mp.workprec(1200):  # as many as 1 + z has
        exact = [mpmath.exp(mpf(value) + mpf(rest)) for value, rest in zip(z.tolist(), rests.tolist(), strict=True)]
        off = [abs(mpf(a) + mpf(b) - x) for a, b, x in zip(high.tolist(), low.tolist(), exact, strict=True)]
        in_ulp = np.array([float(error / unit) for error, unit in zip(off, units(exact, np.float64), strict=True)])
        in_z = np.array(
            [float(error / abs(mpf(value))) if value else 0.0 for error, value in zip(off, z.tolist(), strict=True)]
        )
    return in_ulp, in_z


def double_double_inputs():
    rng = np.random.default_rng(7)
    close = np.geomspace(5e-324, 1, 3000)
    z = [rng.uniform(-670, 709, 9000), rng.uniform(-1, 1, 2000), both_signs(close), [-670.0, 709.0, 0.0, -0.0]]
    return np.concatenate(z)


def test_exp_double_double():
    z, high, low = exps_double_double(double_double_inputs())
    in_ulp, in_z = double_double_errors(z, np.zeros_like(z), high, low)
    assert in_ulp.max() <= stated(double_double.exp_double_double), z[in_ulp.argmax()]
    assert in_z[abs(z) < 2.0**-50].max() <= 2.0**-53
    assert not low[z == 0].any()


def test_exp_double_double_of_what_is_rounded_off():
    z, rests = in_two_parts(np.concatenate([double_double_inputs() / 0.7, [0.0]]))
    inside = (z >= -670) & (z <= 709)
    z, rests = whole_vectors(z[inside], rests[inside])
    z, high, low = exps_double_double(z, rests)
    in_ulp, in_z = double_double_errors(z, rests, high, low)
    small = abs(z) <= 1
    (with_a_rest,) = re.findall(r"([\d.e-]+) with a rest", double_double.exp_double_double.__doc__)
    assert in_ulp.max() <= float(with_a_rest), z[in_ulp.argmax()]
    assert in_ulp[small].max() <= stated(double_double.exp_double_double), z[small][in_ulp[small].argmax()]
    assert in_z[abs(z) < 2.0**-50].max() <= 2.0**-53


def test_ends_of_exp_double_double():
    z, high, low = exps_double_double(np.random.default_rng(8).uniform(-708, -670, 2000))
    assert errors((high, low), exactly(mpmath.exp, z), np.float64).max() <= 0.5
    with np.errstate(invalid="ignore"):
        for rests in (None, [0.0, 1e-12, -1e280, np.nan]):
            _, high, low = exps_double_double([np.nextafter(-708.0, -np.inf), -1e5, -1e300, -np.inf], rests)
            assert not high.any()
            assert not low.any()
        assert np.isnan(exps_double_double(np.nan)[1]).all()
        assert np.isnan(exps_double_double(np.nan, 0.0)[1]).all()


# Softcaps ----------------------------------------------------------------------------------------------------------


@probe
def compiled_softcaps(z, scales, caps, results):
    for i in range(0, z.size, lanes_of(z)):
        capped = softcap.softcapped(load(z, i), scales[i], caps[i])
        store(results, i, capped.q)
        store(results, i + z.size, capped.rest)
        store(results, i + 2 * z.size, softcap.softcap_slope(capped))


def softcaps(z, scales, caps):
    """The two parts of the softcap, and the slope; a vector has one scale and one softcap."""
    results = np.empty((3, len(z)), z.dtype)
    with np.errstate(all="ignore"):
        compiled_softcaps.serial(z, np.asarray(scales, float), np.asarray(caps, float), results)
    return results


def softcap_inputs(dtype, pairs):
    """z, scales and softcaps: u = scale · z / softcap of all magnitudes, about 1, about 10, up to 400; and all z."""
    rng, info, found = np.random.default_rng(12), np.finfo(dtype), []
    for scale, cap in pairs:
        scale, cap = float(dtype(scale)), float(dtype(cap))
        u = [2.0 ** rng.uniform(-140, 3, 24), rng.uniform(0, 4, 96), rng.uniform(8, 12, 32), rng.uniform(12, 400, 48)]
        every = 2.0 ** rng.uniform(info.minexp - info.nmant, info.maxexp, 17)
        ends = [info.smallest_subnormal, info.tiny, info.max, 1.0, np.nextafter(dtype(0.1), dtype(1)), 0.0, -0.0]
        with np.errstate(over="ignore", under="ignore"):
            z = np.concatenate([np.concatenate(u) * (cap / scale), every, ends]).astype(dtype)
        z = np.where(np.isfinite(z), z, dtype(1)) * rng.choice([-1, 1], len(z)).astype(dtype)
        found.append((z, np.full(len(z), scale), np.full(len(z), cap)))
    return tuple(map(np.concatenate, zip(*found, strict=True)))


# (scale, softcap): those of models, and others
PAIRS = [(scale, cap) for scale in (1e-3, 0.1, 0.7, 1.0, 31.0, 1e3) for cap in (0.1, 0.99, 1.0, 30.0, 50.0, 1e4)]
FAR_PAIRS = {
    np.float32: [(1e-45, 1e30), (3e38, 1e-30), (1e-30, 1e-30), (1e-30, 3e38), (3e38, 3e38), (0.7, 2e16)],
    np.float64: [(1e-290, 1e-290), (1.0, 1e-290), (1e18, 1.7e308), (1.7e308, 1.7e308), (1.7e308, 1.0), (0.7, 2e16)],
}


def true_softcap(z, scale, cap):
    return cap * mpmath.tanh(scale * z / cap)


def true_slope(z, scale, cap):
    return mpmath.sech(scale * z / cap) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softcapped(dtype):
    z, scales, caps = softcap_inputs(dtype, PAIRS + FAR_PAIRS[dtype])
    q, rest, _ = softcaps(z, scales, caps)
    off = errors((q, rest), exactly(true_softcap, z, scales, caps), dtype, exactly(lambda cap: cap, caps))
    worst = off.argmax()
    assert off.max() <= stated(softcap.softcapped, dtype), (z[worst], scales[worst], caps[worst])
    assert (abs(rest) <= np.spacing(abs(q)) / 2).all()
    assert (abs(q) <= caps).all()
    negative, negative_rest, _ = softcaps(-z, scales, caps)
    np.testing.assert_array_equal(negative, -q)
    np.testing.assert_array_equal(negative_rest, -rest)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softcap_slope(dtype):
    z, scales, caps = softcap_inputs(dtype, PAIRS + FAR_PAIRS[dtype])
    _, _, got = softcaps(z, scales, caps)
    exact = exactly(true_slope, z, scales, caps)
    off, counts = errors(got, exact, dtype), np.array([x >= 1.4e-307 for x in exact])
    worst = np.where(counts, off, 0).argmax()
    assert off[counts].max() <= stated(softcap.softcap_slope, dtype), (z[worst], scales[worst], caps[worst])
    assert (abs(got[~counts]) <= 1.4e-307).all()
    assert counts.sum() > len(z) / 2
    assert (~counts).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ends_of_softcaps(dtype):
    info = np.finfo(dtype)
    z = np.array([0.0, -0.0, np.inf, -np.inf, info.max, info.min, np.nan, info.tiny], dtype).repeat(2)
    (z,) = whole_vectors(z)
    for scale, cap in PAIRS:
        cap = float(dtype(cap))
        q, rest, slope = (part[:14:2] for part in softcaps(z, np.full(len(z), scale), np.full(len(z), cap)))
        np.testing.assert_array_equal(q, np.array([0, 0, np.inf, -np.inf, cap, -cap, np.nan], dtype))
        np.testing.assert_array_equal(rest[:6], 0)
        np.testing.assert_array_equal(slope, np.array([1, 1, 0, 0, 0, 0, np.nan], dtype))


# Exponents ---------------------------------------------------------------------------------------------------------


@probe
def compiled_exponents(values, units, results):
    for i in range(0, values.size, 8):
        parts = (*exponents.split_exponent(load(values, i)), *exponents.halvings(load(values, i), load(units, i)))
        for k in range(5):
            store(results, i + k * values.size, parts[k])


def test_exponents():
    rng = np.random.default_rng(9)
    values = 2.0 ** rng.integers(-1020, 1020, 4000) * rng.uniform(1, 2, 4000)
    edges = np.sqrt(0.5) * (1 + 2.0**-53 * np.arange(-3, 4))
    values = np.concatenate([values, edges, 2 * edges, [2.0**-1022, 1.0]])
    units = values * 2.0 ** -rng.uniform(0, 1022, len(values))
    units = np.where(rng.random(len(values)) < 0.5, values / rng.uniform(1, 3, len(values)), units)
    values, units = whole_vectors(values, np.minimum(np.maximum(units, 2.0**-1022), values))
    results = np.empty((5, len(values)))
    compiled_exponents.serial(values, units, results)
    k, f, inverse, halved, halved_inverse = results
    np.testing.assert_array_equal(np.ldexp(f, k.astype(int)), values)
    np.testing.assert_array_equal(inverse, np.ldexp(1.0, -k.astype(int)))
    assert np.sqrt(0.5) <= f.min()
    assert f.max() < np.sqrt(2)  # rounded up, as twice √½ is
    np.testing.assert_array_equal(halved_inverse, np.ldexp(1.0, -halved.astype(int)))
    factors = values * halved_inverse / units
    assert factors.min() >= 1 / 1.51
    assert factors.max() <= 1.51
    s = (factors - 1) / (factors + 1)
    with mp.workdps(20):
        assert (s * s).max() <= coefficients.POLYNOMIALS["log1p_quotient"].interval()[1]


# Vectors of other lane counts --------------------------------------------------------------------------------------


def product(multiply, like, x, y):
    return [promote(multiply(demote(x, like), quotient.quotient_of(like, x, y)))]


def small(x):
    return x * splat(x, 2.0**-55)


# Of float64 lanes what is computed of as many as there are: one of a row, eight or sixteen of a bundle of rows. Beside
# each how many vectors it gives.
OF_ANY_LANES = {
    "log1p": (1, lambda like, x, y: [log1p.log1p(x)]),
    "log1p_quotient": (1, lambda like, x, y: [log1p.log1p_quotient(like, x, y)]),
    "log1p_double_double": (1, lambda like, x, y: [double_double.log1p_double_double(x, y)]),
    "exp_double_double": (2, lambda like, x, y: double_double.exp_double_double(x)),
    "exp_double_double with a rest": (2, lambda like, x, y: double_double.exp_double_double(x, small(x))),
    "scale_of": (4, lambda like, x, y: exp.scale_of(y, small(y))[:4]),
    "scale_of with a factor": (3, lambda like, x, y: exp.scale_of(y, factor=splat(y, 0.7))[:3]),
    "scaled": (2, lambda like, x, y: exp.scaled(x, y)),
    "exp_scaled with a factor": (1, lambda like, x, y: [exp.exp_scaled(x, exp.scale_of(y, factor=splat(y, 0.7)))]),
    "exp_scaled": (1, lambda like, x, y: [exp.exp_scaled(x, exp.scale_of(y))]),
    "exp_scaled with a rest": (1, lambda like, x, y: [exp.exp_scaled(x, exp.scale_of(y, small(y)), small(x))]),
    "exp_near": (1, lambda like, x, y: [exp.exp_near(x, exp.scale_of(y))]),
    "exp_near with a rest": (1, lambda like, x, y: [exp.exp_near(x, exp.scale_of(y, small(y)), small(x))]),
    "softcapped": (3, lambda like, x, y: softcap.softcapped(x, 0.7, 30.0)),
    "softcap_slope": (1, lambda like, x, y: [softcap.softcap_slope(softcap.softcapped(x, 0.7, 30.0))]),
    "split_exponent": (3, lambda like, x, y: exponents.split_exponent(x)),
    "halvings": (2, lambda like, x, y: exponents.halvings(x + y, y)),
    "quotient_of": (4, lambda like, x, y: [promote(part) for part in quotient.quotient_of(like, x, y)]),
    "multiply": (1, lambda like, x, y: product(quotient.multiply, like, x, y)),
    "multiply_near": (1, lambda like, x, y: product(quotient.multiply_near, like, x, y)),
}
NAMES = [name for name, (count, _) in OF_ANY_LANES.items() for _ in range(count)]


def write_functions(results, i, size, *vectors):
    found = [vector for _, function in OF_ANY_LANES.values() for vector in function(*vectors)]
    for k, vector in enumerate(found):
        store(results, i + size * k, vector)


@probe
def compiled_lanes(like, x, y, results):
    size, whole = x.size, load(like, 0)
    for i in range(0, size, 8):
        write_functions(results[0], i, size, whole, load(x, i), load(y, i))
    for i in range(0, size, 16):
        write_functions(results[1], i, size, whole, load(x, i, 16), load(y, i, 16))
    for i in range(size):
        write_functions(results[2], i, size, whole, lone(x[i]), lone(y[i]))


@probe
def compiled_row_quotients(like, x, y, results):
    for i in range(x.size):
        parts = quotient.row_quotient(load(like, 0), x[i], y[i])
        for k in range(4):
            store(results, (i * 4 + k) * lanes_of(like), parts[k])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lanes(dtype, assert_same_bits):
    """A row alone has the bits that it has in a bundle of any width."""
    rng = np.random.default_rng(10)
    x, y = 2.0 ** rng.uniform(-30, 9, (2, 480))
    like, results = np.zeros(16, dtype), np.empty((3, len(NAMES), 480))
    compiled_lanes.serial(like, x, y, results.reshape(3, -1))
    whole, wide, alone = results
    for name, *vectors in zip(NAMES, whole, wide, alone, strict=True):
        assert_same_bits(vectors[1], vectors[0], f"{name}, 16 lanes")
        assert_same_bits(vectors[2], vectors[0], f"{name}, one lane")
    parts = np.empty((480, 4, 64 // like.itemsize), dtype)
    compiled_row_quotients.serial(like, x, y, parts.reshape(-1))
    of_lanes = whole[[name == "quotient_of" for name in NAMES]].T[..., None]
    assert_same_bits(parts, np.broadcast_to(of_lanes, parts.shape).astype(dtype))


# Coefficients and constants ----------------------------------------------------------------------------------------


def given(function, dtype=np.float64):
    """What `constant` or `polynomial` made a function of."""
    return inspect.getclosurevars(function).nonlocals[np.dtype(dtype).name]


# What the source gives, and the relative error that it claims beside it.
POLYNOMIALS = {
    "exp float32, 16 steps": (exp._TAILS[16], "4.65e-09"),
    "exp float32, 1 step": (exp._TAILS[1], "1.03e-08"),
    "exp float64": (given(exp._exp_tail), "1.72e-17"),
    "log1p": (given(log1p._log_tail), "4.6e-18"),
    "log1p_quotient": (given(log1p._short_log_tail), "8.26e-11"),
}


@pytest.mark.parametrize("name", coefficients.POLYNOMIALS)
def test_coefficients(name):
    """Computed anew they are the same in every digit."""
    in_source, error = POLYNOMIALS[name]
    polynomial = coefficients.POLYNOMIALS[name]
    assert polynomial.coefficients() == in_source
    assert f"{polynomial.error(in_source, points=101):.3g}" == error


def test_polynomial_of_float32_is_the_one_for_its_steps():
    assert given(exp._exp_tail, np.float32) == exp._TAILS[powers.STEPS]


def rounded(x, dtype):
    """An mpf rounded once."""
    with mp.workprec(np.finfo(dtype).nmant + 1):
        return float(+x)


def bits(x):
    """How many bits a float has from its first to its last."""
    return abs(Fraction(x).numerator).bit_length()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parts_of_a_step(dtype):
    steps = powers.STEPS if dtype == np.float32 else 1
    high, low = -given(exp._minus_step_high, dtype), -given(exp._minus_step_low, dtype)
    with mp.workdps(60):
        step = mpmath.ln2 / steps
        assert high == rounded(step, dtype)
        np.testing.assert_allclose(low, float(step - mpf(high)), rtol=6e-8 if dtype == np.float32 else 1e-15)
        assert np.isclose(given(exp._steps_per_e, dtype), float(1 / step), rtol=2e-16)


@pytest.mark.parametrize(
    ("parts", "most_bits"),
    [
        ([log1p._LN2_HIGH, log1p._LN2_LOW], 42),
        ([double_double._LN2_HIGH, double_double._LN2_MIDDLE, double_double._LN2_LOW], 42),
    ],
    ids=["log1p", "exp_double_double"],
)
def test_parts_of_ln2(parts, most_bits):
    """All but the last have few bits, so that their products with an exponent, of up to 11, are exact."""
    *exact, last = parts
    with mp.workdps(60):
        assert last == rounded(mpmath.ln2 - sum(map(mpf, exact)), np.float64)
    assert all(bits(part) <= most_bits for part in exact)


def test_table_of_powers():
    with mp.workdps(40):
        exact = [mpf(2) ** (mpf(j) / 16) for j in range(16)]
        assert powers._ROUNDED.tolist() == [rounded(x, np.float32) for x in exact]
        rests = [float(x / mpf(r) - 1) for x, r in zip(exact, powers._ROUNDED.tolist(), strict=True)]
    np.testing.assert_allclose(powers._RESTS, rests, rtol=0, atol=2.3e-16)
    indexed = powers._TABLE + (np.arange(16, dtype=np.int32) << 19) + np.float32(1).view(np.int32)
    np.testing.assert_array_equal(indexed.view(np.float32), powers._ROUNDED)
