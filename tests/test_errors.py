"""What does not fit is refused: the message names the argument, what was expected and what came; nothing is written."""

import re

import numpy as np
import pytest

import fastsoftmax as fs

ROWS, CLASSES, FEATURES = 4, 3, 2


def calls():
    """A valid call of every public function."""
    rng = np.random.default_rng(0)
    z, g = rng.standard_normal((2, ROWS, CLASSES))
    x, w, b = (rng.standard_normal(shape) for shape in ((ROWS, FEATURES), (FEATURES, CLASSES), CLASSES))
    y = np.array([0, 2, 1, 2])
    layer = {"inputs": x, "weight": w, "bias": b}
    return {
        "softmax": {"logits": z},
        "log_softmax": {"logits": z},
        "logsumexp": {"logits": z},
        "softmax_backward": {"probs": z, "dprobs": g},
        "log_softmax_backward": {"log_probs": z, "dlog_probs": g},
        "softmax_jacobian": {"probs": z},
        "cross_entropy": {"logits": z, "labels": y},
        "cross_entropy_with_grad": {"logits": z, "labels": y},
        "cross_entropy_hvp": {"logits": z, "labels": y, "vector": g},
        "linear": layer,
        "weight_grad": {"inputs": x, "doutputs": g},
        "bias_grad": {"doutputs": g},
        "input_grad": {"doutputs": g, "weight": w},
        "linear_backward": {"inputs": x, "weight": w, "doutputs": g},
        "linear_cross_entropy": {**layer, "labels": y},
        "linear_cross_entropy_with_grad": {**layer, "labels": y},
    }


RESULTS = {
    "softmax": (ROWS, CLASSES),
    "log_softmax": (ROWS, CLASSES),
    "logsumexp": (ROWS,),
    "softmax_backward": (ROWS, CLASSES),
    "log_softmax_backward": (ROWS, CLASSES),
    "cross_entropy_with_grad": (ROWS, CLASSES),
    "cross_entropy_hvp": (ROWS, CLASSES),
    "linear": (ROWS, CLASSES),
    "weight_grad": (FEATURES, CLASSES),
    "bias_grad": (CLASSES,),
    "input_grad": (ROWS, FEATURES),
}
FLOATS = [(name, argument) for name, args in calls().items() for argument in args if argument != "labels"]
WITH_LABELS = [name for name, args in calls().items() if "labels" in args]
WITH_AXIS = [name for name, args in calls().items() if {"logits", "probs", "log_probs"} & set(args)]
# The others take several axes, and no classes: see test_axes.
WITH_ONE_AXIS = ["cross_entropy", "cross_entropy_with_grad", "cross_entropy_hvp", "softmax_jacobian"]
HEADS = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]
LOSSES = ["cross_entropy", "cross_entropy_with_grad"]


def unique(rows):
    """Rows of a table without those of equal values (they are not hashable)."""
    return list({repr(row): row for row in rows}.values())


def refused(name, error, message, **changed):
    """Call a function with some arguments changed: it must raise, with this message, and write nothing."""
    arguments = {**calls()[name], **changed}
    if name in RESULTS and "out" not in arguments:
        arguments["out"] = np.full(RESULTS[name], 7.0)
    before = {key: np.copy(value) for key, value in arguments.items() if isinstance(value, np.ndarray)}
    with pytest.raises(error) as caught:
        getattr(fs, name)(**arguments)
    assert type(caught.value) is error
    assert re.fullmatch(message, str(caught.value)), str(caught.value)
    for key, value in before.items():
        np.testing.assert_array_equal(arguments[key], value, err_msg=f"{key} was written to")


def test_every_function_is_here(function):
    getattr(fs, function)(**calls()[function])


# Dtypes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("came", ["bool", "complex64", "complex128", "object", "<U3", "|S3", "datetime64[s]"])
@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_dtype(name, argument, came):
    value = calls()[name][argument].astype(np.int64).astype(came.strip("<|"))
    refused(
        name,
        TypeError,
        rf"{argument}: expected float32, float64, float16, bfloat16 or integers, got {re.escape(came)}",
        **{argument: value},
    )


