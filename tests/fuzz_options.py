"""Options for the calls of `test_fuzz`: drawn, made wrong, and what rounding costs with them."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from fastsoftmax import reference

st = pytest.importorskip("hypothesis.strategies")
one_of = st.sampled_from

# Those that are on together, for each set is a kernel of its own, which takes its time to compile: see `test_options`.
TOGETHER = [
    ("class_weight", "label_smoothing"),
    ("sample_weight", "z_loss"),
    ("where", "label_smoothing", "class_weight"),
    ("probabilities", "class_weight", "label_smoothing", "z_loss"),
    ("softcap", "scale", "where", "sample_weight", "z_loss"),
    ("return_stats", "scale", "where"),
    ("return_stats", "softcap", "probabilities", "label_smoothing"),
]
VALUES = {
    "label_smoothing": [0.1, 0.5, 1],
    "z_loss": [1e-4, 0.5, np.float32(0.1)],
    "softcap": [1.0, 5.0, 30, np.float32(50)],
    "scale": [0.1, 0.7, 2, np.float32(3)],
    "return_stats": [True],
}
WEIGHTS = {"class_weight": ["f4", "f8", ">f8", "i4"], "sample_weight": ["f4", "f8", ">f4", "u1"]}
NO_NUMBERS = ["1", True, [1.0], 1j, np.ones(2), np.nan, -0.5, np.inf]
WRONG = {
    "label_smoothing": [*NO_NUMBERS, None, 1.5],
    "z_loss": [*NO_NUMBERS, None],
    "softcap": [*NO_NUMBERS, 0],
    "scale": [*NO_NUMBERS, -0.0],
    "return_stats": [None, 1, "yes", [True]],
}


@st.composite
def those_on(draw, takes, independent):
    """Names of the options that are on, of those that a function takes: each for itself, or some that go together."""
    known = [name for name in (*WEIGHTS, *VALUES, "where") if name in takes]
    if "labels" in takes:
        known.append("probabilities")
    if independent or "labels" not in takes:
        return {name for name in known if draw(st.integers(0, 2)) == 0}
    return {name for name in draw(one_of([(), *TOGETHER])) if name in known}


@st.composite
def values_of(draw, on, shape, axis):
    """Arguments for the options that are on, with logits of a shape."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    given: dict[str, Any] = {}
    for name in sorted(on):
        if name == "where":
            given[name] = rng.random(shape) < draw(one_of([0.0, 0.3, 0.7, 1.0]))
        elif name == "probabilities":
            p = rng.exponential(size=shape) * rng.choice([0, 0.3, 1], shape)
            given |= {"labels": p.astype(draw(one_of(["f4", "f8", ">f8"]))), "ignore_index": -100}
        elif name in WEIGHTS:
            its_shape = (shape[axis],) if name == "class_weight" else shape[:axis] + shape[axis + 1 :]
            dtype = np.dtype(draw(one_of(WEIGHTS[name])))
            given[name] = np.asarray(rng.uniform(0.1, 2, its_shape) + (dtype.kind in "iu")).astype(dtype)
        else:
            given[name] = draw(one_of(VALUES[name]))
    return given


def widened(name, value, dtype, wide):
    """An argument as the reference takes it in a wider dtype, with the digits that the fast functions take it with."""
    if name in ("softcap", "scale"):
        return wide.type(dtype.type(value))
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.kind not in "iufb":
        return value
    if value.dtype == np.bool_:
        return value.copy()  # `out` may overwrite it
    if name == "labels" and value.dtype.kind != "f":
        return value.astype(np.int64)
    return value.astype(np.float64 if name == "sample_weight" else dtype).astype(wide)


def are_on(args):
    """Whether options are on that change what is computed."""
    arrays = [args.get(name) for name in (*WEIGHTS, "where")]
    numbers = [args.get(name) or None for name in VALUES]
    return any(value is not None for value in arrays + numbers) or args["labels"].dtype.kind == "f"


class Rows(NamedTuple):
    """Bounds of what is computed of each row of logits."""

    size: Any  # |q|, and lse
    total: Any  # s T
    curve: Any  # s 2 ζ |lse|
    factor: Any  # of the gradient with respect to q
    scale: float  # |∂q/∂z|
    bend: float  # |∂²q/∂z²|


