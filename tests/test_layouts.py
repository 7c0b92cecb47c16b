"""Any strides, axis, byte order and alignment gives the bits of the contiguous array, and `out` may be anywhere."""

import inspect

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from tests.definition import with_arrays

ROWS, CLASSES = 6, 19
CLASS_COUNTS = [1, 2, 3, 8, 15, 16, 17, 33, 63, 64, 65, 100, 127, 128]
ONE_INPUT = [fs.softmax, fs.log_softmax, fs.logsumexp]
TWO_INPUTS = [fs.softmax_backward, fs.log_softmax_backward]


def every_other(array):
    wide = np.zeros([2 * n for n in array.shape], array.dtype)
    view = wide[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def unaligned(array):
    memory = np.zeros(array.nbytes + 1, np.uint8)[1:]
    view = memory.view(array.dtype).reshape(array.shape)
    view[...] = array
    return view


def read_only(array):
    view = array.view()
    view.flags.writeable = False
    return view


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "every other": every_other,
    "backwards": lambda array: np.flip(np.flip(array).copy()),
    "some of a wider array": lambda array: np.concatenate([array, array], axis=-1)[..., : array.shape[-1]],
    "other byte order": lambda array: array.astype(array.dtype.newbyteorder()),
    "unaligned": unaligned,
    "a list": lambda array: array.tolist(),
    "a subclass": lambda array: array.view(type("Subclass", (np.ndarray,), {})),
}
OUT_LAYOUTS = ["Fortran", "every other", "backwards", "some of a wider array", "unaligned"]


