"""Every way to the same result gives the same bits; the fused head agrees with its parts to rounding."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax import reference
from fastsoftmax.kernels import operations, tuning
from fastsoftmax.kernels.compiling.jit import Kernel
from fastsoftmax.kernels.regimes import ProductKernels, RowKernels
from tests.definition import mask_of, with_arrays

CLASSES = [1, 2, 3, 10, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 130, 1000]
ROW_BY_ROW = [
    "softmax",
    "log_softmax",
    "logsumexp",
    "softmax_backward",
    "log_softmax_backward",
    "cross_entropy",
    "cross_entropy_with_grad",
]
LAYER = [
    "linear",
    "weight_grad",
    "bias_grad",
    "input_grad",
    "linear_backward",
    "linear_cross_entropy",
    "linear_cross_entropy_with_grad",
]


def like(arguments, change):
    """The same arguments with every array changed."""
    return {name: change(value) if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


@pytest.mark.parametrize("classes", [*CLASSES, 50257])
@pytest.mark.parametrize("name", ROW_BY_ROW + LAYER)
def test_serial_is_parallel(name, classes, force, arguments, assert_same_bits):
    args = arguments(2500 if classes == 10 else 300 if classes < 1000 else 3, classes, np.float32)[name]
    twins = {}
    for twin in ("serial", "parallel"):
        force(twin)
        twins[twin] = getattr(fs, name)(**args)
    assert_same_bits(twins["parallel"], twins["serial"])


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_a_row_alone_is_the_row_in_a_batch(name, classes, dtype, arguments, results, assert_same_bits):
    args = arguments(35, classes, dtype)[name]
    whole = results(getattr(fs, name)(**args))
    for row in range(35):
        alone = getattr(fs, name)(**like(args, lambda array, row=row: array[row : row + 1].copy()))
        assert_same_bits(results(alone), [part[row : row + 1] for part in whole], f"row {row}")


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", CLASSES)
@pytest.mark.parametrize("name", ROW_BY_ROW)
def test_the_place_of_a_row_does_not_matter(name, classes, dtype, arguments, results, assert_same_bits):
    args = arguments(50, classes, dtype)[name]
    whole = results(getattr(fs, name)(**args))
    order = np.random.default_rng(0).permutation(50)
    for rows in (order, slice(3, None), slice(None, None, -7)):
        assert_same_bits(
            results(getattr(fs, name)(**like(args, lambda array, rows=rows: array[rows].copy()))),
            [part[rows] for part in whole],
        )


@pytest.mark.parametrize("classes", [1, 3, 17, 32, 64, 127, 130])
def test_in_place_is_out_of_place(function_with_out, classes, dtype, twin, arguments, results, assert_same_bits):
    """`out`, fresh or any one of the inputs that has the result's shape."""
    function = getattr(fs, function_with_out)
    args = arguments(70, classes, dtype, features=classes)[function_with_out]
    want = results(function(**args))
    out = np.full_like(want[-1], np.nan)
    got = results(function(**args, out=out))
    assert got[-1] is out
    assert_same_bits(got, want)
    for name, value in args.items():
        if isinstance(value, np.ndarray) and (value.shape, value.dtype) == (out.shape, out.dtype):
            fresh = like(args, np.copy)
            got = results(function(**fresh, out=fresh[name]))
            assert got[-1] is fresh[name]
            assert_same_bits(got, want, f"out={name}")


@pytest.mark.parametrize(("rows", "classes"), [(3, 128), (130, 143), (1100, 129), (150, 1000)])
@pytest.mark.parametrize(
    "name", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward", "cross_entropy_with_grad"]
)
def test_streamed_is_stored(name, rows, classes, dtype, twin, arguments, results, assert_same_bits, monkeypatch):
    """Past the caches, at whatever address, as runs of one row and of several, with rows left out in between."""
    args = arguments(rows, classes, dtype)[name]
    if "labels" in args:
        args["labels"][[0, 2, *range(40, rows, 3)]] = -100
    want = results(getattr(fs, name)(**args))
    monkeypatch.setattr(tuning, "STREAM_CLASSES", 0)
    monkeypatch.setattr(tuning, "STREAM_BYTES", 0)
    size = want[-1].size
    for offset in range(0, 17, 3):
        around = np.full(size + 40, 7, dtype)
        out = around[offset : offset + size].reshape(rows, classes)
        assert_same_bits(results(getattr(fs, name)(**args, out=out)), want)
        assert (around[:offset] == 7).all()
        assert (around[offset + size :] == 7).all()


