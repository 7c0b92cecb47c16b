"""What is staged does what Python does: each function is run by Python and as a kernel."""

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels.compiling.jit import probe
from fastsoftmax.kernels.compiling.staging import noinline, staged


@staged
def branches(a, b):
    if a > b:
        c = a - b
    elif a == b:
        c = 100
    else:
        c = b - a
        if c > 5:
            c += 7
    return c


@staged
def early_returns(a, b):
    for i in range(a):
        if i * i > b:
            return i
    if b < 0:
        return -1
    return a + b


@staged
def loops(a, b):
    total, last, seen = 0, 0, False
    for i in range(a, b, 3):
        if i % 2:
            continue
        total, last = total + i, total
        seen = True
    for i in range(b, a, -2):
        total -= i
    while total > 50 or total < -50:
        total //= 2
        if total == -1:
            return -17
    for k in range(3):  # known, and unrolled
        total += k * a
    return total * 2 + last if seen else total


@staged
def division(a, b):
    return (a // 7) * 1000 + a % 7 + (a // 8) * 10 + a % 8 + (a // b if b else 0) + (a % b if b else 0)


@staged
def logic(a, b):
    both = a > 0 and b > 0
    one = a > 0 or b > 0
    chain = -3 < a <= b < 20
    bits = (a & 6) | (b ^ 3) | ((not both) << 4)
    return bits * 8 + one * 4 + chain * 2 + (a if both else b)


@staged
def built_in(a, b):
    return min(a, b) * 100 + max(a, b) * 10 + abs(a) + np.intp(b)


@noinline
def quotient(a, b):
    return (a - a % b, (b, 2 * a)) if b else (0, (b, 3))


@staged
def tuples(a, b):
    first, (second, third) = quotient(a, b)
    pair = (first, second)
    for i in range(40):  # more than are unrolled
        pair = (pair[1], pair[0] + i)
    return pair[0] + 10 * pair[1] + third + quotient(b, a)[0]


FUNCTIONS = [branches, early_returns, loops, division, logic, built_in, tuples]
INTEGERS = [-70, -8, -7, -1, 0, 1, 2, 7, 8, 19, 64, 1000]


@pytest.mark.parametrize("plain", FUNCTIONS, ids=lambda plain: plain.__name__)
def test_integers(plain):
    @probe
    def kernel(results, numbers):
        for i in range(numbers.size):
            for j in range(numbers.size):
                results[i * numbers.size + j] = plain(numbers[i], numbers[j])

    results = np.empty(len(INTEGERS) ** 2, np.int64)
    kernel.serial(results, np.array(INTEGERS))
    assert results.tolist() == [int(plain(a, b)) for a, b in itertools.product(INTEGERS, INTEGERS)]


@staged
def mixed(x, y):
    z = x * y + 2 if x > 0 else -x / 3
    if math.isnan(z) or math.isinf(z):
        return 7.0 if math.isnan(z) else 8.0
    return max(z, y) - min(z, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats(dtype):
    """A float32 with anything but another is a float64, as in Numba."""

    @probe
    def kernel(results, numbers):
        for i in range(numbers.size):
            for j in range(numbers.size):
                results[i * numbers.size + j] = mixed(numbers[i], numbers[j])

    numbers = np.array([-math.inf, -2.5, -0.0, 0.1, 3.0, 1e30, math.inf, math.nan], dtype)
    results = np.empty(64)
    kernel.serial(results, numbers)

    def product(x, y):  # of float32 it is a float32
        return float(np.multiply(x, y))

    with np.errstate(all="ignore"):
        for (x, y), got in zip(itertools.product(numbers, numbers), results, strict=True):
            z = product(x, y) + 2 if x > 0 else -float(x) / 3
            want = 7.0 if math.isnan(z) else 8.0 if math.isinf(z) else None
            want = want or (float(y) if y > z else z) - (1.0 if z > 1 else z)
            assert got == want or (math.isnan(got) and math.isnan(want)), (x, y)


def unrolled_continue(array):
    for i in range(3):
        if array[i] > 0:
            continue
        array[i] = 1


def allocation_in_a_loop(array):
    for i in range(array.size):
        array[i] = np.empty(3, array.dtype)[0]


def unknown_statement(array):
    del array


def other_kinds(array):
    x = 1.0 if array[0] > 0 else None
    array[0] = x


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (unrolled_continue, "a loop that is unrolled has no `continue`"),
        (allocation_in_a_loop, "memory cannot be allocated in a loop"),
        (unknown_statement, "kernels know no Delete"),
        (other_kinds, "chosen value: expected values of one kind"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_staged(refused, message):
    """Said where it is compiled, with the line, not computed wrongly."""
    with pytest.raises(TypeError, match=message) as raised:
        probe(refused).serial(np.ones(3))
    assert "test_staging.py" in "".join(getattr(raised.value, "__notes__", [])) + str(raised.value)


def test_source_that_changed_after_its_import(run_python, tmp_path):
    """A process may go on while the library is updated: neither half of each, nor anything kept of it."""
    package = Path(fs.__file__).parent
    copy = shutil.copytree(package, tmp_path / "fastsoftmax", ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
from pathlib import Path
import numpy as np
import fastsoftmax as fs
import fastsoftmax.kernels.operations  # as the first call does
rows = Path({str(copy)!r}, "kernels", "rows", "whole.py")
source = rows.read_text()
for edited in (source.replace("return lse, ", "return lse + 1, "), "# a line more\\n" + source, ""):
    rows.write_text(edited)
    try:
        print(fs.logsumexp(np.zeros((2, 200))))
    except RuntimeError as error:
        print("rows/whole.py has changed since it was imported: start the process again" in str(error))
rows.write_text(source)
print(fs.logsumexp(np.zeros(200)) == np.log(200))
"""
    places = {"PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    assert run_python("-c", code, **places).split() == ["True"] * 4