def relay(arguments, layout):
    return {name: layout(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs(function, layout, arguments, assert_same_bits):
    args = arguments(ROWS, CLASSES, np.float64)[function]
    want = getattr(fs, function)(**args)
    got = getattr(fs, function)(**relay(args, LAYOUTS[layout]))
    assert_same_bits(got, want)


@pytest.mark.parametrize("layout", [*OUT_LAYOUTS, "other byte order", "a subclass", "read-only"])
@pytest.mark.parametrize("name", ["softmax", "log_softmax_backward", "cross_entropy_with_grad", "linear"])
def test_inputs_of_half_types(name, layout, half, arguments, results, assert_same_bits):
    """Whose kernels get their bits; and their `out`, in any layout, too."""
    if layout == "other byte order" and half != np.float16:
        pytest.skip("NumPy knows no other order of these")
    with np.errstate(all="ignore"):
        args = relay(arguments(ROWS, CLASSES, np.float32)[name], lambda a: a.astype(half) if a.dtype.kind == "f" else a)
    want = getattr(fs, name)(**args)
    given = relay(args, LAYOUTS.get(layout, read_only))
    assert_same_bits(getattr(fs, name)(**given), want)
    if layout in OUT_LAYOUTS:
        out = LAYOUTS[layout](np.zeros_like(results(want)[-1]))
        assert results(getattr(fs, name)(**given, out=out))[-1] is out
        assert_same_bits(out, results(want)[-1])


@pytest.mark.parametrize("classes", [CLASSES, 130])
def test_read_only_inputs(function, classes, arguments, assert_same_bits):
    """To Numba they are of another type: a kernel would be compiled anew for each set of them."""
    args = arguments(ROWS, classes, np.float64)[function]
    want = getattr(fs, function)(**args)
    before = [dispatcher.signatures for dispatcher in DISPATCHERS]
    got = getattr(fs, function)(**relay(args, read_only))
    assert_same_bits(got, want)
    assert [dispatcher.signatures for dispatcher in DISPATCHERS] == before
    for name, untouched in arguments(ROWS, classes, np.float64)[function].items():
        np.testing.assert_array_equal(args[name], untouched)


WITH_ARRAYS = [
    {"where": "kept", "label_smoothing": 0.1, "class_weight": True},
    {"return_stats": True, "softcap": 5.0, "probabilities": True, "label_smoothing": 0.1},
    {"softcap": 30.0, "scale": 0.7, "where": "kept", "sample_weight": True, "z_loss": 0.5},
]
BY_OPTIONS = pytest.mark.parametrize("options", WITH_ARRAYS, ids=" ".join)
OF_ARRAYS = ["softmax", "log_softmax", "logsumexp", "cross_entropy", "cross_entropy_with_grad", "cross_entropy_hvp"]
HEAD = ["linear_cross_entropy", "linear_cross_entropy_with_grad"]


def with_options(name, args, options):
    """A call's arguments with those of some options that its function takes, and the arrays for them."""
    known = inspect.signature(getattr(fs, name)).parameters
    y = args.get("labels", np.arange(ROWS) % CLASSES)
    dtype = next(iter(args.values())).dtype
    given = with_arrays(options, y, CLASSES, dtype)
    return {**args, **{key: value for key, value in given.items() if key in known}}


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("layout", [*LAYOUTS, "read-only"])
@BY_OPTIONS
@pytest.mark.parametrize("name", [*OF_ARRAYS, *HEAD])
def test_arrays_of_options(name, options, layout, arguments, assert_same_bits):
    """Masks, probabilities and weights as any other input; nothing is compiled for them.

    A layer's weight is of another kind: see test_transposed_weight.
    """
    args = with_options(name, arguments(ROWS, CLASSES, np.float64)[name], options)
    if layout == "Fortran" and "weight" in args:
        args["weight"] = np.asfortranarray(args["weight"])
    want = getattr(fs, name)(**args)
    before = [dispatcher.signatures for dispatcher in DISPATCHERS]
    given = relay(args, LAYOUTS.get(layout, read_only))
    got = getattr(fs, name)(**given)
    assert_same_bits(got, want)
    assert [dispatcher.signatures for dispatcher in DISPATCHERS] == before
    for key, value in given.items():
        np.testing.assert_array_equal(value, args[key])


@pytest.mark.parametrize("strides", [(0, 1), (1, 0), (0, 0), (1, 1)])
def test_masks_with_strides_of_zero_and_overlap(strides, assert_same_bits):
    """A mask of the classes or of the rows alone, and a sliding window."""
    numbers = np.random.default_rng(0).random(50) < 0.6
    where = np.lib.stride_tricks.as_strided(numbers, (ROWS, CLASSES), strides, writeable=False)
    z = np.random.default_rng(1).standard_normal((ROWS, CLASSES))
    for function in ONE_INPUT:
        assert_same_bits(function(z, where=where), function(z, where=where.copy()))
    y = np.zeros(ROWS, int)
    want = fs.cross_entropy_with_grad(z, y, where=where.copy(), reduction="none")
    assert_same_bits(fs.cross_entropy_with_grad(z, y, where=where, reduction="none"), want)


@pytest.mark.parametrize("strides", [(0, 8), (8, 0), (0, 0), (8, 8)])
def test_strides_of_zero_and_overlap(strides, assert_same_bits):
    """Rows that are one row, classes that are one class, and a sliding window."""
    numbers = np.random.default_rng(0).standard_normal(50)
    view = np.lib.stride_tricks.as_strided(numbers, (ROWS, CLASSES), strides, writeable=False)
    y = np.broadcast_to(np.int64(3), ROWS)
    for function in ONE_INPUT:
        assert_same_bits(function(view), function(view.copy()))
    for function in TWO_INPUTS:
        assert_same_bits(function(view, view), function(view.copy(), view.copy()))
    want = fs.cross_entropy_with_grad(view.copy(), y.copy())
    assert_same_bits(fs.cross_entropy_with_grad(view, y), want)
    assert_same_bits(fs.bias_grad(view), fs.bias_grad(view.copy()))


# Axes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -3, -4])
def test_axis(axis, assert_same_bits):
    rng = np.random.default_rng(0)
    z, g = 5 * rng.standard_normal((2, 4, 3, 5, 6))
    z_last, g_last = (np.moveaxis(array, axis, -1).copy() for array in (z, g))
    rows, rows_g = (array.reshape(-1, z.shape[axis]) for array in (z_last, g_last))
    y = rng.integers(z.shape[axis], size=z_last.shape[:-1])

    def back(result):
        return np.moveaxis(result.reshape(z_last.shape), -1, axis)

    for function in (fs.softmax, fs.log_softmax):
        assert_same_bits(function(z, axis=axis), back(function(rows)))
    for function in TWO_INPUTS:
        assert_same_bits(function(z, g, axis=axis), back(function(rows, rows_g)))
    lse = fs.logsumexp(rows).reshape(y.shape)
    assert_same_bits(fs.logsumexp(z, axis=axis), lse)
    assert_same_bits(fs.logsumexp(z, axis=axis, keepdims=True), np.expand_dims(lse, axis))
    jacobian = fs.softmax_jacobian(rows).reshape(*z_last.shape, -1)
    assert_same_bits(fs.softmax_jacobian(z, axis=axis), jacobian)
    for reduction in ("mean", "sum", "none"):
        loss, dlogits = fs.cross_entropy_with_grad(rows, y.reshape(-1), reduction=reduction)
        want = loss.reshape(y.shape) if reduction == "none" else loss
        assert_same_bits(fs.cross_entropy(z, y, axis=axis, reduction=reduction), want)
        assert_same_bits(fs.cross_entropy_with_grad(z, y, axis=axis, reduction=reduction), (want, back(dlogits)))
    weights = rng.standard_normal(y.shape)
    _, weighted = fs.cross_entropy_with_grad(rows, y.reshape(-1), reduction="none", dloss=weights.reshape(-1))
    _, dlogits = fs.cross_entropy_with_grad(z, y, axis=axis, reduction="none", dloss=weights)
    assert_same_bits(dlogits, back(weighted))


@pytest.mark.usefixtures("serial")
@BY_OPTIONS
@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_options_with_an_axis(axis, options, results, assert_same_bits):
    """Masks and probabilities lie as the logits do, weights and statistics as the rows."""
    rng = np.random.default_rng(0)
    z, v = 5 * rng.standard_normal((2, 3, 4, 5))
    rows, v_rows = (np.moveaxis(array, axis, -1).reshape(-1, z.shape[axis]) for array in (z, v))
    y = rng.integers(z.shape[axis], size=len(rows))
    options = with_arrays(options, y, z.shape[axis], np.float64)
    lead = np.moveaxis(z, axis, -1).shape[:-1]

    def back(array):
        """What belongs to rows, where the logits' own rows are."""
        if not isinstance(array, np.ndarray) or len(array) != len(rows):
            return array
        array = array.reshape(*lead, *array.shape[1:])
        return np.moveaxis(array, -1, axis) if array.ndim == 3 else array

    moved = {name: back(value) for name, value in options.items()}
    for name in ("cross_entropy", "cross_entropy_with_grad"):
        want = getattr(fs, name)(rows, **options, reduction="none")
        got = getattr(fs, name)(z, **moved, axis=axis, reduction="none")
        assert_same_bits(results(got), [back(part) for part in results(want)])
    _, dlogits = fs.cross_entropy_with_grad(rows, **options)[:2]
    out = np.asfortranarray(z)
    assert fs.cross_entropy_with_grad(out, **moved, axis=axis, out=out)[1] is out
    assert_same_bits(out, back(dlogits))
    for taken in (options, moved):
        taken.pop("return_stats", None)
    product = fs.cross_entropy_hvp(rows, vector=v_rows, **options)
    assert_same_bits(fs.cross_entropy_hvp(z, vector=v, **moved, axis=axis), back(product))


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0), (0, 3, 0)])
def test_no_rows_in_many_dimensions(shape):
    z = np.empty(shape)
    y = np.empty((shape[0], shape[2]), int)
    assert fs.softmax(z, axis=1).shape == fs.log_softmax(z, axis=1).shape == shape
    assert fs.logsumexp(z, axis=1).shape == y.shape
    loss, dlogits = fs.cross_entropy_with_grad(z, y, axis=1, out=z)
    assert np.isnan(loss)
    assert dlogits is z


