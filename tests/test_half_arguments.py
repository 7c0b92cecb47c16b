"""float16 and bfloat16 arrays: what may stand beside them, what comes back, and what is said of what does not fit."""

import numpy as np
import pytest

import fastsoftmax as fs
from tests.conftest import arguments
from tests.halves import changed, halved

ROWS, CLASSES = 6, 4
PLAIN = "float32, float64, float16, bfloat16 or integers"


def logits(half):
    return np.random.default_rng(0).standard_normal((ROWS, CLASSES)).astype(half)


LABELS = np.arange(ROWS) % CLASSES


# What comes back -----------------------------------------------------------------------------------------------------


def test_loss(half):
    """A row's loss is a half, for its logits are; a mean or a sum of many would lose what a float32 has."""
    z = logits(half)
    for function in (fs.cross_entropy, lambda *args, **options: fs.cross_entropy_with_grad(*args, **options)[0]):
        assert function(z, LABELS, reduction="none").dtype == half
        assert function(z[0], 1, reduction="none").dtype == half
        for reduction in ("mean", "sum"):
            loss = function(z, LABELS, reduction=reduction)
            assert type(loss) is np.float32
            assert loss == function(z.astype(np.float32), LABELS, reduction=reduction)


def test_sums_of_many_losses():
    """float16 holds no number above 65,504, and no odd one above 2,048."""
    z = np.zeros((70_001, 3), np.float16)
    labels = np.zeros(len(z), int)
    assert fs.cross_entropy(z, labels, reduction="sum") == np.float32(70_001 * np.log(3))
    loss, dlogits = fs.cross_entropy_with_grad(z, labels, reduction="sum")
    assert loss == np.float32(70_001 * np.log(3))
    np.testing.assert_array_equal(dlogits, np.broadcast_to(np.float16([-2 / 3, 1 / 3, 1 / 3]), z.shape))


def test_stats(half):
    z = logits(half)
    *_, stats = fs.cross_entropy_with_grad(z, LABELS, return_stats=True)
    *_, wide = fs.cross_entropy_with_grad(z.astype(np.float32), LABELS, return_stats=True)
    assert [part.dtype for part in stats] == [np.float32, np.int64, np.float32]
    for part, exact in zip(stats, wide, strict=True):
        np.testing.assert_array_equal(part, exact)


def test_jacobian(half):
    probs = fs.softmax(logits(half))
    want = fs.softmax_jacobian(probs.astype(np.float32))
    assert fs.softmax_jacobian(probs).dtype == half
    np.testing.assert_array_equal(fs.softmax_jacobian(probs), want.astype(half))


def test_no_rows(half):
    z = np.empty((0, 3), half)
    loss, dlogits = fs.cross_entropy_with_grad(z, np.empty(0, int))
    assert np.isnan(loss)
    assert (loss.dtype, dlogits.dtype, dlogits.shape) == (np.float32, half, z.shape)
    assert fs.softmax(z).dtype == fs.logsumexp(z).dtype == half


# What may stand beside -----------------------------------------------------------------------------------------------


def test_lists_and_integers_take_the_dtype_beside_them(half):
    x, w = logits(half), np.ones((CLASSES, 2), half)
    assert fs.linear(x, w.astype(int)).dtype == fs.linear(x.tolist(), w).dtype == half
    np.testing.assert_array_equal(fs.linear(x.tolist(), w), fs.linear(x, w))
    assert fs.softmax_backward(x, x.tolist()).dtype == half


def test_integers_are_no_halves():
    """Though kernels take halves as integers."""
    for integers in (np.int16, np.uint16):
        assert fs.softmax(np.ones((2, 3), integers)).dtype == np.float64


def test_weights_are_taken_in_wider_types(half):
    """Of float64 the classes' are rounded to float32, and the rows' are not; a half counts as what it is."""
    z, wide = logits(half), logits(half).astype(np.float32)
    classes, rows = np.linspace(0.1, 1, CLASSES), np.linspace(0.1, 1, ROWS)
    want = fs.cross_entropy(wide, LABELS, class_weight=classes, sample_weight=rows)
    assert fs.cross_entropy(z, LABELS, class_weight=classes, sample_weight=rows) == want
    want = fs.cross_entropy(wide, LABELS, class_weight=classes.astype(half).astype(np.float64))
    assert fs.cross_entropy(z, LABELS, class_weight=classes.astype(half)) == want
    want = fs.cross_entropy(wide, LABELS, sample_weight=rows.astype(half).astype(np.float64))
    assert fs.cross_entropy(wide, LABELS, sample_weight=rows.astype(half)) == want


def test_upstream_gradient_is_taken_in_float32(half, assert_same_bits):
    """Of a float64 that no half holds."""
    z = logits(half)
    for dloss in (np.full(ROWS, 1e-3), np.full(ROWS, 1e5), np.ones(ROWS, half)):
        _, want = fs.cross_entropy_with_grad(z.astype(np.float32), LABELS, reduction="none", dloss=dloss)
        _, dlogits = fs.cross_entropy_with_grad(z, LABELS, reduction="none", dloss=dloss)
        with np.errstate(all="ignore"):
            assert_same_bits(dlogits, want.astype(half))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_of_any_type(half, dtype):
    """Beside logits of any type."""
    z, p = logits(half), fs.softmax(np.random.default_rng(1).standard_normal((ROWS, CLASSES))).astype(half)
    want = fs.cross_entropy(z.astype(np.float32), p.astype(np.float32))
    assert fs.cross_entropy(z, p) == fs.cross_entropy(z, p.astype(dtype)) == want
    assert fs.cross_entropy(z.astype(dtype), p) == fs.cross_entropy(z.astype(dtype), p.astype(dtype))