ROUTES = [
    (name, regime)
    for name, kernels in operations.OPERATIONS.items()
    if isinstance(kernels, RowKernels)
    for regime, kernel in kernels._asdict().items()
    if kernel is not None and not regime.startswith("spatial")  # see test_spatial
]


@pytest.mark.parametrize("classes", [2, 31, 60])
@pytest.mark.parametrize(("name", "regime"), ROUTES)
def test_every_route_leads_to_the_result(
    name, regime, classes, dtype, twin, arguments, results, assert_same_bits, monkeypatch
):
    """Whatever kernel of the registry does it; the cached and the streamed one to the bit."""
    args = arguments(70, classes, dtype)[name]
    found = {}
    for route in ("cached", regime):
        monkeypatch.setattr(RowKernels, "choose", lambda kernels, *_, route=route: getattr(kernels, route))
        found[route] = results(getattr(fs, name)(**args))
    if regime == "streamed":
        assert_same_bits(found[regime], found["cached"])
    eps = np.finfo(dtype).eps
    for got, want in zip(found[regime], found["cached"], strict=True):
        np.testing.assert_allclose(got, want, rtol=8 * eps, atol=4 * eps)


@pytest.mark.parametrize("columns", [1, 5, 40])
@pytest.mark.parametrize("regime", ProductKernels._fields)
def test_both_products_lead_to_the_result(regime, columns, dtype, twin, arguments):
    for name in ("linear", "weight_grad", "input_grad"):
        args = arguments(70, columns, dtype)[name]
        kernel = getattr(operations.OPERATIONS[name], regime)
        given = [np.ascontiguousarray(value) for value in args.values()]
        want = getattr(reference, name)(**args)
        got = np.full_like(want, np.nan)
        extra = [] if regime == "narrow" else [False, 2] if name == "weight_grad" else [2]
        getattr(kernel, twin)(*given, got, *extra)
        np.testing.assert_allclose(got, want, rtol=0, atol=200 * np.finfo(dtype).eps * np.abs(want).max())


def test_the_registry_has_every_kernel():
    modules = [module for name, module in sys.modules.items() if name.startswith("fastsoftmax.kernels.")]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Kernel)}
    assert {kernel for kernel in found if kernel._kept} == set(operations.kernels())