@pytest.mark.parametrize("label", [2, np.int8(2), np.array(2), np.array(2, np.uint64)], ids=repr)
def test_one_dimension(label, dtype, assert_same_bits):
    z = np.array([1, 2, 0.5, -3], dtype)
    loss, dlogits = fs.cross_entropy_with_grad(z[None], [2])
    for reduction in ("mean", "sum", "none"):
        got, dgot = fs.cross_entropy_with_grad(z, label, reduction=reduction)
        assert type(got) is type(loss) is dtype
        assert_same_bits((got, dgot), (loss, dlogits[0]))
        assert type(fs.cross_entropy(z, label, reduction=reduction)) is dtype
    assert type(fs.logsumexp(z)) is dtype
    assert fs.logsumexp(z, keepdims=True).shape == (1,)
    assert_same_bits(fs.softmax(z), fs.softmax(z[None])[0])
    assert_same_bits(fs.softmax_backward(z, z), fs.softmax_backward(z[None], z[None])[0])


@pytest.mark.parametrize("integer", ["i1", "u1", "i4", ">i4", "i8", "u8"])
def test_integers_are_float64(function, integer, arguments, assert_same_bits):
    def rounded(array):
        return np.abs(np.round(array)).clip(0, 100) if array.dtype.kind == "f" else array

    args = relay(arguments(ROWS, CLASSES, np.float64)[function], rounded)
    got = getattr(fs, function)(**relay(args, lambda array: array.astype(integer)))
    assert_same_bits(got, getattr(fs, function)(**args))


