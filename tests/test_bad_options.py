"""Options that do not fit are refused: the message names the argument, what was expected and what came.

Nothing is written then.
"""

import re

import numpy as np
import pytest

import fastsoftmax as fs

INF, NAN = np.inf, np.nan
ROWS, CLASSES, FEATURES = 3, 4, 2
FAMILY = ["softmax", "log_softmax", "logsumexp"]
LOSSES = ["cross_entropy", "cross_entropy_with_grad", "cross_entropy_hvp"]
HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
ALL = pytest.mark.parametrize("name", [*FAMILY, *LOSSES, *HEAD])
OF_LOGITS = pytest.mark.parametrize("name", [*FAMILY, *LOSSES])
WITH_LABELS = pytest.mark.parametrize("name", [*LOSSES, *HEAD])


def call_of(name, dtype):
    """A valid call, with an `out` that nothing may write to."""
    rng = np.random.default_rng(0)
    z, v = rng.standard_normal((2, ROWS, CLASSES)).astype(dtype)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((ROWS, FEATURES), (FEATURES, CLASSES), CLASSES))
    args = {"inputs": x, "weight": w, "bias": b} if name in HEAD else {"logits": z}
    if name not in FAMILY:
        args["labels"] = np.array([3, 0, 2])
    if name == "cross_entropy_hvp":
        args["vector"] = v
    if name == "linear_cross_entropy_with_grad":
        args["out"] = fs.LinearGrads(*(np.full_like(array, 7) for array in (x, w, b)))
    elif name == "logsumexp":
        args["out"] = np.full(ROWS, 7, dtype)
    elif not name.endswith("cross_entropy"):
        args["out"] = np.full_like(z, 7)
    return args


def refused(name, error, message, dtype=np.float64, **changed):
    """Call a function with some arguments changed: it must raise, with this message, and write nothing."""
    args = call_of(name, dtype)
    outs = args.get("out", ())
    given = [value.copy() for value in args.values() if isinstance(value, np.ndarray)]
    with pytest.raises(error) as caught:
        getattr(fs, name)(**{**args, **changed})
    assert type(caught.value) is error
    assert re.fullmatch(message, str(caught.value)), str(caught.value)
    assert all((out == 7).all() for out in (outs if isinstance(outs, tuple) else [outs] if len(outs) else []))
    for before, after in zip(given, [value for value in args.values() if isinstance(value, np.ndarray)], strict=True):
        np.testing.assert_array_equal(after, before)


@ALL
def test_calls_are_valid(name, dtype):
    getattr(fs, name)(**call_of(name, dtype))


# Numbers ---------------------------------------------------------------------------------------------------------

FACTORS = pytest.mark.parametrize("factor", ["scale", "softcap"])


def takes(name, factor):
    return factor == "scale" or name not in FAMILY


@pytest.mark.parametrize("value", [0, 0.0, -0.0, -1, -2.5, INF, -INF, NAN, np.float32(0), np.int8(-3)], ids=repr)
@FACTORS
@ALL
def test_factor_that_is_not_above_zero_and_finite(name, factor, value):
    if takes(name, factor):
        message = rf"{factor}: expected a number above 0\b.*, got {re.escape(str(value))}"
        refused(name, ValueError, message, **{factor: value})


@pytest.mark.parametrize(
    ("value", "came"),
    [("1", "str"), (True, "bool"), (np.True_, "bool"), ([2.0], "list"), (1j, "complex"), (np.ones(3), "ndarray")],
    ids=repr,
)
@FACTORS
@ALL
def test_factor_that_is_no_number(name, factor, value, came):
    if takes(name, factor):
        refused(name, TypeError, rf"{factor}: expected a number above 0\b.*, got {came}", **{factor: value})


@pytest.mark.parametrize("value", [1e60, 1e-60, 2**200])
@FACTORS
@ALL
def test_factor_that_float32_does_not_hold(name, factor, value):
    """It would be 0 or infinite."""
    if takes(name, factor):
        message = rf"{factor}: expected a number above 0\b.*float32.*, got {re.escape(str(value))}"
        refused(name, ValueError, message, dtype=np.float32, **{factor: value})
    if name == "cross_entropy":
        getattr(fs, name)(**call_of(name, np.float64), **{factor: value})


@pytest.mark.parametrize("value", [10**400, -(10**400)], ids=["large", "small"])
@ALL
def test_factor_that_no_float_holds(name, value):
    refused(name, ValueError, r"scale: expected a number above 0\b.*, got .*", scale=value)


@pytest.mark.parametrize("name", FAMILY)
def test_softmax_and_its_kin_have_no_softcap(name):
    with pytest.raises(TypeError, match="softcap"):
        getattr(fs, name)(**call_of(name, np.float64), softcap=1.0)