def test_regimes():
    """Each is reached, and in place never streams."""
    choose = RowKernels(1, 2, 3).choose
    wide = np.empty((tuning.STREAM_BYTES // (8_000 * 4), 8_000), np.float32)
    assert choose([wide], np.empty_like(wide)) == 3
    assert choose([wide], wide) == 2
    assert choose([np.empty_like(wide), wide], wide) == 2
    assert choose([wide[:-1]], np.empty_like(wide[:-1])) == 2
    for dtype, many in tuning.FEW_CLASSES.items():
        for classes, kernel in ((many, 2), (many - 1, 1)):
            narrow = np.empty((2**17, classes), dtype)
            assert choose([narrow], np.empty_like(narrow)) == kernel
    for classes, kernel in ((tuning.STREAM_CLASSES, 3), (tuning.STREAM_CLASSES - 1, 2)):
        many = np.empty((2**26 // classes, classes), np.float32)
        assert choose([many], np.empty_like(many)) == kernel


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("classes", CLASSES)
def test_loss_with_and_without_gradient(classes, reduction, dtype, rows_that_hurt, assert_same_bits):
    z, y = rows_that_hurt(70, classes, dtype)
    y[::6] = -100
    loss = fs.cross_entropy(z, y, reduction=reduction)
    assert_same_bits(fs.cross_entropy_with_grad(z, y, reduction=reduction)[0], loss)
    dloss = 3.0 if reduction != "none" else np.arange(70.0)
    assert_same_bits(fs.cross_entropy_with_grad(z, y, reduction=reduction, dloss=dloss)[0], loss)


@pytest.mark.usefixtures("serial")
@pytest.mark.parametrize("classes", CLASSES)
def test_gradient_of_the_sum_and_of_each_row(classes, dtype, rows_that_hurt, assert_same_bits):
    z, y = rows_that_hurt(70, classes, dtype)
    _, rows = fs.cross_entropy_with_grad(z, y, reduction="none")
    _, total = fs.cross_entropy_with_grad(z, y, reduction="sum")
    _, ones = fs.cross_entropy_with_grad(z, y, reduction="none", dloss=np.ones(70, dtype))
    assert_same_bits([total, ones], [rows, rows])


@pytest.mark.parametrize(("rows", "features", "classes"), [(300, 7, 10), (70, 33, 64), (2500, 20, 3)])
def test_parts_of_linear_backward(rows, features, classes, dtype, twin, arguments, assert_same_bits):
    args = arguments(rows, classes, dtype, features)["linear_backward"]
    x, w, dz = args.values()
    parts = fs.LinearGrads(fs.input_grad(dz, w), fs.weight_grad(x, dz), fs.bias_grad(dz))
    assert_same_bits(fs.linear_backward(**args), parts)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("with_bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize(("rows", "features", "classes"), [(1, 3, 2), (300, 7, 10), (70, 33, 64), (2500, 20, 3)])
def test_fused_head_is_its_parts(rows, features, classes, with_bias, reduction, dtype, twin, arguments):
    args = arguments(rows, classes, dtype, features)["linear_cross_entropy"]
    x, w, b, y = args["inputs"], args["weight"], args["bias"] if with_bias else None, args["labels"]
    y[::5] = -100
    y[0] = 0
    loss, dz = fs.cross_entropy_with_grad(fs.linear(x, w, b), y, reduction=reduction)
    parts = fs.linear_backward(x, w, dz)
    close = {"rtol": 1000 * np.finfo(dtype).eps, "atol": 100 * np.finfo(dtype).eps}
    np.testing.assert_allclose(fs.linear_cross_entropy(x, w, b, y, reduction=reduction), loss, **close)
    fused_loss, fused = fs.linear_cross_entropy_with_grad(x, w, b, y, reduction=reduction)
    np.testing.assert_allclose(fused_loss, loss, **close)
    for name, got, want in zip(parts._fields, fused, parts, strict=True):
        if name == "dbias" and not with_bias:
            assert got is None
        else:
            atol = close["atol"] * np.abs(want).max()
            np.testing.assert_allclose(got, want, rtol=close["rtol"], atol=atol, err_msg=name)


@pytest.mark.parametrize("classes", [10, 70])
def test_head_without_the_gradient_of_the_inputs(classes, dtype, twin, arguments, assert_same_bits):
    args = arguments(300, classes, dtype)["linear_cross_entropy_with_grad"]
    loss, grads = fs.linear_cross_entropy_with_grad(**args)
    got, some = fs.linear_cross_entropy_with_grad(**args, inputs_grad=False)
    assert some.dinputs is None
    assert_same_bits((got, some), (loss, grads._replace(dinputs=None)))


def test_head_without_features():
    x, w, y = np.empty((50, 0), np.float32), np.empty((0, 70), np.float32), np.arange(50)
    loss, grads = fs.linear_cross_entropy_with_grad(x, w, None, y, workspace=1)
    np.testing.assert_allclose(loss, np.log(70), rtol=1e-6)
    assert (grads.dinputs.shape, grads.dweight.shape) == (x.shape, w.shape)


@pytest.mark.parametrize("workspace", [1, 5000])
@pytest.mark.parametrize("classes", [10, 70, 130])
def test_head_in_chunks(classes, workspace, dtype, twin, arguments, results):
    """One row at a time, or some."""
    args = arguments(70, classes, dtype)["linear_cross_entropy_with_grad"]
    args["labels"][3:50] = -100
    eps = np.finfo(dtype).eps
    whole = fs.linear_cross_entropy_with_grad(**args)
    chunks = fs.linear_cross_entropy_with_grad(**args, workspace=workspace)
    for got, want in zip(results(chunks), results(whole), strict=True):
        np.testing.assert_allclose(got, want, rtol=1000 * eps, atol=100 * eps * np.abs(want).max())
    loss = fs.linear_cross_entropy(**args, workspace=workspace)
    np.testing.assert_allclose(loss, whole[0], rtol=1000 * eps)


# Number of threads -----------------------------------------------------------------------------------------------

# The number of threads is limited by what Numba was started with, so more threads than cores need a new process.
IN_NEW_PROCESS = """
import pickle, sys
import numba
import fastsoftmax as fs
calls = pickle.load(sys.stdin.buffer)
results = []
for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
    numba.set_num_threads(threads)
    results.append([getattr(fs, name)(**arguments) for name, arguments in calls])
pickle.dump(results, sys.stdout.buffer)
"""


def cancelling(rows, columns, dtype):
    """Columns that add up to zero and to nothing but rounding: another order of the sum is another result."""
    rng = np.random.default_rng(columns)
    half = rng.standard_normal((rows // 2, columns)) * 10.0 ** rng.uniform(-9, 9, (rows // 2, columns))
    return rng.permutation(np.concatenate([half, -half])).astype(dtype)


def on_one_to_five_threads(calls):
    """The results of calls in a process of its own, on each number of Numba's threads: no one has as many cores."""
    run = subprocess.run(
        [sys.executable, "-c", IN_NEW_PROCESS],
        input=pickle.dumps(calls),
        env={**os.environ, "NUMBA_NUM_THREADS": "5", "PYTHONPATH": str(Path(fs.__file__).parents[1])},
        capture_output=True,
        timeout=600,
    )
    assert run.returncode == 0, run.stderr.decode()
    by_threads = pickle.loads(run.stdout)
    assert len(by_threads) == 5
    return by_threads


def on_axis_1(arguments):
    """Arguments of a function of rows, as four images with the classes on axis 1."""
    images = like(arguments, lambda array: array.reshape(4, -1, *array.shape[1:]))
    return {**like(images, lambda array: np.moveaxis(array, -1, 1).copy() if array.ndim == 3 else array), "axis": 1}


# Not all in float64: each parallel kernel takes seconds to compile.
IN_FLOAT64 = ["softmax", "logsumexp", "cross_entropy_with_grad", "linear_cross_entropy_with_grad"]


def test_same_bits_on_any_number_of_threads(dtype, arguments, force, assert_same_bits):
    """With sizes above every cutoff: blocks, strips and ragged ends."""
    some = ROW_BY_ROW + LAYER if dtype == np.float32 else IN_FLOAT64
    calls = [(name, args) for name, args in arguments(301, 130, dtype).items() if name in some and name in ROW_BY_ROW]
    calls += [(name, args) for name, args in arguments(5003, 10, dtype, 9).items() if name in some]
    calls += [(name, args) for name, args in arguments(503, 130, dtype, 300).items() if name in some and name in LAYER]
    shapes = (5002, 10), (5002, 600), (602, 33_000)  # blocks, and a span of columns that ends amid them
    calls += [("bias_grad", {"doutputs": cancelling(*shape, dtype)}) for shape in shapes]
    calls += [("weight_grad", {"inputs": np.ones((5002, 9), dtype), "doutputs": cancelling(5002, 10, dtype)})]
    for shape in ((301, 130), (5003, 10)):  # log-probabilities, of which m and log Σ cancel
        calls += [("logsumexp", {"logits": reference.log_softmax(**arguments(*shape, dtype)["logsumexp"])})]
    long = {"logits": np.random.default_rng(0).standard_normal((1, 2**21 + 77)).astype(dtype)}  # in blocks
    calls += [("softmax", long), ("logsumexp", long), ("cross_entropy_with_grad", long | {"labels": [2**20]})]
    calls += [
        (name, {**args, "reduction": reduction})
        for name, args in arguments(5003, 10, dtype).items()
        for reduction in ("mean", "sum")
        if name.startswith("cross_entropy") and name in some
    ]
    for rows, classes in ((5_004, 21), (604, 130)):
        calls += [
            (name, on_axis_1(args))
            for name, args in arguments(rows, classes, dtype).items()
            if name in some and name in ROW_BY_ROW
        ]
    by_threads = on_one_to_five_threads(calls)
    force("serial")
    want = [getattr(fs, name)(**args) for name, args in calls]
    for threads, got in enumerate(by_threads, start=1):
        for (name, _), a, b in zip(calls, got, want, strict=True):
            assert_same_bits(a, b, f"{name}, {threads} threads")


@pytest.mark.exhaustive
def test_same_bits_of_half_types_on_any_number_of_threads(arguments, force, assert_same_bits):
    """Rows in every regime, sums over rows, and products that are rounded when they are done."""
    calls = [("softmax", {"logits": np.random.default_rng(0).standard_normal((1, 2**21 + 77)).astype(np.float16)})]
    for rows, classes, names in (
        (5_003, 10, ["cross_entropy_with_grad", "weight_grad", "bias_grad", "linear_cross_entropy_with_grad"]),
        (301, 130, ["softmax", "linear", "input_grad", "linear_cross_entropy_with_grad"]),
    ):
        for name in names:
            given = arguments(rows, classes, np.float32, 9)[name]
            with np.errstate(over="ignore"):
                given = like(given, lambda array: array.astype(np.float16) if array.dtype.kind == "f" else array)
            calls.append((name, given))
    by_threads = on_one_to_five_threads(calls)
    force("serial")
    want = [getattr(fs, name)(**args) for name, args in calls]
    for threads, got in enumerate(by_threads, start=1):
        for (name, _), a, b in zip(calls, got, want, strict=True):
            assert_same_bits(a, b, f"{name}, {threads} threads")


# What each row has its own of, masks and probabilities and statistics, is in these.
WITH_OPTIONS = [
    {"softcap": 30.0, "scale": 0.7, "where": "kept", "sample_weight": True, "z_loss": 0.5},
    {"return_stats": True, "softcap": 5.0, "probabilities": True, "label_smoothing": 0.1},
]


def test_same_bits_on_any_number_of_threads_with_options(arguments, force, assert_same_bits):
    """Every regime and the head, rows of each of which are shared among the threads."""
    calls = []
    for rows, classes in ((5_003, 10), (301, 130), (1, 2**21 + 77)):
        z = np.random.default_rng(classes).standard_normal((rows, classes)).astype(np.float32)
        y = np.random.default_rng(rows).integers(classes, size=rows)
        of_logits = {"logits": z, "scale": 0.7, "where": mask_of(y, classes, "kept")}
        calls += [(name, of_logits) for name in ("softmax", "log_softmax", "logsumexp")]
        for options in WITH_OPTIONS:
            args = {"logits": z, **with_arrays(options, y, classes, np.float32)}
            calls += [("cross_entropy", args | {"reduction": "none"}), ("cross_entropy_with_grad", args)]
            if "return_stats" not in options and rows > 1:
                calls += [("cross_entropy_hvp", args | {"vector": z})]
            if rows > 1:
                layer = arguments(rows, classes, np.float32, 9)["linear_cross_entropy"]
                args = {**layer, **{name: value for name, value in args.items() if name not in ("logits", "where")}}
                calls += [("linear_cross_entropy", args), ("linear_cross_entropy_with_grad", args)]
    by_threads = on_one_to_five_threads(calls)
    force("serial")
    want = [getattr(fs, name)(**args) for name, args in calls]
    for threads, got in enumerate(by_threads, start=1):
        for (name, _), a, b in zip(calls, got, want, strict=True):
            assert_same_bits(a, b, f"{name}, {threads} threads")
