"""What an application has set for itself changes no result, and no call changes it."""

import inspect
import platform
import sys
import threading

import numpy as np
import pytest

import fastsoftmax as fs


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_error_state(function, reduction, dtype, arguments, assert_same_bits):
    """Where NumPy is to raise, what underflows, overflows or is NaN in a result of ours is no error of the user's."""
    call = getattr(fs, function)
    for classes in (10, 70):
        given = arguments(40, classes, dtype)[function]
        if "labels" in given:
            given |= {"reduction": reduction}
        elif reduction != "mean":
            pytest.skip("has no reduction")
        want = call(**given)
        with np.errstate(all="raise"):
            got = call(**given)
        assert_same_bits(got, want)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_error_state_where_a_cast_leaves_float32(scale, reduction, assert_same_bits):
    """A loss of e⁻¹²⁰ is no float32, nor is such an upstream gradient; `out` is the result, not what it was."""
    logits = np.float32([[120, 0], [0, 120]])
    dloss = np.full(2, scale) if reduction == "none" else scale
    out = logits.copy()
    with np.errstate(all="raise"):
        loss, dlogits = fs.cross_entropy_with_grad(out, [0, 1], reduction=reduction, dloss=dloss, out=out)
        assert fs.cross_entropy(logits, [0, 1]) == 0
        assert np.geterr() == dict.fromkeys(np.geterr(), "raise")
    assert dlogits is out
    want = fs.cross_entropy_with_grad(logits, [0, 1], reduction=reduction, dloss=dloss)
    assert_same_bits([loss, dlogits], want)


@pytest.mark.parametrize("size", [64, 256])
def test_small_stacks_of_threads(size, run_python):
    """A kernel is compiled on a stack that suffices, and the size for the application's threads is left as it is."""
    code = f"""
import threading
import numpy as np
import fastsoftmax as fs
threading.stack_size({size} * 1024)
fs.softmax(np.zeros((2, 100)))
thread = threading.Thread(target=fs.cross_entropy, args=(np.zeros((2, 10)), [0, 1]))
thread.start()
thread.join()
print(threading.stack_size())
"""
    assert run_python("-c", code, FASTSOFTMAX_CACHE="0") == str(size * 1024)
    assert threading.stack_size() == 0


ROUNDING = """
import ctypes, sys
import numpy as np
import fastsoftmax as fs
from callers import LABELS, LOGITS
def digest():
    losses, dlogits = fs.cross_entropy_with_grad(LOGITS.astype(float), LABELS, reduction="none")
    return [array.tobytes() for array in (losses, dlogits, fs.softmax(LOGITS), fs.softmax(LOGITS[:9, :7]))]
mode = {"downward": 0x400, "upward": 0x800, "toward zero": 0xC00}[sys.argv[1]]  # of <fenv.h> on x86
libm = ctypes.CDLL("libm.so.6")
if sys.argv[2] == "from the start":  # so that the pool's threads have it, too
    libm.fesetround(mode)
    found = digest()
    libm.fesetround(0)
    expected = digest()
else:
    expected = digest()
    libm.fesetround(mode)
    found = digest()
    assert libm.fegetround() == mode
print(found == expected)
"""


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="other modes")
@pytest.mark.parametrize("when", ["from the start", "later"])
@pytest.mark.parametrize("mode", ["downward", "upward", "toward zero"])
def test_rounding_mode(mode, when, run_python):
    """The same bits, on all threads, and the mode is left as it was."""
    assert run_python("-c", ROUNDING, mode, when) == "True"


@pytest.mark.parametrize("masked", [0, 1])
def test_masks_are_refused(masked, function):
    rows = [[0.5, 0.5], [0.25, 0.75]]
    rows[masked] = np.ma.masked_array(rows[masked], [True, False])
    parameters = inspect.signature(getattr(fs, function)).parameters.values()
    first, *others = [each.name for each in parameters if each.default is each.empty]
    with pytest.raises(TypeError, match=f"^{first}: expected arrays without a mask, got a list with a masked array"):
        getattr(fs, function)(rows, *[rows] * len(others))


def test_masks_of_out_are_refused(function_with_out, arguments, results):
    given = arguments(3, 4, np.float32)[function_with_out]
    out = np.ma.masked_array(results(getattr(fs, function_with_out)(**given))[-1])
    before = out.copy()
    with pytest.raises(TypeError, match=r"^out: expected an array without a mask, got a masked array"):
        getattr(fs, function_with_out)(**given, out=out)
    np.testing.assert_array_equal(out, before)