def test_longdouble():
    if np.dtype(np.longdouble) == np.float64:
        pytest.skip("longdouble is float64 here")
    refused("softmax", TypeError, "logits: expected .*, got float128", logits=np.ones((2, 2), np.longdouble))


@pytest.mark.parametrize(("name", "argument"), [pair for pair in FLOATS if pair[1] != "bias"])
def test_no_array(name, argument):
    refused(name, TypeError, f"{argument}: expected an array, got None", **{argument: None})


@pytest.mark.parametrize(("name", "argument"), FLOATS)
def test_ragged_list(name, argument):
    refused(name, ValueError, f"{argument}: expected .*", **{argument: [[1.0, 2.0], [3.0]]})


@pytest.mark.parametrize("argument", ["logits", "labels"])
def test_masked_array(argument):
    """Its mask would be ignored."""
    value = np.ma.masked_array(calls()["cross_entropy"][argument])
    value[0] = np.ma.masked
    for name in LOSSES:
        refused(name, TypeError, f"{argument}: expected .*, got .*[mM]asked.*", **{argument: value})


@pytest.mark.parametrize(
    ("name", "argument", "first"),
    [
        ("softmax_backward", "dprobs", "probs"),
        ("log_softmax_backward", "dlog_probs", "log_probs"),
        ("linear", "weight", "inputs"),
        ("linear", "bias", "inputs"),
        ("weight_grad", "doutputs", "inputs"),
        ("input_grad", "weight", "doutputs"),
        ("linear_backward", "weight", "inputs"),
        ("linear_backward", "doutputs", "inputs"),
        ("linear_cross_entropy", "weight", "inputs"),
        ("linear_cross_entropy", "bias", "inputs"),
        ("linear_cross_entropy_with_grad", "weight", "inputs"),
        ("linear_cross_entropy_with_grad", "bias", "inputs"),
    ],
)
def test_mixed_dtypes(name, argument, first):
    narrow = calls()[name][argument].astype(np.float32)
    refused(name, TypeError, f"{argument}: expected float64 like {first}, got float32", **{argument: narrow})
    if argument == "bias":
        narrow_layer = {key: calls()[name][key].astype(np.float32) for key in ("inputs", "weight")}
        if name in RESULTS:
            narrow_layer["out"] = None
        refused(name, TypeError, "bias: expected float32 like inputs, got float64", **narrow_layer)


# Shapes ----------------------------------------------------------------------------------------------------------

Z = (ROWS, CLASSES)


def shape_case(name, argument, shape, expected):
    return pytest.param(name, argument, shape, expected, id=f"{name}-{argument}-{shape}")


SHAPES = [
    *(
        shape_case(name, argument, shape, rf"shape \(4, 3\) like {first}")
        for name, argument, first in (
            ("softmax_backward", "dprobs", "probs"),
            ("log_softmax_backward", "dlog_probs", "log_probs"),
        )
        for shape in ((CLASSES, ROWS), (ROWS, CLASSES, 1), (ROWS,), (ROWS, 1), ())
    ),
    *(
        shape_case(name, argument, shape, r"shape \(any, any\)")
        for name, argument in (
            ("linear", "inputs"),
            ("weight_grad", "inputs"),
            ("bias_grad", "doutputs"),
            ("input_grad", "doutputs"),
            ("linear_backward", "inputs"),
            ("linear_cross_entropy", "inputs"),
            ("linear_cross_entropy_with_grad", "inputs"),
        )
        for shape in ((), (ROWS,), (ROWS, FEATURES, 1))
    ),
    *(
        shape_case(name, "weight", shape, rf"shape \({FEATURES}, any\)")
        for name in ("linear", "linear_cross_entropy", "linear_cross_entropy_with_grad")
        for shape in ((FEATURES + 1, CLASSES), (FEATURES,), (1, FEATURES, CLASSES))
    ),
    *(
        shape_case(name, "bias", shape, rf"shape \({CLASSES},\)")
        for name in ("linear", "linear_cross_entropy", "linear_cross_entropy_with_grad")
        for shape in ((CLASSES + 1,), (1,), (), (1, CLASSES), (ROWS, CLASSES))
    ),
    *(shape_case("weight_grad", "doutputs", s, rf"shape \({ROWS}, any\)") for s in ((ROWS + 1, CLASSES), (ROWS,))),
    *(shape_case("input_grad", "weight", s, rf"shape \(any, {CLASSES}\)") for s in ((FEATURES, 1), (CLASSES,))),
    shape_case("linear_backward", "doutputs", (ROWS + 1, CLASSES), rf"shape \({ROWS}, any\)"),
    shape_case("linear_backward", "weight", (CLASSES, FEATURES), rf"shape \({FEATURES}, {CLASSES}\)"),
]


