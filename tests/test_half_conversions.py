"""Half types in kernels: what is loaded is the float32 of the same value, and what is stored is rounded as by NumPy.

Every half is loaded, by each way there is to load it; all halves, all ties between them, what lies beside those, and
NaN of many kinds are stored. That holds with AVX-512 and without, and of float16 with the instruction that converts
and without. As a script this is done on the processor that Numba is told to compile for.
"""

import functools
from pathlib import Path

import numpy as np
import pytest

from fastsoftmax.conversions import stored
from fastsoftmax.kernels.compiling.jit import probe
from fastsoftmax.kernels.compiling.target import AVX512, CONVERTS_FLOAT16, LEVELS, X86
from fastsoftmax.kernels.simd import memory, reduce, transpose

try:
    from ml_dtypes import bfloat16
except ModuleNotFoundError:
    HALVES = [np.float16]
else:
    HALVES = [np.float16, bfloat16]

LANES = 16


def every(half):
    """All numbers of a half type."""
    return np.arange(2**16, dtype=np.uint16).view(half)


def narrowed(singles, half):
    """Float32 as a half type: NumPy rounds to the nearest, ties to even."""
    with np.errstate(all="ignore"):
        return singles.astype(half)


def widened(halves):
    with np.errstate(all="ignore"):
        return halves.astype(np.float32)


