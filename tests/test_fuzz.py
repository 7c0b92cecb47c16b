"""Whatever comes in: the reference's answer, or a TypeError or ValueError that begins with the argument's name.

Half types have float32 for a reference, whose answer is rounded once.
Every array lies in a memory of its own, filled with bytes that are NaN as floats and no class as labels. After a call
nothing in those memories has changed but the elements of `out`, and not even they if the call was refused.
`pytest --hypothesis-profile=nightly tests/test_fuzz.py` tries 20,000 calls.
"""

import inspect
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference, threads
from fastsoftmax.kernels import tuning
from tests import fuzz_options
from tests.conftest import HALVES
from tests.halves import assert_rounded_once, ties_of

hypothesis = pytest.importorskip("hypothesis")
st = pytest.importorskip("hypothesis.strategies")
one_of = st.sampled_from

FUNCTIONS = [name for name in fs.__all__ if inspect.isfunction(getattr(fs, name))]
CLASSES = [1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 300]
ROWS = [0, 1, 2, 15, 16, 17, 35]
FEATURES = [0, 1, 3, 16, 33, 85]
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -1e-310, 1e-38]
INTEGERS = ["i1", "u1", "i4", ">i4", "i8", "u8", ">u8"]
NO_FLOATS = [*(["g"] if np.dtype("g") != "f8" else []), "?", "c8", "c16", "O", "U3", "S3", "M8[s]", "V4", "f4,f4"]
NO_INTEGERS = ["f4", "f8", "?", "c16", "O", "U3", "M8[s]"]
NO_BOOLEANS = ["f4", "i8", "u1", "c16", "O", "U3", "M8[s]"]
ALIKE = ("inputs", "weight", "bias", "doutputs", "probs", "dprobs", "log_probs", "dlog_probs", "logits", "vector")
MAY_BE_NONE = ["bias", "dloss", "class_weight", "sample_weight", "where"]
NO_ARRAYS = [None, {}, object(), "text", b"", [[1.0], [2.0, 3.0]], [None], 1j, np.ma.masked_array([[1.0]])]
STEPS = (1, 1, -1, 2, -3)
IS_NIGHTLY = hypothesis.settings().max_examples > 50
DTYPES = ["f4", "f8", *(HALVES if IS_NIGHTLY else [])]  # whose kernels take their time to compile
MARGIN = 256  # bytes before and after each array


class Placed(NamedTuple):
    array: np.ndarray
    memory: np.ndarray


class Call(NamedTuple):
    name: str
    twin: str
    regime: str  # of many classes: results are stored, or written past the caches, or made a block at a time
    dtype: np.dtype
    arguments: dict[str, Any]
    memories: list[np.ndarray]
    wrong: str | None  # the argument that must be refused
    reshaped: bool  # an array has another shape than the others ask for, which may or may not fit

    def __repr__(self):
        arrays = {
            name: f"{value.dtype}{value.shape} strides {value.strides} {value.reshape(-1)[:4]}"
            for name, value in self.arguments.items()
            if isinstance(value, np.ndarray)
        }
        return f"{self.name} {self.dtype} {self.twin} {self.regime} {self.arguments | arrays} wrong: {self.wrong}"


# Arrays ----------------------------------------------------------------------------------------------------------


def place(values, order, steps, shift=0):
    """Lay values out with any order of the axes, steps along them (negative, zero, with gaps), and shift in bytes."""
    strides, size, start = [0] * values.ndim, values.itemsize, 0
    for axis in order:
        strides[axis] = size * steps[axis]
        start -= min(strides[axis], 0) * max(values.shape[axis] - 1, 0)
        size *= max(values.shape[axis] * abs(steps[axis]), 1)
    memory = np.full(size + 2 * MARGIN, 0xFF, np.uint8)
    if values.dtype.hasobject:  # pointers are no bytes
        return Placed(values, memory)
    array = np.ndarray(values.shape, values.dtype, memory, MARGIN + start + shift, strides)
    array[...] = values
    return Placed(array, memory)


@st.composite
def layouts(draw, values, steps):
    """Place values somewhere; along an axis whose step is zero they become those of the first."""
    if draw(st.booleans()):
        return place(values, range(values.ndim)[::-1], [1] * values.ndim)
    order = draw(st.permutations(range(values.ndim)))
    steps = [draw(one_of(steps)) for _ in order]
    for axis in range(values.ndim):
        if steps[axis] == 0 and values.size:
            values = np.broadcast_to(values.take([0], axis), values.shape)
    return place(values, order, steps, draw(one_of([0, 0, 1, 4])))


