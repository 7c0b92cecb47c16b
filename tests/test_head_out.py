"""The linear head writes its gradients into the arrays it is given, and large ones past the caches."""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import LinearGrads

HEAD = fs.linear_cross_entropy_with_grad


def problem(rows, features, classes, dtype):
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((rows, features), (features, classes), classes))
    return x, w, b, rng.integers(classes, size=rows)


def empty_like(grads):
    return LinearGrads(*(np.full_like(grad, np.nan) for grad in grads))


@pytest.mark.parametrize("classes", [5, 70])
def test_out_receives_the_gradients(classes, dtype, twin, assert_same_bits):
    args = problem(40, 7, classes, dtype)
    want = HEAD(*args)
    out = empty_like(want[1])
    got = HEAD(*args, out=out)
    assert all(a is b for a, b in zip(got[1], out, strict=True))
    assert_same_bits(got, want)


@pytest.mark.parametrize("classes", [5, 70])
def test_out_in_part_strided_and_over_an_input(classes, dtype, twin, assert_same_bits):
    x, w, b, y = problem(40, 7, classes, dtype)
    want = HEAD(x, w, b, y)
    rows = np.full((80, 7), np.nan, dtype)
    got = HEAD(x, w, b, y, out=LinearGrads(rows[::2], None, None))
    assert got[1].dinputs.base is rows
    assert np.isnan(rows[1::2]).all()
    assert_same_bits(got, want)
    over = x.copy(), w.copy(), b.copy()
    assert_same_bits(HEAD(*over, y, out=LinearGrads(*over)), want)
    no_bias = HEAD(x, w, None, y, inputs_grad=False)
    assert_same_bits(HEAD(x, w, None, y, inputs_grad=False, out=(None, np.empty_like(w), None)), no_bias)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize(
    ("out", "options", "error", "message"),
    [
        (lambda g: g.dweight, {}, TypeError, "out: expected LinearGrads or None, got ndarray"),
        (lambda g: tuple(g)[:2], {}, TypeError, "out: expected LinearGrads or None, got tuple"),
        (lambda g: g._replace(dinputs=1.0), {}, TypeError, "out.dinputs: expected an array or None, got float"),
        (lambda g: g._replace(dweight=g.dweight.T), {}, ValueError, r"out.dweight: expected shape \(7, 5\), got"),
        (lambda g: g._replace(dbias=g.dbias.astype("f4")), {}, TypeError, "out.dbias: expected float64, got float32"),
        (lambda g: g, {"inputs_grad": False}, ValueError, "out.dinputs: expected None, .* got ndarray"),
        (lambda g: g, {"bias": None}, ValueError, "out.dbias: expected None, .* got ndarray"),
        (lambda g: g._replace(dbias=g.dweight[0]), {}, ValueError, "out: expected arrays that do not overlap"),
        (lambda g: g, {"labels": np.full(40, 5)}, ValueError, "labels: expected classes 0 to 4"),
    ],
)  # fmt: skip
def test_bad_out(out, options, error, message):
    args = dict(zip(("inputs", "weight", "bias", "labels"), problem(40, 7, 5, np.float64), strict=True))
    given = empty_like(HEAD(**args)[1])
    with pytest.raises(error, match=message):
        HEAD(**{**args, **options}, out=out(given))
    assert all(np.isnan(grad).all() for grad in given)


@pytest.mark.parametrize("route", ["serial", "parallel"])
def test_streamed_input_gradients(route, force, assert_same_bits):
    """Aligned and large: past the caches; at another address: not. Both give the same bits."""
    force(route)
    args = problem(2**16, 272, 3, np.float32)
    want = HEAD(*args)
    assert want[1].dinputs.ctypes.data % 64 == 0
    assert want[1].dinputs.nbytes >= 2**26
    room = np.full(want[1].dinputs.size + 2, 7, np.float32)
    dinputs = room[1:-1].reshape(2**16, 272)
    assert dinputs.ctypes.data % 64
    assert_same_bits(HEAD(*args, out=LinearGrads(dinputs, None, None)), want)
    assert (room[0], room[-1]) == (7, 7)
    dz = np.full((2**16, 3), 0.5, np.float32)
    np.testing.assert_allclose(
        fs.input_grad(dz, args[1]), np.tile(args[1].sum(axis=1) / 2, (2**16, 1)), rtol=1e-5, atol=1e-5
    )