@functools.cache
def singles(half):
    """Numbers to round, as many as whole tiles have."""
    exact = widened(every(half))
    finite = np.unique(exact[np.isfinite(exact)]).astype(np.float64)
    largest, below = finite[-1], finite[-2]
    ties = np.append((finite[1:] + finite[:-1]) / 2, [largest + (largest - below) / 2])
    whole = np.concatenate([exact, ties.astype(np.float32), -ties[-1:].astype(np.float32)]).view(np.uint32)
    one, rng = np.uint32(1), np.random.default_rng(0)
    kept_by_one_bit = one << np.arange(23, dtype=np.uint32)
    nans = [np.uint32(infinity) | kept_by_one_bit for infinity in (0x7F800000, 0xFF800000)]
    anything = rng.integers(2**32, size=2**16, dtype=np.uint32)
    bits = np.concatenate([whole, whole - one, whole + one, *nans, anything])
    return np.resize(bits, -(-bits.size // LANES**2) * LANES**2).view(np.float32)


def transposed(array):
    """Tile by tile."""
    return array.reshape(-1, LANES, LANES).swapaxes(1, 2).reshape(-1)


# From one array to the other, a vector at a time or a tile; `n` is how many lanes a vector has.
BY_VECTORS = {
    "load and store": lambda source, i, target, n: memory.store(target, i, memory.load(source, i)),
    "load_first": lambda source, i, target, n: memory.store(target, i, memory.load_first(source, i, n, 0.0)),
    "store_first": lambda source, i, target, n: memory.store_first(target, i, n, memory.load(source, i)),
    "stream": lambda source, i, target, n: memory.stream(target, i, memory.load(source, i)),
}
BY_LANES = {
    "one lane": lambda source, i, target, n: memory.store(target, i, memory.load(source, i, 1)),
    "an element": lambda source, i, target, n: target.__setitem__(i, source[i]),
    "the first lane": lambda source, i, target, n: target.__setitem__(i, reduce.first_lane(memory.load(source, i, 1))),
}


def put_tile(source, i, target, n):
    transpose.transpose_part(source, i, LANES, n, LANES, target, i, LANES, LANES, LANES)


def write(operations, source, i, targets, n):
    for k, operation in enumerate(operations):
        operation(source, i, targets[k], n)


@probe
def convert(source, vectors, lanes, tile, n):
    for i in range(0, source.size, LANES):
        write(BY_VECTORS.values(), source, i, vectors, n)
    for i in range(source.size):
        write(BY_LANES.values(), source, i, lanes, n)
    for i in range(0, source.size, LANES**2):
        put_tile(source, i, tile, n)


def aligned(rows, size, dtype):
    """Rows at multiples of 64 bytes."""
    room = np.zeros(rows * size * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : room.size - 64 + start].view(dtype).reshape(rows, size)


def converted(source, dtype):
    """What comes of it by each way, by name."""
    vectors, lanes, tile = (aligned(rows, source.size, dtype) for rows in (len(BY_VECTORS), len(BY_LANES), 1))
    convert.serial(stored(source), stored(vectors), stored(lanes), stored(tile[0]), LANES)
    return dict(zip([*BY_VECTORS, *BY_LANES, "transpose"], [*vectors, *lanes, transposed(tile[0])], strict=True))


def differences(source, want):
    """Describe where what comes of it has other bits; all NaN are one."""
    found = []
    for name, got in converted(source, want.dtype).items():
        bits = f"u{want.itemsize}"
        with np.errstate(invalid="ignore"):  # of ml_dtypes isnan tells of NaN that are not quiet
            wrong = (got.view(bits) != want.view(bits)) & ~(np.isnan(got) & np.isnan(want))
        if wrong.any():
            at = int(wrong.argmax())
            found.append(f"{name}: {source[at]!r} becomes {got[at]!r}, not {want[at]!r}")
    return found


def all_differences():
    return [
        difference
        for half in HALVES
        for source, want in (
            (every(half), widened(every(half))),
            (singles(half), narrowed(singles(half), half)),
        )
        for difference in differences(source, want)
    ]


def test_every_half_is_loaded(half):
    assert differences(every(half), widened(every(half))) == []


def test_every_half_is_stored_again(half):
    """From a half to a half, through float32."""
    assert differences(every(half), every(half)) == []


def test_rounding(half):
    assert differences(singles(half), narrowed(singles(half), half)) == []


@pytest.mark.exhaustive
def test_rounding_of_every_float32(half):
    """Those with the same upper byte at a time; of float16 those that become neither zeros nor infinities, and NaN."""
    room = aligned(1, 2**24, np.uint16)[0]
    got = room.view(half)
    for upper in range(2**8):
        if half == np.float16 and not (0x32 <= upper % 2**7 <= 0x48 or upper % 2**7 == 0x7F):
            continue
        source = (np.arange(2**24, dtype=np.uint32) + np.uint32(upper << 24)).view(np.float32)
        round_all.serial(source, stored(got))
        want = narrowed(source, half)
        wrong = (room != want.view(np.uint16)) & ~np.isnan(source)
        assert not wrong.any(), source[wrong][:3]
        with np.errstate(invalid="ignore"):
            assert np.isnan(got[np.isnan(source)]).all()


@probe
def round_all(source, target):
    for i in range(0, source.size, LANES):
        memory.store(target, i, memory.load(source, i))


def without(features, *names):
    return ",".join(name for name in features.split(",") if name not in names)


V3, V4 = LEVELS["x86-64-v3"], LEVELS["x86-64-v4"]
# How Numba is told to compile, and whether that is with AVX-512 and with the instruction.
PROCESSORS = {
    "neither": ({"NUMBA_CPU_NAME": "generic"}, False, False),
    "F16C without AVX-512": ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": V3}, False, True),
    "AVX2 without F16C": ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": without(V3, "+f16c")}, False, False),
    "AVX-512 without F16C": ({"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": without(V4, "+f16c")}, True, False),
}
USUAL = ["neither", "F16C without AVX-512"]


@pytest.mark.skipif(not X86, reason="the names are those of x86")
@pytest.mark.parametrize(
    "processor", [pytest.param(name, marks=[] if name in USUAL else pytest.mark.exhaustive) for name in PROCESSORS]
)
def test_on_other_processors(processor, run_python):
    environment, avx512, converts = PROCESSORS[processor]
    if (avx512 and not AVX512) or (processor != "neither" and not CONVERTS_FLOAT16):
        pytest.skip("this processor has no such instructions")
    lines = run_python(str(Path(__file__)), **environment).splitlines()
    assert lines == [f"AVX-512: {avx512}, F16C: {converts}"]


if __name__ == "__main__":
    print(f"AVX-512: {AVX512}, F16C: {CONVERTS_FLOAT16}", *all_differences(), sep="\n")