@pytest.mark.parametrize(("name", "argument", "shape", "expected"), SHAPES)
def test_shape(name, argument, shape, expected):
    message = rf"{argument}: expected {expected}, got (shape )?{re.escape(str(shape))}"
    refused(name, ValueError, message, **{argument: np.ones(shape)})


@pytest.mark.parametrize("name", WITH_ONE_AXIS)
def test_no_classes(name):
    for shape, axis in (((ROWS, 0), -1), ((0, ROWS), 0), ((0,), 0), ((2, 0, 3), 1), ((0, 0), 1)):
        arguments = {key: np.ones(shape) for key in calls()[name] if key != "labels"}
        if name in RESULTS:
            arguments["out"] = None
        first = next(iter(arguments))
        message = rf"{first}: expected at least one class, got shape {re.escape(str(shape))} with axis {axis}"
        refused(name, ValueError, message, axis=axis, **arguments)


@pytest.mark.parametrize("name", HEADS)
def test_no_classes_of_a_layer(name):
    """The caller has passed no logits, but a weight."""
    refused(name, ValueError, r"weight: expected .*class.*, got shape \(2, 0\)", weight=np.ones((2, 0)), bias=None)


# Axis ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [2, -3, 10**30])
def test_axis_out_of_range(function_with_axis, axis):
    first = next(iter(calls()[function_with_axis]))
    refused(function_with_axis, ValueError, f"axis: expected one of the 2 axes of {first}, got {axis}", axis=axis)


@pytest.mark.parametrize(("axis", "came"), [(1.0, "float"), ("1", "str")])
def test_axis_not_an_integer(function_with_axis, axis, came):
    refused(function_with_axis, TypeError, f"axis: expected an integer, got {came}", axis=axis)


@pytest.mark.parametrize("name", WITH_ONE_AXIS)
@pytest.mark.parametrize(("axis", "came"), [(None, "NoneType"), ((0, 1), "tuple")])
def test_several_axes(name, axis, came):
    refused(name, TypeError, f"axis: expected an integer, got {came}", axis=axis)


@pytest.mark.parametrize("name", WITH_AXIS)
def test_scalar_logits(name):
    arguments = {key: np.float64(1.0) for key in calls()[name] if key != "labels"}
    first = next(iter(arguments))
    refused(name, ValueError, f"{first}: expected at least one axis, that of the classes, got a scalar", **arguments)


# out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("out", "came"), [([0.0], "list"), (7.0, "float"), (np.float64(7), "float64"), ("out", "str")])
def test_out_is_no_array(function_with_out, out, came):
    refused(function_with_out, TypeError, f"out: expected an array or None, got {came}", out=out)


@pytest.mark.parametrize("came", ["float32", "int64", ">f8", "complex128"])
def test_out_dtype(function_with_out, came):
    out = np.full(RESULTS[function_with_out], 7, came)
    refused(function_with_out, TypeError, f"out: expected float64, got {came}", out=out)


def test_out_shape(function_with_out):
    right = RESULTS[function_with_out]
    for wrong in ((), (1, *right), (*right, 1), (right[0] + 1, *right[1:]), (*right[:-1], 0)):
        message = rf"out: expected shape {re.escape(str(right))}, got {re.escape(str(wrong))}"
        refused(function_with_out, ValueError, message, out=np.full(wrong, 7.0))