@st.composite
def numbers(draw, shape, dtype, spreads, at_most=np.inf):
    """Numbers of some spread, few or many of them special; integers if the dtype is one."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.standard_normal(shape) * draw(one_of(spreads))
    if dtype.kind in "iu":
        return np.abs(values).clip(0, min(at_most, 100)).astype(dtype)
    share = draw(one_of([0, 0, 0.02, 0.4]))
    values = np.where(rng.random(shape) < share, rng.choice(SPECIAL, shape), values)
    with np.errstate(over="ignore", under="ignore"):
        return np.minimum(values, at_most).astype(dtype)


@st.composite
def classes_of_rows(draw, shape, classes, ignore_index):
    """Labels of any integer dtype, some of them ignored."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = rng.integers(min(classes, 128), size=shape)
    values = np.where(rng.random(shape) < draw(one_of([0, 0.3, 1])), ignore_index, values)
    dtype = np.dtype(draw(one_of(["i8", *INTEGERS])))
    fits = np.can_cast(np.min_scalar_type(ignore_index), dtype)
    return values.astype(dtype) if fits else rng.integers(min(classes, 128), size=shape).astype(dtype)


@st.composite
def outs(draw, shape, dtype, inputs):
    """None, or an `out`: somewhere else, one of the inputs, or in the memory of one."""
    values = np.full(shape, np.nan, dtype)
    kind = draw(one_of(["none", "apart", "input", "overlapping"]))
    if kind == "apart":
        return draw(layouts(values, STEPS))
    fits = [x for x in inputs if x.array.dtype == dtype and x.array.dtype.isnative and x.array.shape == shape]
    if kind == "input" and fits:
        array, memory = draw(one_of(fits))
        broadcast = any(n > 1 and stride == 0 for n, stride in zip(array.shape, array.strides, strict=True))
        return None if broadcast else Placed(array, memory)
    bytewise = [x for x in inputs if not x.array.dtype.hasobject]
    if kind == "overlapping" and bytewise:
        array, memory = draw(one_of(bytewise))
        if array.shape == shape and array.itemsize == dtype.itemsize and 0 not in array.strides:
            at = array.ctypes.data - memory.ctypes.data + draw(st.integers(8 - MARGIN, MARGIN - 8))
            return Placed(np.ndarray(shape, dtype, memory, at, array.strides), memory)
        if values.nbytes <= memory.nbytes:
            at = draw(st.integers(0, memory.nbytes - values.nbytes))
            return Placed(np.ndarray(shape, dtype, memory, at), memory)
    return None


@st.composite
def outs_of_head(draw, call, dtype):
    """An array somewhere else for each gradient, or None."""
    exists = {"inputs": call["inputs_grad"], "weight": True, "bias": call["bias"] is not None}
    targets = []
    for name, there in exists.items():
        given = there and isinstance(call[name], np.ndarray) and draw(st.booleans())
        targets.append(draw(layouts(np.full(call[name].shape, np.nan, dtype), STEPS)) if given else None)
    return targets


# What may be wrong: each changes one argument and gives its name, or None where there is nothing to change ------------


def wrong_dtype(draw, call, dtype):
    name = draw(one_of([key for key, value in call.items() if isinstance(value, np.ndarray)]))
    wrong = NO_BOOLEANS if name == "where" else NO_FLOATS
    if name == "labels" and call[name].dtype.kind in "iu":
        wrong = NO_INTEGERS
    call[name] = np.zeros(call[name].shape, draw(one_of(wrong)))
    return name


def no_array(draw, call, dtype):
    name = draw(one_of([key for key, value in call.items() if isinstance(value, np.ndarray)]))
    call[name] = draw(one_of([value for value in NO_ARRAYS if value is not None or name not in MAY_BE_NONE]))
    return name


def other_dtype(draw, call, dtype):
    alike = ("dprobs", "dlog_probs", "weight", "bias", "doutputs", "inputs", "probs", "log_probs")
    *others, name = [key for key in call if key in alike and call[key] is not None] or [None]
    if not any(call[key].dtype.kind == "f" for key in others):
        return None  # integers beside it take its dtype
    call[name] = np.ones(call[name].shape, "f4" if dtype == "f8" else "f8")
    return name


