"""Options for the calls of `test_fuzz`: drawn, made wrong, and what rounding costs with them."""

import numpy as np
import pytest

st = pytest.importorskip("hypothesis.strategies")
one_of = st.sampled_from

# Those that are on together: each set is a kernel of its own, and takes its time to compile. See `test_options`, whose
# kernels these are.
TOGETHER = [
    ("class_weight", "label_smoothing"),
    ("sample_weight", "z_loss"),
    ("class_weight", "where", "label_smoothing"),
    ("probabilities", "class_weight", "label_smoothing", "z_loss"),
    ("softcap", "scale", "where", "sample_weight", "z_loss"),
    ("scale", "where", "return_stats"),
    ("softcap", "probabilities", "label_smoothing", "return_stats"),
]
VALUES = {
    "label_smoothing": [0.1, 0.5, 1.0, 1],
    "z_loss": [1e-4, 0.5, np.float32(0.1)],
    "softcap": [1.0, 5.0, 30, np.float32(50)],
    "scale": [0.1, 0.7, 2, np.float32(3)],
    "return_stats": [True],
}
ARRAYS = {"class_weight": ["f4", "f8", ">f8", "i4"], "sample_weight": ["f4", "f8", ">f4", "u1"]}
NO_NUMBERS = ["1", True, [1.0], 1j, np.ones(2), np.nan, -0.5, np.inf]
WRONG = {
    "label_smoothing": [*NO_NUMBERS, None, 1.5],
    "z_loss": [*NO_NUMBERS, None],
    "softcap": [*NO_NUMBERS, 0],
    "scale": [*NO_NUMBERS, 0, -0.0],
    "return_stats": [None, 1, "yes", [True]],
}


@st.composite
def options_on(draw, takes, independent):
    """Names of the options that are on, of those that a function takes: each for itself, or some that go together."""
    known = [*(name for name in (*ARRAYS, *VALUES, "where") if name in takes), *["probabilities"] * ("labels" in takes)]
    if independent or "labels" not in takes:
        return {name for name in known if draw(st.integers(0, 2)) == 0}
    some = draw(one_of([(), *TOGETHER]))
    return {name for name in some if name in known}


def more_labels(rng, shape, dtype):
    """Class probabilities: of some rows dense, of some with zeros, and of some all zero."""
    p = rng.exponential(size=shape) * (rng.random(shape) < rng.choice([0.1, 0.6, 1.0]))
    return (p * rng.choice([0, 0.3, 1.0], shape, p=[0.1, 0.4, 0.5])).astype(dtype)


@st.composite
def values_of(draw, on, shape, axis):
    """Values of the options that are on, for logits of a shape."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows, values = shape[:axis] + shape[axis + 1 :], {}
    for name in sorted(on):
        if name == "where":
            values[name] = rng.random(shape) < draw(one_of([0.0, 0.3, 0.7, 1.0]))
        elif name == "probabilities":
            values["labels"] = more_labels(rng, shape, draw(one_of(["f4", "f8", ">f8"])))
            values["ignore_index"] = -100
        elif name in ARRAYS:
            its_shape, its_dtype = (shape[axis],) if name == "class_weight" else rows, np.dtype(draw(one_of(ARRAYS[name])))
            values[name] = (rng.uniform(0.1, 2, its_shape) + (its_dtype.kind in "iu")).astype(its_dtype)
        else:
            values[name] = draw(one_of(VALUES[name]))
    return values


def widened(name, value, dtype, wide):
    """An option as the reference takes it in a wider dtype."""
    if name in ("softcap", "scale"):
        return wide.type(dtype.type(value))
    return np.asarray(value, np.float64).astype(wide) if name == "sample_weight" else value


def are_on(args):
    """Whether any option is, other than those that change no kernel."""
    off = {"label_smoothing": 0, "z_loss": 0}
    names = (*ARRAYS, *VALUES, "where")
    given = any(args.get(name) is not None and args[name] != off.get(name) for name in VALUES)
    return given or any(args.get(name) is not None for name in ("where", *ARRAYS)) or "f" == args["labels"].dtype.kind