def test_out_shape_of_logsumexp_with_keepdims():
    refused("logsumexp", ValueError, r"out: expected shape \(4, 1\), got \(4,\)", keepdims=True, out=np.full(4, 7.0))
    refused("logsumexp", ValueError, r"out: expected shape \(3,\), got \(4,\)", axis=0, out=np.full(4, 7.0))


def test_out_is_read_only(function_with_out):
    out = np.full(RESULTS[function_with_out], 7.0)
    out.flags.writeable = False
    refused(function_with_out, ValueError, "out: expected a writable array, got a read-only one", out=out)


# Labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [0, 2, ROWS - 1])
@pytest.mark.parametrize("label", [-1, CLASSES, -99, -101, 2**31, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_label_out_of_range(name, label, row):
    y = np.zeros(ROWS, np.int64)
    y[row:] = label  # the first is named
    refused(
        name, ValueError, f"labels: expected classes 0 to 2 or ignore_index -100, got {label} in row {row}", labels=y
    )


@pytest.mark.parametrize("came", ["i1", "u1", "i4", "u8", ">i8", ">u8"])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_label_out_of_range_in_any_integer_dtype(name, came):
    y = np.array([0, 1, 100, 2], came)
    refused(name, ValueError, "labels: expected classes 0 to 2 or .*, got 100 in row 2", labels=y)
    refused(name, ValueError, "labels: .* or ignore_index 0, got 100 in row 2", labels=y, ignore_index=0)


@pytest.mark.parametrize("came", ["u8", ">u8"])
@pytest.mark.parametrize(("label", "ignore_index"), [(2**64 - 100, -100), (2**64 - 1, -1), (2**63, 2**63 - 1)])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_label_beyond_int64(name, label, ignore_index, came):
    """It is no class, and neither is it the ignore_index that it would be as an int64."""
    message = f"labels: expected classes 0 to 2 or ignore_index {ignore_index}, got {label} in row 1"
    refused(name, ValueError, message, labels=np.array([0, label, 1, 2], came), ignore_index=ignore_index)


@pytest.mark.parametrize("name", LOSSES)
def test_label_out_of_range_in_other_shapes(name):
    z = np.zeros((2, 3, 2))
    out = {"out": np.full(z.shape, 7.0)} if name in RESULTS else {}
    message = "labels: expected classes 0 to 2 or ignore_index -100, got 3 in row 1, 0"
    refused(name, ValueError, message, logits=z, labels=[[0, 1], [3, 2]], axis=1, **out)
    message = "labels: expected classes 0 to 1 or ignore_index -100, got 2 in row .*"
    out = {"out": np.full(2, 7.0)} if name in RESULTS else {}
    refused(name, ValueError, message, logits=np.zeros(2), labels=2, **out)


@pytest.mark.parametrize("name", LOSSES)
def test_label_out_of_range_in_place(name):
    z = calls()[name]["logits"]
    options = {"out": z} if name in RESULTS else {}
    refused(name, ValueError, "labels: .*", logits=z, labels=np.array([0, 1, 2, 3]), **options)


def test_one_bad_label_among_many():
    """Far into labels of a size that the threads share."""
    z, y = np.ones((50_000, 2)), np.zeros(50_000, int)
    y[[49_999, 41_234]] = 2
    with pytest.raises(ValueError, match=r"got 2 in row 41234$"):
        fs.cross_entropy_with_grad(z, y, out=z)
    assert np.all(z == 1)


@pytest.mark.parametrize("came", ["float32", "float64", "bool", "object", "<U21", "complex128"])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_dtype(name, came):
    y = calls()[name]["labels"].astype(came)
    expected = rf"integers, one per row, or probabilities of shape \({ROWS}, {CLASSES}\)"
    refused(name, TypeError, f"labels: expected {expected}, got {re.escape(came)}", labels=y)


@pytest.mark.parametrize("shape", [(), (ROWS + 1,), (ROWS - 1,), (ROWS, 1), (1, ROWS), (ROWS, CLASSES), (0,)])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_shape(name, shape):
    y = np.zeros(shape, int)
    refused(name, ValueError, rf"labels: expected shape \(4,\), got {re.escape(str(shape))}", labels=y)


@pytest.mark.parametrize("name", WITH_LABELS)
def test_labels_missing(name):
    refused(name, TypeError, "labels: expected an array, got None", labels=None)
    refused(name, ValueError, "labels: expected .*", labels=[[0, 1], [2]])


# Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reduction", ["avg", "MEAN", "", None, 1, ["mean"], {}, np.array(["mean", "sum"])], ids=lambda value: repr(value)
)
@pytest.mark.parametrize("name", WITH_LABELS)
def test_reduction(name, reduction):
    message = f"reduction: expected one of mean, sum, none, got {re.escape(repr(reduction))}"
    refused(name, ValueError, message, reduction=reduction)


@pytest.mark.parametrize(("value", "came"), [(None, "NoneType"), (1.0, "float"), ("0", "str"), ([0], "list")])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_ignore_index_not_an_integer(name, value, came):
    refused(name, TypeError, f"ignore_index: expected an integer, got {came}", ignore_index=value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
@pytest.mark.parametrize("name", WITH_LABELS)
def test_ignore_index_beyond_64_bits(name, value):
    refused(name, ValueError, f"ignore_index: expected a 64-bit integer, got {value}", ignore_index=value)


@pytest.mark.parametrize("classes", [3, 130])
@pytest.mark.parametrize("value", [2**63 - 1, 2**62 + 1, 1, -1, -2, -(2**63) + 1, -(2**63)])
def test_any_64_bit_ignore_index(value, classes, dtype):
    """One of the classes, too, and what stands for rows without a label inside."""
    y = np.array([0, value, 1, 2] * 5)
    z = np.eye(len(y), classes, dtype=dtype)
    loss, dlogits = fs.cross_entropy_with_grad(z, y, ignore_index=value, reduction="none")
    np.testing.assert_array_equal(loss == 0, y == value)
    np.testing.assert_array_equal((dlogits == 0).all(axis=1), y == value)
    np.testing.assert_array_equal(fs.cross_entropy(z, y, ignore_index=value, reduction="none"), loss)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (1,), (ROWS,), (ROWS, 1), (ROWS, CLASSES), (0,)])