def wrong_label(draw, call, dtype):
    if "labels" not in call or not call["labels"].size or call["labels"].dtype.kind == "f":
        return None
    values = call["labels"].astype("i8")
    if draw(st.booleans()):
        values = np.zeros(values.shape, "u8")  # none of these is the class 0, nor an ignored row
    wrong = [2**63, 2**64 - 100] if values.dtype == "u8" else [-1, -101, max(CLASSES), 2**31, 2**32, -(2**63)]
    values.reshape(-1)[draw(st.integers(0, values.size - 1))] = draw(one_of(wrong))
    call["labels"] = values
    return "labels"


def wrong_number(draw, call, dtype):
    """Of weights, or of class probabilities."""
    names = [key for key in ("class_weight", "sample_weight", "labels") if key in call and call[key].dtype.kind == "f"]
    if not names or not call[names[-1]].size:
        return None
    name = draw(one_of(names))
    if not call[name].size:
        return None
    call[name].reshape(-1)[draw(st.integers(0, call[name].size - 1))] = draw(one_of([-1, -1e-30, np.nan, np.inf]))
    return name


def wrong_shape(draw, call, dtype):
    name = draw(one_of([key for key, value in call.items() if isinstance(value, np.ndarray)]))
    old = call[name].shape
    axis = draw(st.integers(0, len(old)))
    new = [
        (*old[:axis], 1, *old[axis:]),
        (*old[:axis], 2, *old[axis + 1 :]),
        (*old[:axis], 0, *old[axis + 1 :]),
        old[1:],
    ]
    call[name] = np.ones(draw(one_of(new)), call[name].dtype)
    return name


def wrong_option(draw, call, dtype):
    wrong = {
        "axis": [4, -5, 10**30, 1.5, "0", (9,), *([None, (0,)] if "labels" in call else [])],
        "reduction": ["", None, "MEAN", 3, ["mean"], np.array("mean"), {}],
        "ignore_index": [None, 1.5, "0", 2**63, 10**30],
        "workspace": [0, -1, None, 1e6, "64 MB", [1]],
        **fuzz_options.WRONG,
    }
    names = [name for name in wrong if name in call]
    if not names:
        return None
    name = draw(one_of(names))
    call[name] = draw(one_of(wrong[name]))
    return name


FAULTS = [wrong_dtype, no_array, other_dtype, wrong_label, wrong_number, wrong_shape, wrong_option]


def wrong_out(draw, shape, dtype):
    right = np.zeros(shape, dtype)
    wrong = [right.astype("f4" if dtype == "f8" else "f8"), right.astype(dtype.newbyteorder()), right.astype("i8")]
    wrong += [right[None], right.tolist(), right.view(), 7.0, "out"]
    wrong[-3].flags.writeable = False
    return draw(one_of(wrong))


# Calls -----------------------------------------------------------------------------------------------------------


def shapes_of(name, rows, classes, features, shape, lead):
    """The shapes of the arrays that a function takes, and of its `out`."""
    x, w, z = (rows, features), (features, classes), (rows, classes)
    layer = {"inputs": x, "weight": w, "bias": (classes,)}
    return {
        "softmax": ({"logits": shape}, shape),
        "log_softmax": ({"logits": shape}, shape),
        "logsumexp": ({"logits": shape}, lead),
        "softmax_backward": ({"probs": shape, "dprobs": shape}, shape),
        "log_softmax_backward": ({"log_probs": shape, "dlog_probs": shape}, shape),
        "softmax_jacobian": ({"probs": shape}, None),
        "cross_entropy": ({"logits": shape, "labels": lead}, None),
        "cross_entropy_with_grad": ({"logits": shape, "labels": lead}, shape),
        "cross_entropy_hvp": ({"logits": shape, "labels": lead, "vector": shape}, shape),
        "linear": (layer, z),
        "weight_grad": ({"inputs": x, "doutputs": z}, w),
        "bias_grad": ({"doutputs": z}, (classes,)),
        "input_grad": ({"doutputs": z, "weight": w}, x),
        "linear_backward": ({"inputs": x, "weight": w, "doutputs": z}, None),
        "linear_cross_entropy": ({**layer, "labels": (rows,)}, None),
        "linear_cross_entropy_with_grad": ({**layer, "labels": (rows,)}, None),
    }[name]


OPTIONS = {
    "ignore_index": [-100, 0, 2, 127, 2**40],
    "reduction": ["mean", "sum", "none"],
    "workspace": [1, 500, 2**26, 2**62, 10**400, np.int8(100), True],
    "inputs_grad": [True, False, 1, 0, None],
    "keepdims": [False, True],
}