# out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", OUT_LAYOUTS)
@pytest.mark.parametrize("classes", [CLASSES, 40])
def test_out(function_with_out, classes, layout, arguments, results, assert_same_bits):
    args = arguments(ROWS, classes, np.float64)[function_with_out]
    want = results(getattr(fs, function_with_out)(**args))
    out = LAYOUTS[layout](np.full_like(want[-1], 7))
    memory = out if out.base is None else out.base
    untouched = memory.copy()
    got = results(getattr(fs, function_with_out)(**args, out=out))
    assert got[-1] is out
    assert_same_bits(got, want)
    out[...] = 7
    np.testing.assert_array_equal(memory, untouched, err_msg="something beside out was written to")


@pytest.mark.parametrize("classes", CLASS_COUNTS)
def test_nothing_around_the_arrays_is_read_or_written(
    function_with_out, classes, dtype, twin, arguments, results, assert_same_bits
):
    """Ragged ends of vectors: NaN lies before and after each input, guards before and after `out`."""

    def between_nans(array):
        if array.dtype.kind != "f":
            return array
        memory = np.full(array.size + 64, np.nan, array.dtype)
        view = memory[32:-32].reshape(array.shape)
        view[...] = array
        return view

    args = arguments(35, classes, dtype, features=classes)[function_with_out]
    want = results(getattr(fs, function_with_out)(**args))
    memory = np.full(want[-1].size + 64, 7, dtype)
    out = memory[32:-32].reshape(want[-1].shape)
    assert_same_bits(results(getattr(fs, function_with_out)(**relay(args, between_nans), out=out)), want)
    assert np.all(memory[:32] == 7)
    assert np.all(memory[-32:] == 7)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_out_with_an_axis(axis, assert_same_bits):
    z = np.random.default_rng(0).standard_normal((4, 3, 5))
    y = np.zeros(np.delete(z.shape, axis), int)
    for out in (np.empty_like(z), z.copy(), np.empty(z.shape, order="F"), every_other(z)):
        assert fs.softmax(z, axis=axis, out=out) is out
        assert_same_bits(out, fs.softmax(z, axis=axis))
        assert fs.cross_entropy_with_grad(z, y, axis=axis, out=out)[1] is out
        assert_same_bits(out, fs.cross_entropy_with_grad(z, y, axis=axis)[1])
    for keepdims in (False, True):
        want = fs.logsumexp(z, axis=axis, keepdims=keepdims)
        out = np.empty_like(want)
        assert fs.logsumexp(z, axis=axis, keepdims=keepdims, out=out) is out
        assert_same_bits(out, want)
    inplace = z.copy()
    assert fs.softmax(inplace, axis=axis, out=inplace) is inplace
    assert_same_bits(inplace, fs.softmax(z, axis=axis))


