"""Half types beside float32: arrays of them, and results that must be those of the widened arrays, rounded once."""

import numpy as np
import pytest

import fastsoftmax as fs
from tests.conftest import results


def halved(value, half):
    """The same in a half type: what is too large becomes infinite, what is small subnormal or zero."""
    if not (isinstance(value, np.ndarray) and value.dtype.kind == "f"):
        return value
    with np.errstate(all="ignore"):
        return value.astype(half)


def widened(value, half):
    with np.errstate(all="ignore"):
        return value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == half else value


def changed(change, given, half):
    return {name: change(value, half) for name, value in given.items()}


def assert_rounded_once(got, wide, half, may_tie=()):
    """Each array of half results has the bits of the rounded float32 ones; what else there is, their own bits."""
    for k, (part, exact) in enumerate(zip(results(got), results(wide), strict=True)):
        assert part.shape == exact.shape
        if exact.dtype == part.dtype:
            np.testing.assert_array_equal(part, exact, err_msg=f"result {k}")
            continue
        assert (part.dtype, exact.dtype) == (half, np.float32)
        with np.errstate(all="ignore"):
            want = exact.astype(half)
            same = (part.view(np.uint16) == want.view(np.uint16)) | (np.isnan(part) & np.isnan(want))
            if k in may_tie:
                exact, other, nearest = (each.astype(np.float64) for each in (exact, part, want))
                same |= np.abs(exact - other) == np.abs(exact - nearest)
        if not same.all():
            pytest.fail(f"result {k}: {part[~same][:3]}, not {want[~same][:3]}, at {np.argwhere(~same)[:3].tolist()}")


def ties_of(name, given):
    """Which results are rounded from float64, and so may go the other way where float32 is a tie.

    They are losses of rows, and a bias's gradient.
    """
    if "labels" not in given:
        return ()
    return (0,) if name != "linear_cross_entropy_with_grad" else (0, 3)


def check(name, given, half, **others):
    """Compare a call with that of the widened arrays: `others` are options that both take as they are."""
    wide = getattr(fs, name)(**changed(widened, given, half), **others)
    got = getattr(fs, name)(**given, **others)
    assert_rounded_once(got, wide, half, ties_of(name, given))
    return got
