"""NaN, infinities and masks: the conventions of the reference, and a spoilt row spoils no other."""

import itertools

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels import tuning

INF, NAN = np.inf, np.nan
SPECIAL = [NAN, INF, -INF, 0.0, 1.5]
FORWARD = ["softmax", "log_softmax", "logsumexp"]
LOSSES = ["cross_entropy", "cross_entropy_with_grad"]
REDUCTIONS = ["mean", "sum", "none"]
ROW_BY_ROW = [
    *FORWARD,
    "softmax_backward",
    "log_softmax_backward",
    "softmax_jacobian",
    *LOSSES,
    "linear",
    "input_grad",
]

# every row of three of them, and where to put the three in rows of more classes: the rest is finite, or −inf
TRIPLES = np.array(list(itertools.product(SPECIAL, repeat=3)))
PLACES = [(3, [0, 1, 2]), (17, [0, 15, 16]), (70, [3, 40, 69]), (200, [0, 130, 199])]


@pytest.fixture(params=[0.5, -INF], ids=["finite", "-inf"])
def rest(request):
    return request.param


@pytest.fixture(params=PLACES, ids=[f"{classes} classes" for classes, _ in PLACES])
def special_rows(request, rest, dtype):
    classes, place = request.param
    z = np.full((len(TRIPLES), classes), rest, dtype)
    z[:, place] = TRIPLES
    return z, place


def assert_same_kind(got, want):
    """NaN and infinities in the same places, finite results close."""
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-300)


@pytest.mark.parametrize("name", FORWARD)
def test_softmax_family(name, special_rows):
    z, _ = special_rows
    assert_same_kind(getattr(fs, name)(z), getattr(reference, name)(z.astype(np.float64)))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_cross_entropy(which, special_rows):
    z, place = special_rows
    y = np.full(len(z), place[which])
    loss, dlogits = reference.cross_entropy_with_grad(z.astype(np.float64), y, reduction="none")
    got, dgot = fs.cross_entropy_with_grad(z, y, reduction="none")
    assert_same_kind(got, loss)
    assert_same_kind(dgot, dlogits)
    assert_same_kind(fs.cross_entropy(z, y, reduction="none"), loss)


@pytest.mark.parametrize("name", FORWARD)
def test_conventions_of_scipy(name, special_rows):
    special = pytest.importorskip("scipy.special")
    z, _ = special_rows
    with np.errstate(all="ignore"):
        want = getattr(special, name)(z.astype(np.float64), axis=-1)
    assert_same_kind(getattr(fs, name)(z), want)


def test_minus_infinity_is_exactly_zero(dtype, rows_that_hurt):
    z, y = rows_that_hurt(40, 130, dtype, ["masked", "label alone"])
    gone = z == -INF
    assert np.all(fs.softmax(z)[gone] == 0)
    assert np.all(fs.log_softmax(z)[gone] == -INF)
    assert np.all(fs.cross_entropy_with_grad(z, y)[1][gone] == 0)
    assert np.all(fs.softmax_jacobian(fs.softmax(z))[gone] == 0)
    alone = z[1::2], y[1::2]
    loss, dlogits = fs.cross_entropy_with_grad(*alone)
    assert loss == 0
    assert not dlogits.any()


@pytest.mark.parametrize("classes", [1, 3, 17, 70, 130])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_spoilt_row_spoils_no_other(name, bad, classes, dtype, arguments, results, assert_same_bits):
    """The other rows keep their bits, and nothing warns."""
    args = arguments(34, classes, dtype)[name]
    clean = results(getattr(fs, name)(**args))
    first = next(iter(args))
    spoilt = {**args, first: args[first].copy()}
    spoilt[first][[5, 20]] = bad
    others = np.delete(np.arange(34), [5, 20])
    got = results(getattr(fs, name)(**spoilt))
    assert_same_bits([part[others] for part in got], [part[others] for part in clean])
    if bad is NAN:
        assert all(np.isnan(part[[5, 20]]).all() for part in got)