def test_out_of_one_row(assert_same_bits):
    z = np.array([1.0, 2.0, 4.0])
    out = np.empty(())
    assert fs.logsumexp(z, out=out) is out
    assert out == fs.logsumexp(z)
    in_place = z.copy()
    assert fs.softmax(in_place, out=in_place) is in_place
    assert_same_bits(in_place, fs.softmax(z))


# Overlap: as if the inputs had been copied first -------------------------------------------------------------------


def overlaps(dtype=np.float64):
    """Inputs and outs that share memory: (inputs, out), freshly made each."""

    def memory(*shape):
        return np.random.default_rng(0).standard_normal(shape).astype(dtype)

    rows = memory(21, CLASSES)
    yield "a row down", rows[:20], rows[1:]
    rows = memory(21, CLASSES)
    yield "a row up", rows[1:], rows[:20]
    flat = memory(20 * CLASSES + 3)
    yield "three elements up", flat[3:].reshape(20, -1), flat[:-3].reshape(20, -1)
    flat = memory(20 * CLASSES + 3)
    yield "three elements down", flat[:-3].reshape(20, -1), flat[3:].reshape(20, -1)
    square = memory(CLASSES, CLASSES)
    yield "transposed", square.T, square
    square = memory(CLASSES, CLASSES)
    yield "into the transpose", square, square.T
    square = memory(CLASSES, CLASSES)
    yield "backwards", square[::-1], square
    wide = memory(20, 2 * CLASSES)
    yield "interleaved", wide[:, ::2], wide[:, 1::2]
    wide = memory(20, 2 * CLASSES)
    yield "half of each row", wide[:, :CLASSES], wide[:, CLASSES // 2 : CLASSES // 2 + CLASSES]


@pytest.mark.parametrize("case", [name for name, *_ in overlaps()])
@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "first", "second", "both", "cross_entropy", "layer"])
def test_partial_overlap(name, case, dtype, assert_same_bits):
    if dtype == np.float16 and name not in ("softmax", "second", "layer"):
        pytest.skip("goes the same way, and takes its time to compile")
    z, out = next((z, out) for label, z, out in overlaps(dtype) if label == case)
    g = np.random.default_rng(1).standard_normal(z.shape).astype(dtype)
    square = np.random.default_rng(2).standard_normal((CLASSES, CLASSES)).astype(dtype)
    y = np.arange(len(z)) % CLASSES
    call = {
        "softmax": lambda z, **out: fs.softmax(z, **out),
        "log_softmax": lambda z, **out: fs.log_softmax(z, **out),
        "first": lambda z, **out: fs.softmax_backward(z, g, **out),
        "second": lambda z, **out: fs.log_softmax_backward(g, z, **out),
        "both": lambda z, **out: fs.softmax_backward(z, z, **out),
        "cross_entropy": lambda z, **out: fs.cross_entropy_with_grad(z, y, **out)[1],
        "layer": lambda z, **out: fs.input_grad(z, square, **out),
    }[name]
    want = call(z.copy())
    assert call(z, out=out) is out
    assert_same_bits(out, want)


def test_out_of_a_reduction_inside_its_input(assert_same_bits):
    def square():
        return np.random.default_rng(0).standard_normal((CLASSES, CLASSES))

    for function, place in ((fs.logsumexp, np.s_[:, 3]), (fs.logsumexp, np.s_[2]), (fs.bias_grad, np.s_[2])):
        z = square()
        want = function(z)
        assert_same_bits(function(z, out=z[place]), want)
    x, w = square(), square()
    want = fs.linear(x, w, x[4])
    assert_same_bits(fs.linear(x, w, x[4], out=x), want)
    x, g = square(), square()
    want = fs.weight_grad(x, g)
    assert_same_bits(fs.weight_grad(x, g, out=x), want)
    w, x = square(), square()
    want = fs.linear(x, w, w[1])
    assert_same_bits(fs.linear(x, w, w[1], out=w.T), want)