@st.composite
def right_arguments(draw, name, takes, dtype):
    """Arguments of a function that fit: (by name, the shape of `out`)."""
    rows, classes, features = draw(one_of(ROWS)), draw(one_of(CLASSES)), draw(one_of(FEATURES))
    lead = draw(one_of([(rows,), (rows,), (), (2, rows), (3, 49), (rows, 1, 2)])) if "axis" in takes else (rows,)
    axis = draw(st.integers(0, len(lead))) if "axis" in takes else len(lead)
    shape = (*lead[:axis], classes, *lead[axis:])
    call = {option: draw(one_of(values)) for option, values in OPTIONS.items() if option in takes}
    if "axis" in takes:
        call["axis"] = draw(one_of([axis, axis - len(shape)]))
    kept = (*lead[:axis], 1, *lead[axis:]) if call.get("keepdims") else lead
    shapes, out_shape = shapes_of(name, rows, classes, features, shape, lead)
    on = draw(fuzz_options.those_on(takes, IS_NIGHTLY))
    spreads = [0.0, 0.1, 3.0]
    if "axis" in takes and "backward" not in name:
        spreads += [80.0, 1e30]
        if not on and name != "cross_entropy_hvp":  # whose products would overflow
            spreads.append(1e38)
    for argument, its_shape in shapes.items():
        if argument == "labels":
            call["labels"] = draw(classes_of_rows(its_shape, classes, call["ignore_index"]))
            continue
        kind = draw(one_of(INTEGERS)) if dtype == "f8" and draw(st.integers(0, 5)) == 0 else dtype
        its_dtype = np.dtype(kind)
        if its_dtype.kind != "V":  # as bfloat16 is to NumPy
            its_dtype = its_dtype.newbyteorder(draw(one_of("==S")))
        call[argument] = draw(numbers(its_shape, its_dtype, spreads, 0 if argument == "log_probs" else np.inf))
    if "bias" in call and draw(st.booleans()):
        call["bias"] = None
    if "dloss" in takes and draw(st.booleans()):
        its_shape = lead if call["reduction"] == "none" else ()
        call["dloss"] = draw(numbers(its_shape, np.dtype(draw(one_of(["f4", "f8", ">f8", "i4"]))), [3.0, 1e-25, 1e300]))
    logits_shape = shape if "axis" in takes else (rows, classes)
    call |= draw(fuzz_options.values_of(on, logits_shape, axis))
    return call, kept if name == "logsumexp" else out_shape


@st.composite
def calls(draw):
    """A call of a public function, right or with one argument wrong."""
    name = draw(one_of(FUNCTIONS))
    takes = inspect.signature(getattr(fs, name)).parameters
    dtype = np.dtype(draw(one_of(DTYPES)))
    call, out_shape = draw(right_arguments(name, takes, dtype))
    fault = draw(one_of([None] * 9 + FAULTS))
    wrong = fault and fault(draw, call, dtype)
    steps = STEPS if wrong else (*STEPS, 0)  # what is wrong must not be repeated away
    placed = {
        key: draw(layouts(value, steps)) for key, value in call.items() if type(value) is np.ndarray and key in takes
    }
    call.update((key, value.array) for key, value in placed.items())
    places = list(placed.values())
    if name == "linear_cross_entropy_with_grad":
        targets = draw(outs_of_head(call, dtype))
        call["out"] = fs.LinearGrads(*(target and target.array for target in targets))
        places += filter(None, targets)
    elif "out" in takes:
        if fault is None and draw(st.integers(0, 9)) == 0:
            wrong, call["out"] = "out", wrong_out(draw, out_shape, dtype)
        elif (out := draw(outs(out_shape, dtype, places))) is not None:
            call["out"] = out.array
            places.append(out)
    if dtype == "f8" and draw(st.integers(0, 5)) == 0:
        for value in placed.values():
            if value.array is not call.get("out"):
                value.array.flags.writeable = False
    twin = draw(one_of(["serial", "parallel"] if dtype == "f4" else ["serial"]))
    memories = list({id(place.memory): place.memory for place in places}.values())
    regime = draw(st.sampled_from(["stores", "streams", "blocks"]))
    return Call(name, twin, regime, dtype, call, memories, wrong, fault is wrong_shape)


# What must come out ------------------------------------------------------------------------------------------------