def test_factors_that_no_half_holds(half):
    """A scale and a softcap are taken in float32."""
    z = logits(half)
    for options in ({"scale": 1e-9}, {"softcap": 1e6}, {"scale": 1 + 2.0**-20}):
        want = fs.cross_entropy(z.astype(np.float32), LABELS, **options)
        assert fs.cross_entropy(z, LABELS, **options) == want
    with pytest.raises(ValueError, match=r"^scale: expected a number above 0 that .*float32 can hold, got 1e-60"):
        fs.softmax(z, scale=1e-60)


def test_other_byte_order():
    z = logits(np.float16)
    np.testing.assert_array_equal(fs.softmax(z.astype(">f2")), fs.softmax(z))


# What does not fit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "softmax_backward",
        "log_softmax_backward",
        "cross_entropy_hvp",
        "linear",
        "weight_grad",
        "input_grad",
        "linear_backward",
        "linear_cross_entropy",
        "linear_cross_entropy_with_grad",
    ],
)
def test_floating_arrays_must_agree(name, half):
    given = arguments(ROWS, CLASSES, np.float32)[name]
    given = changed(halved, given, half)
    floats = [key for key, value in given.items() if getattr(value, "dtype", None) == half]
    for other in (np.float32, np.float64):
        for wrong in floats[1:]:
            with pytest.raises(TypeError, match=f"^{wrong}: expected {np.dtype(half)} like {floats[0]}, got float"):
                getattr(fs, name)(**{**given, wrong: given[wrong].astype(other)})
        wide_first = {**given, floats[0]: given[floats[0]].astype(other)}
        with pytest.raises(TypeError, match=f"^{floats[1]}: expected {np.dtype(other)} like {floats[0]}, got "):
            getattr(fs, name)(**wide_first)


def test_two_half_types_do_not_agree():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    one, other = np.ones((2, 2), np.float16), np.ones((2, 2), bfloat16)
    with pytest.raises(TypeError, match=r"^dprobs: expected float16 like probs, got bfloat16"):
        fs.softmax_backward(one, other)
    with pytest.raises(TypeError, match=r"^weight: expected bfloat16 like inputs, got float16"):
        fs.linear(other, one)
    for given, out in ((one, other), (other, one)):
        with pytest.raises(TypeError, match=f"^out: expected {given.dtype}, got {out.dtype}"):
            fs.softmax(given, out=out)


@pytest.mark.parametrize("wrong", ["float32", "float64", "int16", "uint16", ">f2"])
def test_out_of_another_type(wrong, half):
    """Of the same size, too: nothing is written."""
    z, out = logits(half), np.full((ROWS, CLASSES), 7, wrong)
    for call in (
        lambda: fs.softmax(z, out=out),
        lambda: fs.log_softmax_backward(z, z, out=out),
        lambda: fs.cross_entropy_with_grad(z, LABELS, out=out),
        lambda: fs.linear(z, np.eye(CLASSES, dtype=half), out=out),
        lambda: fs.weight_grad(np.eye(ROWS, dtype=half), z, out=out),
    ):
        with pytest.raises(TypeError, match=f"^out: expected {np.dtype(half)}, got {np.dtype(wrong)}"):
            call()
    grads = fs.LinearGrads(None, np.full((CLASSES, 3), 7, wrong), None)
    with pytest.raises(TypeError, match=f"^out.dweight: expected {np.dtype(half)}, got "):
        fs.linear_cross_entropy_with_grad(z, np.ones((CLASSES, 3), half), None, np.zeros(ROWS, int), out=grads)
    assert (out == 7).all()


@pytest.mark.parametrize("wrong", [np.nan, -1, -np.inf, np.inf, -6e-8])
def test_labels_that_are_no_probabilities(wrong, half):
    p = np.full((ROWS, CLASSES), 0.25, half)
    p[2, 1] = wrong
    for z in (logits(half), logits(np.float32), logits(np.float64)):
        with pytest.raises(ValueError, match=r"^labels: expected finite probabilities from 0 up, got .* at 2, 1"):
            fs.cross_entropy(z, p)


def test_labels_that_are_no_classes(half):
    with pytest.raises(TypeError, match=f"^labels: expected integers, one per row, or .*, got {np.dtype(half)}"):
        fs.cross_entropy(logits(half), np.ones(ROWS, half))


@pytest.mark.parametrize("wrong", [np.nan, -1, np.inf])
def test_weights_that_are_none(wrong, half):
    for name, size in (("class_weight", CLASSES), ("sample_weight", ROWS)):
        with pytest.raises(ValueError, match=f"^{name}: expected finite weights from 0 up, got {wrong}"):
            fs.cross_entropy(logits(half), LABELS, **{name: np.full(size, wrong, half)})


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e5m2", "int4"])
def test_narrower_types_are_refused(name):
    dtype = getattr(pytest.importorskip("ml_dtypes"), name)
    with pytest.raises(TypeError, match=f"^logits: expected {PLAIN}, got {name}"):
        fs.softmax(np.ones((2, 2), dtype))