@pytest.mark.parametrize("axis", [0, 1])
def test_both_inputs_and_out_are_one_array(axis, assert_same_bits):
    for function in TWO_INPUTS:
        a = np.random.default_rng(0).standard_normal((7, CLASSES))
        want = function(a.copy(), a.copy(), axis=axis)
        assert_same_bits(function(a, a, axis=axis, out=a), want)


@pytest.mark.parametrize("name", ["labels", "dloss"])
def test_labels_and_dloss_inside_out(name, assert_same_bits):
    """All that is read is read before it is overwritten."""
    z = np.random.default_rng(0).standard_normal((20, CLASSES))
    args = {"labels": np.arange(20) % CLASSES, "dloss": np.linspace(1, 2, 20)}
    want = fs.cross_entropy_with_grad(z, **args, reduction="none")
    out = np.empty_like(z)
    inside = out.reshape(-1)[:20].view(args[name].dtype)
    inside[:] = args[name]
    args[name] = inside
    assert_same_bits(fs.cross_entropy_with_grad(z, **args, reduction="none", out=out), want)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", [CLASSES, 130])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "cross_entropy_with_grad"])
def test_a_mask_inside_out(name, classes, dtype, assert_same_bits):
    """At its beginning, its end, and between elements of it."""
    z, where = np.random.default_rng(0).standard_normal((20, classes)).astype(dtype), np.zeros((20, classes), bool)
    where[np.random.default_rng(1).random(where.shape) < 0.6] = True
    labels = {"labels": where.argmax(axis=1), "reduction": "none"} if name.startswith("cross") else {}
    want = getattr(fs, name)(z, **labels, where=where)
    shape = (20,) if name == "logsumexp" else z.shape
    size = int(np.prod(shape)) * z.itemsize
    for start in (0, 1, where.size // 2, where.size - size if where.size > size else size - where.size):
        room = np.zeros(2 * (where.nbytes + size), np.uint8)
        mask = room[start : start + where.size].view(bool).reshape(where.shape)
        out = room[:size].view(dtype).reshape(shape)
        mask[...] = where
        assert_same_bits(getattr(fs, name)(z, **labels, where=mask, out=out), want)
    if z.itemsize == 4 and name != "logsumexp":
        room = np.zeros((20, 4 * classes), np.uint8)  # a byte of each element
        mask, out = room[:, 1::4].view(bool), room.view(dtype)
        mask[...] = where
        assert_same_bits(getattr(fs, name)(z, **labels, where=mask, out=out), want)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("case", [name for name, *_ in overlaps()])
def test_probabilities_that_overlap_out(case, assert_same_bits):
    p, out = next((p, out) for label, p, out in overlaps() if label == case)
    p[...] = np.abs(p)
    z = np.random.default_rng(1).standard_normal(p.shape)
    want = fs.cross_entropy_with_grad(z, p.copy(), reduction="none")
    assert_same_bits(fs.cross_entropy_with_grad(z, p, reduction="none", out=out), want)


@pytest.mark.parametrize("axis", [0, 1])
def test_probabilities_logits_and_out_are_one_array(axis, dtype, twin, assert_same_bits):
    z, p = np.random.default_rng(0).standard_normal((2, 40, 40)).astype(dtype)
    p = np.abs(p)
    for inputs in ((z, p), (p, p)):
        want = fs.cross_entropy_with_grad(*inputs, axis=axis, reduction="none")
        given = [array.copy() for array in inputs] if inputs[0] is not p else [p.copy()] * 2
        assert_same_bits(fs.cross_entropy_with_grad(*given, axis=axis, reduction="none", out=given[1]), want)
        if inputs[0] is not p:
            given = [array.copy() for array in inputs]
            assert_same_bits(fs.cross_entropy_with_grad(*given, axis=axis, reduction="none", out=given[0]), want)
