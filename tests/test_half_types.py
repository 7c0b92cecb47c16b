"""float16 and bfloat16: what float32 gives for the same numbers, rounded once, to the bit.

So of every function and option, in every regime, in place or not, on one thread or more, along any axis.
"""

import itertools

import numpy as np
import pytest

import fastsoftmax as fs
from tests.conftest import FUNCTIONS, HALVES, WITH_OUT, arguments, results
from tests.definition import with_arrays
from tests.halves import assert_rounded_once, changed, check, halved, ties_of, widened

FEW, MANY = [1, 10, 33], [130, 300]
ROWS = 35
# Half types differ in their conversions alone (see `test_half_conversions`), and each kernel takes its time to compile:
# a function's usual type, and the other where everything is asked for.
USUAL = dict(zip(FUNCTIONS, itertools.cycle(HALVES), strict=False))
OTHER = dict(zip(FUNCTIONS, itertools.cycle(HALVES[::-1]), strict=False))
TYPES = [pytest.param(USUAL, id="usual"), pytest.param(OTHER, id="other", marks=pytest.mark.exhaustive)]
BY_TYPE = pytest.mark.parametrize("types", TYPES)
OF_ROWS = [
    name for name in FUNCTIONS if "axis" in fs.__dict__[name].__code__.co_varnames and name != "softmax_jacobian"
]


def check_in_place(name, given, half, assert_same_bits, **others):
    """`out`, fresh or any of the inputs of its shape, has the bits that a new array has."""
    want = results(getattr(fs, name)(**given, **others))
    out = np.full_like(want[-1 if "return_stats" not in others else 1], 7)
    for taken in [None, *given]:
        fresh = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in given.items()}
        target = out if taken is None else fresh[taken]
        if isinstance(target, np.ndarray) and (target.shape, target.dtype) == (out.shape, out.dtype):
            got = results(getattr(fs, name)(**fresh, **others, out=target))
            assert any(part is target for part in got)
            assert_same_bits(got, want, f"out={taken}")


def call_of(name, half, classes, rows=ROWS):
    given = arguments(rows, classes, np.float32, features=7)[name]
    if "labels" in given:
        given["labels"][::6] = -100
    return changed(halved, given, half)


@BY_TYPE
@pytest.mark.parametrize("classes", [*FEW, *MANY])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function(name, classes, types, force, assert_same_bits):
    half = types[name]
    for twin in ("serial", "parallel"):
        force(twin)
        check(name, call_of(name, half, classes), half)
    if name in WITH_OUT:
        check_in_place(name, call_of(name, half, classes), half, assert_same_bits)


@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("shape", [(ROWS, 130), (1_100, 129), (2, 70_001)], ids=str)
@pytest.mark.parametrize("name", ["softmax", "softmax_backward", "cross_entropy_with_grad"])
def test_regimes(name, shape, force, assert_same_bits):
    check_regime(name, shape, USUAL[name], force, assert_same_bits)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("shape", [(ROWS, 130), (1_100, 129), (2, 70_001)], ids=str)
@pytest.mark.parametrize("name", OF_ROWS)
def test_regimes_of_every_function(name, shape, half, force, assert_same_bits):
    check_regime(name, shape, half, force, assert_same_bits)


def check_regime(name, shape, half, force, assert_same_bits):
    for twin in ("serial", "parallel"):
        force(twin)
        check(name, call_of(name, half, *shape[::-1]), half)
    if name in WITH_OUT:
        check_in_place(name, call_of(name, half, *shape[::-1]), half, assert_same_bits)