@WITH_LABELS
def test_weights_smoothing_and_z_loss(name):
    shape = r"class_weight: expected shape \(4,\), a weight for each class"
    finite = "class_weight: expected finite weights from 0 up"
    rows = r"sample_weight: expected shape \(3,\), a weight for each row"
    for key, value, error, message in (
        (
            "class_weight",
            [1.0, 1.0],
            ValueError,
            shape + r", got \(2,\)",
        ),
        (
            "class_weight",
            [1, -1, 1, 1],
            ValueError,
            f"{finite}, got -1.0 at 1",
        ),
        (
            "class_weight",
            [1, 1, np.nan, 1],
            ValueError,
            f"{finite}, got nan at 2",
        ),
        ("class_weight", ["a"] * 4, TypeError, "class_weight: expected float32, float64, .*, got <U1"),
        (
            "sample_weight",
            [1, 1],
            ValueError,
            rf"{rows}, got \(2,\)",
        ),
        ("sample_weight", [1, np.inf, 1], ValueError, "sample_weight: expected finite weights from 0 up, got inf at 1"),
        ("z_loss", -1, ValueError, "z_loss: expected a number from 0 up, got -1"),
        ("z_loss", np.inf, ValueError, "z_loss: expected a number from 0 up, got inf"),
        ("z_loss", "1", TypeError, "z_loss: expected a number from 0 up, got str"),
        ("label_smoothing", 1.5, ValueError, "label_smoothing: expected a number from 0 to 1, got 1.5"),
        ("label_smoothing", np.nan, ValueError, "label_smoothing: expected a number from 0 to 1, got nan"),
        ("label_smoothing", "0.1", TypeError, "label_smoothing: expected a number from 0 to 1, got str"),
        ("label_smoothing", None, TypeError, "label_smoothing: expected a number from 0 to 1, got NoneType"),
        ("label_smoothing", True, TypeError, "label_smoothing: expected a number from 0 to 1, got bool"),
    ):
        refused(name, error, message, dtype=np.float32, **{key: value})


# where -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,), (3,), (3, 1), (1, 4), (4, 3), (3, 4, 1), (0, 4)], ids=str)
@OF_LOGITS
def test_shape_of_where(name, shape):
    """It is not broadcast."""
    message = rf"where: expected shape \(3, 4\).*, got {re.escape(str(shape))}"
    refused(name, ValueError, message, where=np.ones(shape, bool))


@pytest.mark.parametrize("came", ["int64", "uint8", "float32", "float64", "complex128", "object", "<U5", "|S1"])
@OF_LOGITS
def test_dtype_of_where(name, came):
    message = rf"where: expected .*bool.*, got {re.escape(came)}"
    refused(name, TypeError, message, where=np.ones((ROWS, CLASSES)).astype(came))


@OF_LOGITS
def test_where_that_is_no_array(name):
    refused(name, ValueError, r"where: expected .*, got .*", where=True)
    refused(name, ValueError, r"where: expected .*, got .*", where=[[True, False], [True]])
    refused(name, TypeError, r"where: expected .*, got .*", where={})
    refused(name, TypeError, r"where: expected .*, got .*", where="all")
    masked = np.ma.masked_array(np.ones((ROWS, CLASSES), bool), mask=False)
    refused(name, TypeError, r"where: expected .*, got .*[mM]asked.*", where=masked)


@pytest.mark.parametrize("name", HEAD)
def test_the_head_has_no_where(name):
    with pytest.raises(TypeError, match="where"):
        getattr(fs, name)(**call_of(name, np.float64), where=np.ones((ROWS, CLASSES), bool))


# Class probabilities ---------------------------------------------------------------------------------------------

PROBABILITIES = np.full((ROWS, CLASSES), 0.25)


def with_one(value, row, j):
    p = PROBABILITIES.copy()
    p[row, j] = value
    return p


@pytest.mark.parametrize(("row", "j"), [(0, 0), (1, 2), (2, 3)])
@pytest.mark.parametrize("value", [-0.5, -1e-30, NAN, INF, -INF])
@WITH_LABELS
def test_probability_that_is_none(name, value, row, j):
    """Its place is named."""
    message = rf"labels: expected .*probabilities.*, got {re.escape(str(value))}\b.*{row}, {j}"
    refused(name, ValueError, message, labels=with_one(value, row, j))
    refused(name, ValueError, message, labels=with_one(value, row, j).tolist())


@WITH_LABELS
def test_the_first_probability_that_is_none(name):
    p = with_one(NAN, 1, 2)
    p[2] = -1
    refused(name, ValueError, r"labels: expected .*probabilities.*, got nan\b.*1, 2", labels=p)


