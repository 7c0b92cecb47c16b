"""A weight that is the transpose of a contiguous (C, D) array, as layers of PyTorch have it, is taken as it lies.

The bits are those of the (D, C) form: `test_against_reference`, `test_gemm` and `test_half_types` hold both to their
accuracy, `test_guard_pages` to their places.
"""

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import LinearGrads, threads
from fastsoftmax.kernels import cross_entropy, tuning
from fastsoftmax.kernels.compiling.dispatchers import DISPATCHERS
from fastsoftmax.kernels.compiling.jit import Weight, probe

HEAD = fs.linear_cross_entropy_with_grad
OF_A_WEIGHT = ["linear", "input_grad", "linear_backward", "linear_cross_entropy", "linear_cross_entropy_with_grad"]
ROWS, FEATURES = 70, 33
CLASSES = [10, 20, 40, 130]  # narrow products; z by a wide one; ∂L/∂W too; and the head in chunks
OPTIONS = {"label_smoothing": 0.1, "softcap": 5.0, "reduction": "none", "return_stats": True}


def transposed(array):
    """The same numbers as the transpose of a C-contiguous array."""
    return np.array(array.T, order="C").T


def is_transposed(array):
    return array.flags.fnc and array.T.flags.c_contiguous


def grads_of(result):
    """The gradients among what a call gave."""
    parts = result if type(result) is tuple else (result,)
    return next((part for part in parts if isinstance(part, LinearGrads)), None)


@pytest.fixture
def call(arguments):
    """A function that gives a public function's arguments, of any dtype."""

    def make(name, classes, dtype, rows=ROWS):
        args = arguments(rows, classes, np.float32 if np.dtype(dtype).itemsize == 2 else dtype, FEATURES)[name]
        floats = {key for key, value in args.items() if getattr(value, "dtype", None) == np.float32}
        return {key: value.astype(dtype) if key in floats else value for key, value in args.items()}

    return make


def assert_same_as_the_other_form(name, args, assert_same_bits, **options):
    want = getattr(fs, name)(**args, **options)
    got = getattr(fs, name)(**{**args, "weight": transposed(args["weight"])}, **options)
    assert_same_bits(got, want)
    if grads_of(got):
        assert is_transposed(grads_of(got).dweight)
        assert grads_of(want).dweight.flags.c_contiguous


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OF_A_WEIGHT)
def test_same_bits(name, classes, dtype, twin, call, assert_same_bits):
    assert_same_as_the_other_form(name, call(name, classes, dtype), assert_same_bits)


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OF_A_WEIGHT)
def test_same_bits_of_half_types(name, classes, half, serial, call, assert_same_bits):
    assert_same_as_the_other_form(name, call(name, classes, half), assert_same_bits)


@pytest.mark.parametrize("classes", [10, 130])
@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_cross_entropy_with_grad"])
def test_same_bits_with_options_and_in_chunks(name, classes, dtype, serial, call, assert_same_bits):
    args = call(name, classes, dtype, rows=300)
    more = {"class_weight": np.linspace(0, 2, classes), "workspace": 50_000}
    assert_same_as_the_other_form(name, args, assert_same_bits, **OPTIONS, **more)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (0, 5), (5, 0), (3, 2)], ids=str)
@pytest.mark.parametrize("name", ["linear", "input_grad", "linear_backward"])
def test_odd_shapes(name, shape, dtype, serial, assert_same_bits):
    """With one row or column both forms lie alike, and without one there is nothing."""
    features, classes = shape
    rng = np.random.default_rng(0)
    x, w, dz = (rng.standard_normal(s).astype(dtype) for s in ((7, features), shape, (7, classes)))
    args = {"linear": (x,), "input_grad": (dz,), "linear_backward": (x,)}[name]
    last = (dz,) if name == "linear_backward" else ()
    got = getattr(fs, name)(*args, transposed(w), *last)
    assert_same_bits(got, getattr(fs, name)(*args, w, *last))
    if name == "linear_backward":
        assert got.dweight.T.flags.c_contiguous


def test_streamed_input_gradients(dtype, twin, monkeypatch, assert_same_bits):
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    rng = np.random.default_rng(0)
    dz, w = (rng.standard_normal(shape).astype(dtype) for shape in ((300, 10), (64, 10)))
    assert_same_bits(fs.input_grad(dz, transposed(w)), fs.input_grad(dz, w))


@pytest.fixture
def seen(monkeypatch):
    """The arrays that kernels are given."""
    arrays = []

    def run(kernel, elements, *args):
        arrays.extend(argument for argument in args if isinstance(argument, np.ndarray))
        kernel.serial(*args)

    monkeypatch.setattr(threads, "run", run)
    return arrays


def lies_as(array, other):
    return (array.ctypes.data, array.strides, array.shape) == (other.ctypes.data, other.strides, other.shape)