OPTIONS = [
    {"softcap": 30.0, "scale": 0.7, "where": "kept", "sample_weight": True, "z_loss": 0.5},
    {"return_stats": True, "softcap": 5.0, "probabilities": True, "label_smoothing": 0.1},
]
MORE_OPTIONS = [
    {"class_weight": True},
    {"sample_weight": True, "z_loss": 0.5},
    {"class_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
    {"scale": 3.0},
    {"where": "any"},
    {"probabilities": True, "class_weight": True, "label_smoothing": 0.1, "z_loss": 0.5},
    {"return_stats": True, "scale": 0.7, "where": "any"},
]


def with_options(name, half, options, shape):
    """A call's half arrays, and the options that it takes."""
    given = call_of(name, half, *shape[::-1])
    known = fs.__dict__[name].__code__.co_varnames
    labels = given.get("labels", np.arange(len(next(iter(given.values())))) % shape[1])
    valid = np.where(labels < 0, 0, labels)
    others = with_arrays(options, valid, shape[1], np.float32)
    if others["labels"] is valid:
        others["labels"] = labels
    given.pop("labels", None)
    others = {key: value for key, value in others.items() if key in known}
    return given, others


def check_options(name, half, options, shape, force, assert_same_bits, reductions=("none", "mean")):
    given, others = with_options(name, half, options, shape)
    if not others:
        pytest.skip("takes none of them")
    given.pop("reduction", None)
    for twin, reduction in zip(("serial", "parallel"), reductions, strict=True):
        force(twin)
        by_label = {"reduction": reduction} if "labels" in others else {}
        if "dloss" in fs.__dict__[name].__code__.co_varnames:
            by_label["dloss"] = np.linspace(-1, 1, shape[0]) if reduction == "none" else 0.3
        wide = getattr(fs, name)(**changed(widened, given, half), **others, **by_label)
        got = getattr(fs, name)(**given, **others, **by_label)
        assert_rounded_once(got, wide, half, ties_of(name, others))
        if name in WITH_OUT:
            check_in_place(name, given, half, assert_same_bits, **others, **by_label)


# One function of logits and one of labels: kernels for all others take long to compile.
@pytest.mark.exhaustive
@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize(("name", "options"), [("softmax", OPTIONS[0]), ("cross_entropy_with_grad", OPTIONS[1])])
def test_options(name, options, classes, force, assert_same_bits):
    check_options(name, USUAL[name], options, (ROWS, classes), force, assert_same_bits)


@pytest.mark.exhaustive
@pytest.mark.usefixtures("regime")
@pytest.mark.parametrize("shape", [(ROWS, 10), (ROWS, 130), (2, 70_001)], ids=str)
@pytest.mark.parametrize("options", OPTIONS + MORE_OPTIONS, ids=" ".join)
@pytest.mark.parametrize("name", OF_ROWS)
def test_every_option(name, options, shape, half, force, assert_same_bits):
    check_options(name, half, options, shape, force, assert_same_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("options", OPTIONS + MORE_OPTIONS, ids=" ".join)
@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_cross_entropy_with_grad"])
def test_every_option_of_the_head(name, options, classes, half, force, assert_same_bits):
    check_options(name, half, options, (ROWS, classes), force, assert_same_bits)


@pytest.mark.parametrize("classes", [10, 70])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_head(classes, reduction, force):
    """In chunks, without the inputs' gradient, and into given arrays."""
    name = "linear_cross_entropy_with_grad"
    half = USUAL[name]
    force("serial")
    given = call_of(name, half, classes, 70) | {"reduction": reduction}
    want = check(name, given, half)
    check(name, given, half, workspace=20 * classes * 4)
    loss, some = fs.linear_cross_entropy_with_grad(**given, inputs_grad=False)
    out = fs.LinearGrads(*(np.full_like(grad, 7) for grad in want[1]))
    found, grads = fs.linear_cross_entropy_with_grad(**given, out=out)
    assert all(one is other for one, other in zip(grads, out, strict=True))
    assert_rounded_once([found, *grads], results(want), half)
    assert_rounded_once([loss, *results(some)], [want[0], *want[1][1:]], half)


@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", ["softmax", "cross_entropy_with_grad"])
def test_any_axis(name, classes, force, assert_same_bits):
    """Classes that do not lie next to each other: as float32 there, and as rows that are copied."""
    force("serial")
    check_axis(name, USUAL[name], classes, assert_same_bits)


@pytest.mark.exhaustive
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", OF_ROWS)
def test_any_axis_of_every_function(name, classes, half, force, assert_same_bits):
    force("parallel")
    check_axis(name, half, classes, assert_same_bits)


def check_axis(name, half, classes, assert_same_bits):
    given = call_of(name, half, classes, 80)
    folded = {
        key: value.reshape(2, 40, *value.shape[1:]) if isinstance(value, np.ndarray) else value
        for key, value in given.items()
    }
    moved = {
        key: np.moveaxis(value, -1, 1).copy() if getattr(value, "ndim", 0) == 3 else value
        for key, value in folded.items()
    }
    got = check(name, moved, half, axis=1)
    want = results(getattr(fs, name)(**folded))
    assert_same_bits([np.moveaxis(part, 1, -1) if part.ndim == 3 else part for part in results(got)], want)


def test_several_axes(half, assert_same_bits):
    """All of them, some, and what is kept of them."""
    z = halved(5 * np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32), half)
    for axis in (None, (0, 2), (), 1):
        check("softmax", {"logits": z}, half, axis=axis)
    for keepdims in (False, True):
        check("logsumexp", {"logits": z}, half, axis=(0, 2), keepdims=keepdims)
    one = fs.logsumexp(z[0, 0])
    assert (one.dtype, one.shape) == (half, ())
    out = np.empty((), half)
    assert fs.logsumexp(z[0, 0], out=out) is out
    assert_same_bits(out, one)


@pytest.mark.exhaustive
@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", OF_ROWS)
def test_same_bits_in_a_batch_of_any_size(name, classes, half, assert_same_bits):
    given = call_of(name, half, classes)
    whole = results(getattr(fs, name)(**given))
    for rows in (slice(3, None), slice(7, 8), slice(None, None, -2)):
        some = {key: value[rows].copy() if isinstance(value, np.ndarray) else value for key, value in given.items()}
        assert_same_bits(results(getattr(fs, name)(**some)), [part[rows] for part in whole])