@pytest.mark.parametrize("value", [1e60, -1e-60])
@WITH_LABELS
def test_probability_beyond_float32(name, value):
    """They are taken in the dtype of the logits: what is infinite there is refused, and −0 is 0."""
    p = with_one(value, 1, 2)
    if value > 0:
        message = r"labels: expected .*probabilities.*, got (inf|1e\+60)\b.*1, 2"
        refused(name, ValueError, message, dtype=np.float32, labels=p)
    else:
        refused(name, ValueError, r"labels: expected .*probabilities.*, got -1e-60\b.*1, 2", labels=p)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("name", LOSSES)
def test_place_of_a_probability_along_another_axis(name, axis):
    """It is that in the array which was passed."""
    z, p = np.zeros((3, 4, 2)), np.full((3, 4, 2), 0.25)
    p[2, 1, 1] = -1
    more = {"vector": z} if name == "cross_entropy_hvp" else {}
    with pytest.raises(ValueError, match=r"^labels: expected .*probabilities.*, got -1.0\b.*2, 1, 1$"):
        getattr(fs, name)(z, labels=p, axis=axis, **more)


def test_one_bad_probability_among_many():
    """Far into an array of a size that the threads share."""
    z, p = np.ones((50_000, 8)), np.full((50_000, 8), 0.5)
    p[[49_999, 41_234], [7, 3]] = NAN
    with pytest.raises(ValueError, match=r"got nan\b.*41234, 3$"):
        fs.cross_entropy_with_grad(z, p, out=z)
    assert (z == 1).all()


@pytest.mark.parametrize("shape", [(), (4,), (3, 1), (1, 4), (4, 3), (3, 5), (0,)], ids=str)
@WITH_LABELS
def test_shape_of_probabilities(name, shape):
    """Those of the shape of labels are labels of the wrong dtype."""
    error, came = (TypeError, "float64") if shape == (ROWS,) else (ValueError, re.escape(str(shape)))
    message = rf"labels: expected .*probabilities of shape \(3, 4\).*, got .*{came}.*"
    refused(name, error, message, labels=np.full(shape, 0.25))


@pytest.mark.parametrize("came", ["bool", "longdouble", "complex128", "object", "<U4"])
@WITH_LABELS
def test_dtype_of_probabilities(name, came):
    p = PROBABILITIES.astype(came)
    if p.dtype == np.float64:
        pytest.skip("longdouble is float64 here")
    refused(name, TypeError, rf"labels: expected .*, got {re.escape(str(p.dtype))}", labels=p)


@pytest.mark.parametrize(("scale", "softcap"), [(1e200, 1e-200), (1e-200, 1e200)])
@WITH_LABELS
def test_scale_far_from_softcap(name, scale, softcap):
    """float64 does not hold their quotient."""
    refused(name, ValueError, "scale: expected .*softcap.*, got .*", scale=scale, softcap=softcap)


@WITH_LABELS
def test_integers_are_no_probabilities(name):
    refused(name, ValueError, r"labels: expected shape \(3,\).*, got \(3, 4\)", labels=np.ones((ROWS, CLASSES), int))


@pytest.mark.parametrize("value", [0, 2, -1, 2**40])
@WITH_LABELS
def test_nothing_to_ignore_beside_probabilities(name, value):
    message = rf"ignore_index: expected .*-100.*, got {value}"
    refused(name, ValueError, message, labels=PROBABILITIES, ignore_index=value)
    if name == "cross_entropy":
        getattr(fs, name)(**{**call_of(name, np.float64), "labels": PROBABILITIES, "ignore_index": np.int64(-100)})


@WITH_LABELS
def test_weights_beside_probabilities(name):
    """They are checked as ever."""
    message = r"sample_weight: expected shape \(3,\), a weight for each row, got \(3, 4\)"
    refused(name, ValueError, message, labels=PROBABILITIES, sample_weight=PROBABILITIES)
    message = r"class_weight: expected finite weights from 0 up, got -1.0 at 1"
    refused(name, ValueError, message, labels=PROBABILITIES, class_weight=[1, -1, 1, 1])


# In any place ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 0, None, "yes", [True]], ids=repr)
@pytest.mark.parametrize("name", ["cross_entropy", "cross_entropy_with_grad", *HEAD])
def test_return_stats(name, value):
    message = rf"return_stats: expected True or False, got {type(value).__name__}"
    refused(name, TypeError, message, return_stats=value)


@pytest.mark.parametrize("option", ["scale", "softcap", "where", "labels"])
@pytest.mark.parametrize("in_place", [False, True], ids=["out", "in place"])
def test_no_byte_is_written(option, in_place):
    """Of long rows, either."""
    z = np.ones((4, 300), np.float32)
    bad = {"scale": -1, "softcap": 0, "where": np.ones((4, 299), bool), "labels": np.full(z.shape, -1.0)}
    out = z if in_place else np.ones_like(z)
    with pytest.raises(ValueError, match=f"^{option}: "):
        fs.cross_entropy_with_grad(z, **{"labels": np.zeros(4, int), **{option: bad[option]}}, out=out)
    assert (z == 1).all()
    assert (out == 1).all()