def test_dloss_shape(reduction, shape):
    expected = (ROWS,) if reduction == "none" else ()
    dloss = np.ones(shape)
    if shape == expected:
        fs.cross_entropy_with_grad(**calls()["cross_entropy_with_grad"], reduction=reduction, dloss=dloss)
    else:
        message = f'dloss: expected shape {expected} for reduction="{reduction}", got {shape}'
        refused("cross_entropy_with_grad", ValueError, re.escape(message), reduction=reduction, dloss=dloss)


@pytest.mark.parametrize(("dloss", "came"), [(True, "bool"), (1j, "complex128"), ("1", "<U1"), ({}, "object")])
def test_dloss_dtype(dloss, came):
    message = f"dloss: expected float32, float64, float16, bfloat16 or integers, got {came}"
    refused("cross_entropy_with_grad", TypeError, message, dloss=dloss)
    refused("cross_entropy_with_grad", TypeError, message, dloss=[dloss] * ROWS, reduction="none")


@pytest.mark.parametrize(("value", "came"), [(None, "NoneType"), (1e6, "float"), ("64 MB", "str")])
@pytest.mark.parametrize("name", HEADS)
def test_workspace_not_an_integer(name, value, came):
    refused(name, TypeError, f"workspace: expected an integer, got {came}", workspace=value)


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", HEADS)
def test_workspace_not_positive(name, value):
    refused(name, ValueError, f"workspace: expected a positive number of bytes, got {value}", workspace=value)


@pytest.mark.parametrize("name", WITH_AXIS)
def test_options_are_keyword_only(name):
    with pytest.raises(TypeError, match="positional argument"):
        getattr(fs, name)(*calls()[name].values(), 0)