@pytest.mark.parametrize("kind", ["writable", "read-only"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", OF_A_WEIGHT)
def test_kernels_get_the_weight_itself(name, classes, dtype, kind, call, seen):
    """And the gradient that is given back, or for wide products of half types its sums in float32."""
    args = call(name, classes, np.dtype(dtype))
    args["weight"] = transposed(args["weight"])
    args["weight"].flags.writeable = kind == "writable"
    grads = grads_of(getattr(fs, name)(**args))
    of_its_shape = [array for array in seen if array.shape == (FEATURES, classes)]
    assert any(lies_as(array, args["weight"]) for array in of_its_shape)
    others = [array for array in of_its_shape if not lies_as(array, args["weight"])]
    if dtype == "float16":
        others = [array for array in others if array.itemsize == 2]
    assert all(grads is not None and lies_as(array, grads.dweight) for array in others)
    assert all(map(is_transposed, of_its_shape))


def test_read_only_weights_compile_nothing(call):
    args = call("linear_cross_entropy_with_grad", 10, np.float32)
    args["weight"] = transposed(args["weight"])
    HEAD(**args)
    before = [dispatcher.signatures for dispatcher in DISPATCHERS]
    args["weight"].flags.writeable = False
    HEAD(**args)
    assert [dispatcher.signatures for dispatcher in DISPATCHERS] == before


def test_integers_lists_and_other_orders_of_bytes(call, assert_same_bits):
    args = call("linear_cross_entropy_with_grad", 10, np.float64)
    weight = np.rint(4 * args["weight"])
    want = HEAD(**{**args, "weight": weight})
    for same in (weight.astype(int), weight.astype(">f8")):
        got = HEAD(**{**args, "weight": transposed(same)})
        assert_same_bits(got, want)
        assert is_transposed(got[1].dweight)
    assert HEAD(**{**args, "weight": weight.tolist()})[1].dweight.flags.c_contiguous


# out -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ["head", "weight_grad"])
def test_out_is_written_as_it_lies(name, classes, dtype, seen, call, assert_same_bits):
    """Whatever lies around it stays."""
    key = "linear_cross_entropy_with_grad" if name == "head" else "weight_grad"
    args = call(key, classes, dtype)
    want = getattr(fs, key)(**args)
    dweight = want[1].dweight if name == "head" else want
    memory = np.full(dweight.size + 64, 7, dtype)
    out = memory[32:-32].reshape(dweight.shape[::-1]).T
    seen.clear()
    if name == "head":
        weight = transposed(args["weight"])
        got = HEAD(**{**args, "weight": weight}, out=LinearGrads(None, out, None))
        assert got[1].dweight is out
    else:
        got = fs.weight_grad(**args, out=out)
        assert got is out
    assert any(lies_as(array, out) for array in seen)
    assert_same_bits(got, want)
    assert (memory[:32] == 7).all()
    assert (memory[-32:] == 7).all()


@pytest.mark.parametrize("classes", [10, 130])
def test_out_of_the_other_form(classes, half, call, assert_same_bits):
    """And one that is neither, or the weight itself, or inside of the inputs."""
    for dtype in (np.float32, half):
        args = call("linear_cross_entropy_with_grad", classes, dtype)
        want = HEAD(**args)
        turned = {**args, "weight": transposed(args["weight"])}
        for given, form in ((args, transposed), (turned, np.copy), (turned, lambda a: np.repeat(a, 2, 1)[:, ::2])):
            out = form(np.full_like(args["weight"], 7))
            got = HEAD(**given, out=LinearGrads(None, out, None))
            assert got[1].dweight is out
            assert_same_bits(got, want)
        got = HEAD(**turned, out=LinearGrads(None, turned["weight"], None))
        assert got[1].dweight is turned["weight"]
        assert_same_bits(got, want)
        x = np.zeros((ROWS, 2 * args["weight"].size), dtype)[:, :FEATURES]
        x[...] = args["inputs"]
        inside = x.base[0, FEATURES - 5 :][: args["weight"].size].reshape(classes, FEATURES).T
        turned = {**args, "weight": transposed(args["weight"]), "inputs": x}
        assert_same_bits(HEAD(**turned, out=LinearGrads(None, inside, None)), want)


@pytest.mark.parametrize("classes", [10, 130])
def test_no_rows(classes, dtype, assert_same_bits):
    x, w, y = np.zeros((0, 5), dtype), np.ones((5, classes), dtype), np.zeros(0, int)
    got, want = HEAD(x, transposed(w), None, y), HEAD(x, w, None, y)
    assert_same_bits(got, want)
    assert is_transposed(got[1].dweight)
    assert_same_bits(fs.linear_backward(x, transposed(w), np.zeros((0, classes), dtype)).dweight, np.zeros_like(w))


# What does not fit -------------------------------------------------------------------------------------------------


def test_a_weight_that_was_not_transposed(call):
    args = call("linear_cross_entropy_with_grad", 10, np.float32)
    for name in ("linear", "linear_cross_entropy", "linear_cross_entropy_with_grad"):
        given = {**call(name, 10, np.float32), "weight": args["weight"].T}
        with pytest.raises(ValueError, match=r"^weight: expected shape \(33, any\), got shape \(10, 33\)"):
            getattr(fs, name)(**given)
    given = {**args, "weight": transposed(args["weight"])}
    with pytest.raises(ValueError, match=r"^out.dweight: expected shape \(33, 10\), got \(10, 33\)"):
        HEAD(**given, out=LinearGrads(None, args["weight"].T.copy(), None))
    read_only = transposed(args["weight"])
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match=r"^out.dweight: expected a writable array"):
        HEAD(**given, out=LinearGrads(None, read_only, None))


def test_kernels_refuse_other_transposed_arrays():
    """Where they are compiled: they would take the numbers of one row for those of another."""
    z = transposed(np.ones((3, 5)))
    with pytest.raises(Exception, match="expected an array of order C, got"):
        cross_entropy.cross_entropy.serial(z, np.zeros(3, int), -100, np.zeros(3))

    @probe
    def first_row(weight: Weight, row):
        row[0] = weight[0][0]

    with pytest.raises(TypeError, match="expected a C-contiguous array to take rows of"):
        first_row.serial(z, np.empty(1))
