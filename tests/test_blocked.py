"""Rows that no cache holds, in blocks on all threads: the same promises as for other rows."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import tuning
from fastsoftmax.kernels.regimes import RowKernels
from fastsoftmax.kernels.tuning import BLOCK_CLASSES as BLOCK

NAMES = ["softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_with_grad"]
WITH_OUT = ["softmax", "log_softmax", "cross_entropy_with_grad"]
# Blocks that are whole, one entry long, and cut short; fewer entries than a vector has lanes are not many classes.
SIZES = [128, BLOCK, BLOCK + 1, 2 * BLOCK + 77]
IGNORED = -100


@pytest.fixture
def blocks(monkeypatch):
    monkeypatch.setattr(tuning, "BLOCKED_BYTES", 0)


@pytest.fixture
def row_by_row(monkeypatch):
    """A function that gives a result as one thread a row does."""

    def compute(call):
        with monkeypatch.context() as patch:
            patch.setattr(tuning, "BLOCKED_BYTES", 2**62)
            return call()

    return compute


def problem(name, rows, classes, dtype, spread=3):
    rng = np.random.default_rng([rows, classes])
    args = {"logits": (spread * rng.standard_normal((rows, classes))).astype(dtype)}
    if name.startswith("cross_entropy"):
        args |= {"labels": rng.integers(classes, size=rows), "reduction": "none"}
    return args


def test_what_is_blocked():
    """Long rows, by their bytes alone: however many there are, and in place too."""
    choose = RowKernels(1, 2, 3, 4).choose
    for dtype in (np.float32, np.float64):
        classes = tuning.BLOCKED_BYTES // np.dtype(dtype).itemsize
        for rows in (1, 40):
            long, short = np.empty((rows, classes), dtype), np.empty((rows, classes - 1), dtype)
            assert choose([long], long) == 4
            assert choose([long], np.empty_like(long)) == 4
            assert choose([long], np.empty(rows)) == 4
            assert choose([short], np.empty_like(short)) == (2 if rows == 1 else 3)
            assert RowKernels(1, 2).choose([long], long) == 2


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("classes", SIZES)
@pytest.mark.parametrize("name", NAMES)
def test_twins_places_and_neighbours(name, classes, dtype, force, results, assert_same_bits):
    """The bits of a row are those of the other twin, and those that it has alone; ignored rows in between."""
    args = problem(name, 3, classes, dtype)
    if "labels" in args:
        args["labels"][1] = IGNORED
    force("serial")
    want = results(getattr(fs, name)(**args))
    for row in range(3):
        alone = {key: value[[row]] if isinstance(value, np.ndarray) else value for key, value in args.items()}
        assert_same_bits(results(getattr(fs, name)(**alone)), [part[[row]] for part in want], f"row {row}")
    force("parallel")
    assert_same_bits(results(getattr(fs, name)(**args)), want)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("classes", SIZES[1:])
@pytest.mark.parametrize("name", WITH_OUT)
def test_in_place_and_at_any_address(name, classes, dtype, twin, results, assert_same_bits):
    args = problem(name, 2, classes, dtype)
    want = results(getattr(fs, name)(**args))
    for offset in range(0, 17, 3):
        around = np.full(2 * classes + 40, 7, dtype)
        out = around[offset : offset + 2 * classes].reshape(2, classes)
        assert_same_bits(results(getattr(fs, name)(**args, out=out)), want)
        assert (around[:offset] == 7).all()
        assert (around[offset + out.size :] == 7).all()
    in_place = args["logits"].copy()
    args["logits"] = in_place
    assert_same_bits(results(getattr(fs, name)(**args, out=in_place)), want)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_loss_with_and_without_gradient(reduction, dtype, twin, assert_same_bits):
    args = problem("cross_entropy", 3, 2 * BLOCK + 77, dtype) | {"reduction": reduction}
    args["labels"][0] = IGNORED
    loss, dlogits = fs.cross_entropy_with_grad(**args)
    assert_same_bits(loss, fs.cross_entropy(**args))
    assert not dlogits[0].any()
    assert dlogits[1:].any(axis=1).all()


def rare_rows(dtype):
    """Rows that blocks leave to one thread: not finite, or too large for powers of two."""
    classes = 2 * BLOCK + 77
    z = (3 * np.random.default_rng(1).standard_normal((11, classes))).astype(dtype)
    z[0, 1] = z[1, BLOCK] = z[2, -1] = np.nan
    z[3, BLOCK] = np.inf
    z[4] = -np.inf
    z[5] = -np.inf
    z[5, -1] = np.nan
    z[6] += 3000
    z[7, :BLOCK] -= 3000
    z[8] *= 1e30
    z[9] = z[9] * 20 + 2048
    z[10, :BLOCK] = -np.inf
    z[10, 7] = np.nan
    return z, np.arange(11) * 5900


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("name", NAMES)
def test_rare_rows_go_one_by_one(name, dtype, twin, row_by_row, results, assert_same_bits):
    z, y = rare_rows(dtype)
    args = {"labels": y, "reduction": "none"} if name.startswith("cross_entropy") else {}
    want = row_by_row(lambda: results(getattr(fs, name)(z, **args)))
    assert_same_bits(results(getattr(fs, name)(z, **args)), want)


@pytest.mark.usefixtures("blocks")
def test_cancelling_logsumexp(dtype, twin, row_by_row, assert_same_bits):
    """Where m and log Σ all but cancel, the row is added up with twice the digits, as others are."""
    log_probs = fs.log_softmax(**problem("log_softmax", 3, 2 * BLOCK + 77, dtype))
    want = row_by_row(lambda: fs.logsumexp(log_probs))
    assert_same_bits(fs.logsumexp(log_probs), want)


SMALL = {np.float32: [1e-15, 1e-19, 1e-32], np.float64: [1e-290, 1e-300]}


@pytest.mark.usefixtures("blocks")
def test_small_upstream_gradient(dtype, twin, row_by_row, assert_same_bits):
    """What is too small for exponentials with headroom goes row by row, and only that."""
    args = problem("cross_entropy_with_grad", 3, 2 * BLOCK + 77, dtype)
    _, usual = fs.cross_entropy_with_grad(**args)
    for small in SMALL[dtype]:
        dloss = np.array([1, small, 1], dtype)
        _, want = row_by_row(lambda dloss=dloss: fs.cross_entropy_with_grad(**args, dloss=dloss))
        loss, got = fs.cross_entropy_with_grad(**args, dloss=dloss)
        assert_same_bits(got[[0, 2]], usual[[0, 2]])
        assert_same_bits(loss, fs.cross_entropy(**args))
        np.testing.assert_allclose(got[1], want[1], rtol=4 * np.finfo(dtype).eps)
        assert got[1].any()