def rows_of(z, args, axis):
    """Find such bounds; `args` are in the dtype of the reference."""
    zeta, smoothing = args.get("z_loss", 0), args.get("label_smoothing", 0)
    scale = float(1 if args.get("scale") is None else args["scale"])
    labels, weights, samples = args["labels"], args.get("class_weight"), args.get("sample_weight")
    size = scale * np.abs(z).max(axis=axis, where=np.isfinite(z), initial=1) + np.log(z.shape[axis])
    s = np.ones(size.shape) if samples is None else samples
    most = 1 if weights is None else weights.max()
    if labels.dtype.kind == "f":
        total, counts = s * most * (labels.sum(axis=axis) + smoothing), s
    else:
        valid = labels != args["ignore_index"]
        total, counts = s * most, s * valid
        counts = counts if weights is None else counts * weights[np.where(valid, labels, 0)]
    factor = np.abs(1 if args.get("dloss") is None else args["dloss"])
    if args["reduction"] == "mean":
        factor = factor / counts.sum()
    bend = 0 if args.get("softcap") is None else 2 * scale**2 / float(args["softcap"])
    return Rows(size, total, s * 2 * zeta * (1 + size), factor, scale, bend)


def loss_slack(rows, reduction, eps, wide_eps):
    """What a loss may be off by: of terms of z-loss that cancel, and by the reference's own rounding."""
    own = 8 * eps * rows.curve * rows.size + 8 * wide_eps * rows.size * (rows.total + rows.curve)
    return own if reduction == "none" else own.sum()


def slacks_of_rows(name, args, dtype):
    """What losses and their gradients may be off by, each in its largest terms."""
    z, axis = args["logits"], args["axis"]
    rows, eps, wide_eps = rows_of(z, args, axis), np.finfo(dtype).eps, np.finfo(z.dtype).eps
    off = 8 * eps + 8 * wide_eps * rows.size
    slope = off * (rows.total + rows.curve) * rows.factor
    if name == "cross_entropy_hvp":
        most = np.abs(args["vector"]).max(axis=axis, initial=0)
        return [2 * np.expand_dims(slope * most * (rows.scale**2 + rows.bend), axis)]
    loss = loss_slack(rows, args["reduction"], eps, wide_eps)
    return [loss] if name == "cross_entropy" else [loss, np.expand_dims(slope * rows.scale, axis)]


def slacks_of_head(args, dtype, product_slack, n_parts):
    """The same for the linear head, whose logits are rounded."""
    x, w, b = args["inputs"], args["weight"], args["bias"]
    eps, z = np.finfo(dtype).eps, reference.linear(x, w, b)
    off = (product_slack(x, w, eps) + (0 if b is None else 2 * eps * np.abs(b))).max(initial=0)
    rows = rows_of(z, args, -1)
    steep = rows.total + rows.curve
    of_logits = 2 * off * rows.scale * steep
    loss = loss_slack(rows, args["reduction"], eps, np.finfo(z.dtype).eps)
    loss = loss + (of_logits if args["reduction"] == "none" else of_logits.sum())
    if n_parts == 1:
        return [loss]
    options = {key: value for key, value in args.items() if key not in ("inputs", "weight", "bias", "return_stats")}
    _, dz = reference.cross_entropy_with_grad(z, **options)
    dz_off = 2 * off * (rows.scale**2 + rows.bend) + 12 * eps * rows.scale
    dz_off = np.broadcast_to((dz_off * steep * rows.factor)[:, None], z.shape)
    dinputs = dz_off @ np.abs(w.T) + product_slack(dz, w.T, eps)
    dweight = np.abs(x.T) @ dz_off + product_slack(x.T, dz, eps)
    return [loss, dinputs, dweight, dz_off.sum(axis=0) + 4 * eps * np.abs(dz).sum(axis=0)][:n_parts]


def assert_stats_close(got, want, args, dtype, assert_close, product_slack):
    """Compare statistics: the prediction is that of the logits, which transformations may round to the same."""
    eps, off = np.finfo(dtype).eps, 0
    if "logits" in args:
        z, axis = args["logits"], args["axis"]
    else:
        x, w, b = args["inputs"], args["weight"], args["bias"]
        z, axis = reference.linear(x, w, b), -1
        off = (product_slack(x, w, eps) + (0 if b is None else 2 * eps * np.abs(b))).max(initial=0)
    z = z if args.get("where") is None else np.where(args["where"], z, -np.inf)
    rows, wide_eps = rows_of(z, args, axis), np.finfo(z.dtype).eps
    moved = 2 * off * rows.scale
    assert_close(got[0], want[0], 8 * eps * rows.size + moved, dtype, True, "lse")
    assert_close(got[2], want[2], 16 * wide_eps * rows.size + moved * (1 + rows.size), dtype, True, "entropy")
    assert got[1].dtype == np.int64
    found = np.take_along_axis(z, np.expand_dims(got[1], axis), axis)
    first, plain = z.argmax(axis=axis), np.isfinite(z).all(axis=axis)
    if "logits" in args:
        np.testing.assert_array_equal(got[1], first, err_msg="predictions")
    else:  # whose logits are rounded
        assert not (z.max(axis=axis, keepdims=True) - found > 2 * off)[plain].any()