@pytest.mark.parametrize("spoilt", range(16))
def test_a_spoilt_row_hides_no_row_that_needs_more_digits(spoilt, dtype, assert_same_bits):
    """Of sixteen rows in a vector: logsumexp where m and log Σ cancel, and gradients that are small as a whole."""
    z = 3 * np.random.default_rng(0).standard_normal((16, 10))
    z = (z - fs.logsumexp(z, keepdims=True) + 1e-3).astype(dtype)
    y, small = np.arange(16) % 10, np.full(16, np.finfo(dtype).tiny * 1e9)
    others = np.delete(np.arange(16), spoilt)
    want = fs.logsumexp(z), fs.cross_entropy_with_grad(z, y, reduction="none", dloss=small)[1]
    z[spoilt] = NAN
    got = fs.logsumexp(z), fs.cross_entropy_with_grad(z, y, reduction="none", dloss=small)[1]
    assert_same_bits([part[others] for part in got], [part[others] for part in want])


@pytest.mark.parametrize("name", ["softmax_backward", "log_softmax_backward"])
def test_backward_hides_no_spoilt_entry(name, special_rows):
    """Where the equations give a number, so does the kernel; where they give none, it gives none."""
    g, _ = special_rows
    a = np.full(g.shape, 1 / g.shape[1], g.dtype)
    first = a if name == "softmax_backward" else np.log(a)
    want = getattr(reference, name)(first.astype(np.float64), g.astype(np.float64))
    got = getattr(fs, name)(first, g)
    np.testing.assert_array_equal(np.isfinite(got), np.isfinite(want))
    fine = np.isfinite(want)
    np.testing.assert_allclose(got[fine], want[fine], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("row", "label"), [([NAN, 0, 1], 1), ([INF, 0, 1], 1), ([-INF, 0, 1], 0), ([-INF, -INF, -INF], 2)], ids=str
)
@pytest.mark.parametrize("rows", [2, 9, 40])
def test_reduced_loss(rows, row, label, reduction, dtype, assert_same_bits):
    """A NaN loss makes the reduced loss NaN, an infinite one makes it infinite."""
    z, y = np.zeros((rows, 3), dtype), np.zeros(rows, int)
    z[rows // 2], y[rows // 2] = row, label
    want = reference.cross_entropy_with_grad(z.astype(np.float64), y, reduction=reduction)
    got = fs.cross_entropy_with_grad(z, y, reduction=reduction)
    assert_same_kind(got[0], want[0])
    assert_same_kind(got[1], want[1])
    assert_same_kind(fs.cross_entropy(z, y, reduction=reduction), want[0])


def test_two_infinite_losses(dtype):
    z = np.array([[-INF, 0], [0, 1], [-INF, 1]], dtype)
    assert fs.cross_entropy(z, np.zeros(3, int), reduction="sum") == INF
    assert fs.cross_entropy(z, np.zeros(3, int)) == INF


@pytest.mark.parametrize("classes", [1, 3, 17, 70, 130])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_an_ignored_row_hides_its_logits_and_dloss(reduction, bad, classes, dtype, rows_that_hurt):
    z, y = rows_that_hurt(34, classes, dtype, ["spread 3", "ties"])
    z[[5, 20]], y[[5, 20]] = bad, -100
    options = {"reduction": reduction}
    if reduction == "none":
        options["dloss"] = np.where(y == -100, bad, 2.0)
    loss, dlogits = fs.cross_entropy_with_grad(z, y, **options)
    assert np.isfinite(loss).all()
    assert np.isfinite(dlogits).all()
    assert not dlogits[[5, 20]].any()
    assert np.isfinite(fs.cross_entropy(z, y, reduction=reduction)).all()


@pytest.mark.parametrize("dloss", [NAN, INF, 0.0])
def test_nonfinite_dloss(dloss, dtype):
    z, y = np.array([[0, 1, 2], [3, 1, -INF]], dtype), np.array([1, 0])
    _, want = reference.cross_entropy_with_grad(z.astype(np.float64), y, dloss=dloss)
    assert_same_kind(fs.cross_entropy_with_grad(z, y, dloss=dloss)[1], want)


@pytest.mark.parametrize("classes", [3, 40])
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_linear(bad, classes, dtype, arguments):
    """As the products say, without a warning."""
    args = arguments(20, classes, dtype)["linear_backward"]
    for name in args:
        spoilt = {**args, name: args[name].copy()}
        spoilt[name][1, 2] = bad
        wide = {key: value.astype(np.float64) for key, value in spoilt.items()}
        for got, want in zip(fs.linear_backward(**spoilt), reference.linear_backward(**wide), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4, err_msg=name)
        del spoilt["doutputs"], wide["doutputs"]
        np.testing.assert_allclose(fs.linear(**spoilt), reference.linear(**wide), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_linear_head(bad, dtype, arguments):
    """A spoilt input row spoils its own dinputs and what is summed over rows."""
    args = arguments(20, 4, dtype)["linear_cross_entropy"]
    args["inputs"][3, 1] = bad
    args["weight"][1] = [0.5, -0.5, 0.25, 0]
    loss, grads = fs.linear_cross_entropy_with_grad(**args)
    assert np.isnan(loss)
    np.testing.assert_array_equal(np.isnan(grads.dinputs).all(axis=1), np.arange(20) == 3)
    assert np.isfinite(np.delete(grads.dinputs, 3, axis=0)).all()
    assert np.isnan(grads.dweight).all()
    assert np.isnan(grads.dbias).all()
    rows = fs.linear_cross_entropy(**args, reduction="none")
    np.testing.assert_array_equal(np.isnan(rows), np.arange(20) == 3)


@pytest.mark.parametrize("classes", [2, 130])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_a_loss_beyond_float32_is_infinite(reduction, classes):
    """And that is no warning."""
    z = np.zeros((2, classes), np.float32)
    z[:, :2] = 3e38, -3e38
    assert np.all(fs.cross_entropy(z, [1, 1], reduction=reduction) == INF)
    z /= 4
    assert np.isfinite(fs.cross_entropy(z, [1, 1], reduction=reduction)).all()


@pytest.mark.parametrize("classes", [3, 130])
def test_a_dloss_beyond_float32_is_infinite(classes):
    z = np.zeros((2, classes), np.float32)
    _, dlogits = fs.cross_entropy_with_grad(z, [0, 1], reduction="none", dloss=[1e300, 1.0])
    assert np.all(np.isinf(dlogits) == [[True], [False]])
    _, dlogits = fs.cross_entropy_with_grad(z, [0, 1], reduction="sum", dloss=-1e300)
    assert np.all(dlogits == np.where(np.arange(classes) == [[0], [1]], INF, -INF))


STREAMED = ["softmax", "log_softmax", "cross_entropy_with_grad"]


@pytest.mark.parametrize(
    ("name", "streamed"),
    [*[(name, False) for name in (*FORWARD, *LOSSES)], *[(name, True) for name in STREAMED]],
)
@pytest.mark.parametrize(("rows", "classes"), [(130, 1003), (1100, 130)])
def test_rows_of_a_run_stand_alone(name, rows, classes, streamed, dtype, twin, assert_same_bits, monkeypatch):
    """A row is handed the maximum that the row before it found: whatever either is, its bits are those it has alone."""
    rng = np.random.default_rng(classes)
    z = (rng.standard_normal((rows, classes)) * rng.choice([0.1, 3, 80], (rows, 1))).astype(dtype)
    z[np.arange(rows), rng.integers(classes, size=rows)] += rng.choice([0, 0, 1000], rows)
    for bad in (NAN, INF, -INF):
        z[rng.choice(rows, rows // 8)] = bad
        z[rng.choice(rows, rows // 8), rng.integers(classes, size=rows // 8)] = bad
    options = {"labels": rng.choice([*range(classes), *[-100] * 20], rows), "reduction": "none"}

    def results(take):
        given = {} if name in FORWARD else {**options, "labels": options["labels"][take]}
        result = getattr(fs, name)(z[take], **given)
        return result if isinstance(result, tuple) else (result,)

    alone = [np.concatenate(parts) for parts in zip(*(results(slice(i, i + 1)) for i in range(rows)), strict=True)]
    if streamed:
        monkeypatch.setattr(tuning, "STREAM_CLASSES", 0)
        monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    assert_same_bits(results(slice(None)), alone)