def in_float32(call):
    """What a call of half types must give, before it is rounded: the result, or the error, of the widened arrays."""
    arguments = {
        name: value.astype(np.float32) if name in ALIKE and isinstance(value, np.ndarray) else value
        for name, value in call.arguments.items()
        if name != "out"
    }
    return outcome(call._replace(arguments=arguments))


def widest(call):
    """The call's arguments for the reference, in a wider dtype."""
    wide = np.dtype(np.float64 if call.dtype == "f4" else np.longdouble)
    if np.finfo(wide).eps > np.finfo(call.dtype).eps / 1024:
        pytest.skip("this platform has nothing wider than float64")
    known = inspect.signature(getattr(reference, call.name)).parameters
    arguments = {}
    for name, value in call.arguments.items():
        if name in known and name != "out":
            arguments[name] = fuzz_options.widened(name, value, call.dtype, wide)
    return arguments


def parts_of(result):
    if isinstance(result, tuple):
        return [part for item in result for part in parts_of(item)]
    return [] if result is None else [np.asarray(result)]


def row_by_row_slack(name, args, parts, dtype):
    """What the reference may lose where m and log Σ cancel."""
    z = args["logits"]
    size = np.abs(z).max(axis=args["axis"], where=np.isfinite(z), initial=1, keepdims=True)
    size = size * 4 * np.finfo(z.dtype).eps
    if args.get("scale") is not None:  # a product that is rounded
        size = args["scale"] * size * (np.finfo(dtype).eps / np.finfo(z.dtype).eps if name == "logsumexp" else 1)
    if name == "logsumexp":
        return [size if args["keepdims"] else size.squeeze(args["axis"])]
    if "cross_entropy" not in name:
        return [size]
    if name == "cross_entropy_hvp":
        with np.errstate(invalid="ignore", over="ignore"):
            eps = np.finfo(dtype).eps
            return [(size + 8 * eps) * np.abs(args["vector"]).max(axis=args["axis"], keepdims=True, initial=0)]
    rows = size.squeeze(args["axis"])
    return [rows if args["reduction"] == "none" else rows.sum(), 0][: len(parts)]


def backward_slack(first, g, axis, eps):
    first_g = first if first is not None else 1
    return 4 * eps * (np.abs(g) + np.sum(np.abs(first_g * g), axis=axis, keepdims=True))


def product_slack(a, b, eps):
    return (8 + a.shape[1]) * eps * (np.abs(a) @ np.abs(b))  # equal terms may be rounded alike


def layer_slack(name, args, parts, dtype):
    """What rounding costs the products, and what it makes of errors of the logits."""
    eps = np.finfo(dtype).eps
    x, w, b, g = (args.get(key) for key in ("inputs", "weight", "bias", "doutputs"))
    slacks = {
        "weight_grad": lambda dz: product_slack(x.T, dz, eps),
        "bias_grad": lambda dz: 4 * eps * np.abs(dz).sum(axis=0),
        "input_grad": lambda dz: product_slack(dz, w.T, eps),
    }
    if name in slacks:
        return [slacks[name](g)]
    if name == "linear_backward":
        return [slacks[each](g) for each in ("input_grad", "weight_grad", "bias_grad")]
    z = product_slack(x, w, eps) + (0 if b is None else 2 * eps * np.abs(b))
    if name == "linear":
        return [z]
    off = z.max(initial=0)  # of the logits
    loss = 2 * off * (len(x) if args["reduction"] == "sum" else 1)
    if name == "linear_cross_entropy":
        return [loss]
    options = {key: args[key] for key in ("reduction", "ignore_index")}
    _, dz = reference.cross_entropy_with_grad(reference.linear(x, w, b), args["labels"], **options)
    dz_off = (2 * off + 12 * eps) * np.abs(dz)
    dinputs = dz_off @ np.abs(w.T) + slacks["input_grad"](dz)
    dweight = np.abs(x.T) @ dz_off + slacks["weight_grad"](dz)
    return [loss, dinputs, dweight, dz_off.sum(axis=0) + slacks["bias_grad"](dz)][: len(parts)]


def slacks_of(name, args, parts, dtype):
    """How far each part of a result may be off, besides a few units in the last place."""
    eps = np.finfo(dtype).eps
    if name == "softmax_jacobian":
        return [0]
    if name == "softmax_backward":
        a, g = args["probs"], args["dprobs"]
        return [np.abs(a) * backward_slack(a, g, args["axis"], eps)]
    if name == "log_softmax_backward":
        log_a, g = args["log_probs"], args["dlog_probs"]
        return [np.abs(g) * 4 * eps + np.exp(log_a) * backward_slack(None, g, args["axis"], eps)]
    if "labels" in args and fuzz_options.are_on(args):
        if "axis" in args:
            return fuzz_options.slacks_of_rows(name, args, dtype)
        return fuzz_options.slacks_of_head(args, dtype, product_slack, len(parts))
    return (row_by_row_slack if "axis" in args else layer_slack)(name, args, parts, dtype)


def assert_close(got, want, slack, dtype, exact_kind, message):
    """The same NaN and infinities, and close where finite."""
    assert (got.shape, got.dtype) == (want.shape, dtype), message
    rounded = want.astype(dtype)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(np.isfinite(got), finite, err_msg=message)
    if exact_kind:
        np.testing.assert_array_equal(got[~finite], rounded[~finite], err_msg=message)
    info = np.finfo(dtype)
    allowed = 8 * info.eps * np.abs(want) + 16 * info.tiny + np.broadcast_to(slack, want.shape)
    known = finite & np.isfinite(allowed)
    bad = known & (np.abs(got - want) > allowed)
    assert not bad.any(), f"{message}: {got[bad]}, not {want[bad]} within {allowed[bad]}"


def untouched(memory, before, outs):
    """Whether nothing but the outs has changed in a memory."""
    same = memory == before
    for out in outs:
        if not np.may_share_memory(out, memory):
            continue
        ours = np.zeros(memory.size, bool)
        at = out.ctypes.data - memory.ctypes.data
        np.ndarray((*out.shape, out.itemsize), bool, ours, at, (*out.strides, 1))[...] = True
        same |= ours
    return bool(same.all())


def outcome(call):
    """What a call returned, or the error that it raised."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "run", lambda kernel, elements, *args: getattr(kernel, call.twin)(*args))
        if call.regime == "streams":
            patch.setattr(tuning, "STREAM_CLASSES", 0)
            patch.setattr(tuning, "STREAM_BYTES", 0)
        if call.regime == "blocks":
            patch.setattr(tuning, "BLOCKED_BYTES", 0)
        try:
            return getattr(fs, call.name)(**call.arguments)
        except (TypeError, ValueError) as error:
            return error


@hypothesis.settings(max_examples=5 * hypothesis.settings().max_examples)
@hypothesis.given(calls())
def test_any_call(call):
    out = call.arguments.get("out")
    outs = [array for array in (out if isinstance(out, tuple) else [out]) if isinstance(array, np.ndarray)]
    is_half = call.dtype.itemsize == 2
    with np.errstate(over="ignore"):
        wide = None if call.wrong or call.reshaped else in_float32(call) if is_half else widest(call)
    befores = [memory.copy() for memory in call.memories]
    result = outcome(call)
    refused = isinstance(result, Exception)
    for memory, before in zip(call.memories, befores, strict=True):
        assert untouched(memory, before, [] if refused else outs)
    if refused:
        name = str(result).partition(":")[0].partition(".")[0]  # out.dweight
        assert name == call.wrong or (call.reshaped and name in call.arguments), result
        return
    assert call.wrong is None or call.reshaped, f"{call.wrong} was accepted"
    got = parts_of(result)
    assert all(any(part is array for part in got) for array in outs)
    if call.wrong:
        return
    if is_half:
        ties = ties_of(call.name, call.arguments)
        assert_rounded_once(got, wide, call.dtype, ties)
        return
    with np.errstate(all="ignore"):
        want = parts_of(getattr(reference, call.name)(**wide))
        if call.arguments.get("return_stats"):
            stats = got[-3:], want[-3:]
            del got[-3:], want[-3:]
            fuzz_options.assert_stats_close(*stats, wide, call.dtype, assert_close, product_slack)
        slacks = slacks_of(call.name, wide, want, call.dtype)
        if not np.isfinite(wide.get("dloss", 0)).all():  # 0 · ∞ for numbers too small for the dtype is ∞ in a wider one
            del got[1:], want[1:], slacks[1:]
        exact_kind = "backward" not in call.name
        if len(want) > 1 and not call.arguments.get("inputs_grad", True):
            del want[1], slacks[1]
        for i, (part, exact, slack) in enumerate(zip(got, want, slacks, strict=True)):
            assert_close(part, exact, slack, call.dtype, exact_kind, f"result {i}")
