"""Parts of chunks: merged they are the whole, with the same bits for the same tree, whoever computed them."""

import copy
import functools
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.kernels import tuning
from fastsoftmax.parts import (
    LayerSums,
    Part,
    linear_cross_entropy_hvp_part,
    linear_cross_entropy_part,
    merge,
)
from tests.conftest import DTYPES, HALVES
from tests.definition import of_rows, with_arrays

CUTS = [0, 7, 7, 40, 41, 100]  # chunks of several lengths, one of them empty
CHUNKS = [slice(*ends) for ends in itertools.pairwise(CUTS)]
OPTIONS = [
    {},
    {"class_weight": True},
    {"sample_weight": True},
    {"label_smoothing": 0.1},
    {"z_loss": 0.5, "softcap": 5.0, "scale": 0.7},
    {"probabilities": True},
    {"probabilities": True, "class_weight": True, "sample_weight": True, "label_smoothing": 0.3},
    {"class_weight": True, "sample_weight": True, "label_smoothing": 0.3, "z_loss": 0.1, "softcap": 9.0, "scale": 2.0},
]
BY_OPTIONS = pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
BY_DTYPE = pytest.mark.parametrize("dtype", DTYPES + HALVES, ids=lambda dtype: np.dtype(dtype).name)
MANY = tuning.HEAD_FEW_CLASSES + 3  # the head's other way, logits in a workspace


def layer_of(rows, features, classes, dtype, options):
    """Rows, a layer and labels, some of them ignored, with the options that there are."""
    rng = np.random.default_rng([rows, features, classes])
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((rows, features), (features, classes), classes))
    y = rng.integers(classes, size=rows)
    options = with_arrays(options, y, classes, np.float32 if np.dtype(dtype).itemsize == 2 else dtype)
    if options["labels"].ndim == 1:
        options["labels"][::9] = -100
    return x, w, b, options


def parts_of(x, w, b, options, chunks=CHUNKS):
    return [linear_cross_entropy_part(x[rows], w, b, **of_rows(options, rows)) for rows in chunks]


def exact(x, w, b, options):
    """The whole's loss, divisor, and sums of gradients, of float64 arrays."""
    wide = [each.astype(np.float64) for each in (x, w, b)]
    options = {
        name: each.astype(np.float64) if isinstance(each, np.ndarray) and each.dtype.kind == "f" else each
        for name, each in options.items()
    }
    loss, grads = fs.linear_cross_entropy_with_grad(*wide, **options, reduction="sum")
    return loss, loss / fs.linear_cross_entropy(*wide, **options), grads


@pytest.mark.parametrize("lies", ["C", "F"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("classes", [5, MANY])
@BY_DTYPE
@BY_OPTIONS
def test_merged_chunks_are_the_whole(options, dtype, classes, bias, lies):
    x, w, b, options = layer_of(100, 6, classes, dtype, options)
    w, b = np.asarray(w, order=lies), b if bias else None
    part = functools.reduce(merge, parts_of(x, w, b, options))
    loss, divisor, grads = exact(x, w, np.zeros(classes) if b is None else b, options)
    eps = np.finfo(np.float64 if dtype == np.float64 else np.float32).eps
    np.testing.assert_allclose(part.loss, loss, rtol=20 * eps)
    np.testing.assert_allclose(part.divisor, divisor, rtol=1e-12)
    np.testing.assert_allclose(part.dweight, grads.dweight, rtol=0, atol=20 * eps * np.abs(grads.dweight).max())
    np.testing.assert_allclose(part.dbias, grads.dbias, rtol=0, atol=20 * eps * max(1, np.abs(grads.dbias).max()))
    assert {part.dweight.dtype, part.dbias.dtype} == {np.dtype(np.float64)}
    assert type(part.loss) is type(part.divisor) is float


@BY_OPTIONS
def test_mean_is_that_of_the_whole(options):
    x, w, b, options = layer_of(100, 6, 5, np.float64, options)
    loss, grads = functools.reduce(merge, parts_of(x, w, b, options)).mean()
    want_loss, want = fs.linear_cross_entropy_with_grad(x, w, b, **options)
    np.testing.assert_allclose(loss, want_loss, rtol=1e-14)
    np.testing.assert_allclose(grads.dweight, want.dweight, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(grads.dbias, want.dbias, rtol=1e-12, atol=1e-15)
    assert grads.dinputs is None


@BY_DTYPE
def test_empty_chunk(dtype):
    """It adds nothing, and changes no bit."""
    x, w, b, options = layer_of(100, 6, 5, dtype, {})
    empty = linear_cross_entropy_part(x[:0], w, b, options["labels"][:0])
    assert (empty.loss, empty.divisor) == (0, 0)
    assert not empty.dweight.any()
    assert not empty.dbias.any()
    part = linear_cross_entropy_part(x, w, b, **options)
    for both in (merge(empty, part), merge(part, empty)):
        for got, want in zip(both, part, strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("classes", [5, MANY])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_for_the_same_tree(dtype, classes, assert_same_bits):
    """In any order of computing, on threads, and after a part was pickled."""
    x, w, b, options = layer_of(100, 6, classes, dtype, {"sample_weight": True})
    want = functools.reduce(merge, parts_of(x, w, b, options))
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda rows: parts_of(x, w, b, options, [rows])[0], CHUNKS))
    assert_same_bits(functools.reduce(merge, parts), want)
    backwards = parts_of(x, w, b, options, CHUNKS[::-1])[::-1]
    assert_same_bits(functools.reduce(merge, [pickle.loads(pickle.dumps(part)) for part in backwards]), want)
    assert_same_bits(merge(parts[2], parts[3]), merge(parts[3], parts[2]))


def test_same_bits_serial_or_parallel(force, assert_same_bits):
    x, w, b, options = layer_of(3_000, 6, 5, np.float32, {})
    found = []
    for twin in ("serial", "parallel"):
        force(twin)
        found.append(linear_cross_entropy_part(x, w, b, **options))
    assert_same_bits(*found)


def test_merge_leaves_what_it_merges():
    x, w, b, options = layer_of(100, 6, 5, np.float64, {})
    parts = parts_of(x, w, b, options)
    before = copy.deepcopy(parts)
    functools.reduce(merge, parts)
    for part, was in zip(parts, before, strict=True):
        for got, want in zip(part, was, strict=True):
            np.testing.assert_array_equal(got, want)


def test_losses_are_not_rounded_by_chunk():
    """Small ones beside a large one, which a float32 would lose."""
    large, w = 2.0**27, np.array([[-1, 0]], np.float32)
    x = np.zeros((11, 1), np.float32)
    x[0] = large
    y = np.zeros(11, int)
    parts = parts_of(x, w, None, {"labels": y}, [slice(0, 6), slice(6, 11)])
    np.testing.assert_allclose(merge(*parts).loss - large, 10 * np.log(2), rtol=1e-6)
    assert float(fs.linear_cross_entropy(x, w, None, y, reduction="sum")) in (large, large + 16)


def test_sums_that_a_half_type_cannot_hold(half):
    rows = 4_000
    x, w = np.full((rows, 2), 40, half), np.zeros((2, 2), half)
    part = linear_cross_entropy_part(x, w, None, np.zeros(rows, int))
    np.testing.assert_array_equal(part.dweight, np.full((2, 2), 20.0 * rows) * [-1, 1])


@pytest.mark.parametrize(
    ("labels", "options", "loss"),
    [
        ([-100, -100], {}, np.nan),
        ([0, 1], {"sample_weight": [0, 0]}, np.nan),
        ([0, 0], {"class_weight": [0, 1]}, np.nan),
        ([0, 0], {"class_weight": [0, 1], "label_smoothing": 0.1}, np.inf),
    ],
    ids=["ignored", "samples of weight 0", "a class of weight 0", "smoothed"],
)
def test_mean_where_nothing_counts(labels, options, loss):
    """The loss is that of `linear_cross_entropy`; gradients are zero, and leave a layer as it is."""
    x, w = np.ones((2, 3)), np.arange(6.0).reshape(3, 2)
    got, grads = linear_cross_entropy_part(x, w, None, labels, **options).mean()
    np.testing.assert_equal(got, loss)
    np.testing.assert_equal(float(fs.linear_cross_entropy(x, w, None, labels, **options)), loss)
    np.testing.assert_array_equal(grads.dweight, np.zeros((3, 2)))
    np.testing.assert_array_equal(grads.dbias, np.zeros(2))


def hvp_of(x, w, b, vector, options, chunks=CHUNKS):
    parts = [linear_cross_entropy_hvp_part(x[rows], w, b, vector=vector, **of_rows(options, rows)) for rows in chunks]
    return functools.reduce(merge, parts)


def vector_of(w, b):
    rng = np.random.default_rng(1)
    return tuple(rng.standard_normal(each.shape).astype(each.dtype) for each in (w, b))


@BY_OPTIONS
def test_hvp_against_differences_of_the_gradient(options):
    x, w, b, options = layer_of(100, 6, 5, np.float64, options)
    v, c = vector_of(w, b)
    step = 1e-5
    ahead, behind = (
        functools.reduce(merge, parts_of(x, w + sign * step * v, b + sign * step * c, options)) for sign in (1, -1)
    )
    got = hvp_of(x, w, b, (v, c), options)
    for name, wanted in (("weight", "dweight"), ("bias", "dbias")):
        want = (getattr(ahead, wanted) - getattr(behind, wanted)) / (2 * step)
        np.testing.assert_allclose(getattr(got, name), want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("lies", ["C", "F"])
@pytest.mark.parametrize("workspace", [1, 1_000, 2**20])
@pytest.mark.parametrize("classes", [5, MANY])
@BY_DTYPE
@BY_OPTIONS
def test_hvp_by_hand(options, dtype, classes, workspace, lies):
    """Xᵀ·u and the sum of u, of the loss's own product u, in float64: chunked or not."""
    x, w, b, options = layer_of(100, 6, classes, dtype, options)
    v, c = vector_of(w, b)
    got = hvp_of(x, np.asarray(w, order=lies), b, (v, c), {**options, "workspace": workspace})
    wide = np.float64
    x, w, b, v, c = (each.astype(wide) for each in (x, w, b, v, c))
    u = fs.cross_entropy_hvp(fs.linear(x, w, b), vector=fs.linear(x, v, c), **options, reduction="sum")
    eps = np.finfo(np.float64 if dtype == np.float64 else np.float32).eps
    for part, want in zip(got, (x.T @ u, u.sum(axis=0)), strict=True):
        assert part.dtype == np.float64
        np.testing.assert_allclose(part, want, rtol=0, atol=40 * eps * max(1, np.abs(want).max()))


def test_hvp_of_no_rows():
    x, w, b, options = layer_of(100, 6, 5, np.float32, {})
    got = linear_cross_entropy_hvp_part(x[:0], w, b, options["labels"][:0], vector_of(w, b))
    np.testing.assert_array_equal(got.weight, np.zeros((6, 5)))
    np.testing.assert_array_equal(got.bias, np.zeros(5))


def test_hvp_takes_lists_and_no_bias():
    x, w, _, options = layer_of(100, 6, 5, np.float32, {})
    v, c = np.ones_like(w), np.ones(5, np.float32)
    v[0] = 2
    want = linear_cross_entropy_hvp_part(x, w, np.zeros(5, np.float32), options["labels"], (v, c))
    for vector in ((v.tolist(), [1] * 5), (v.astype(int), c), LayerSums(v, c)):
        got = linear_cross_entropy_hvp_part(x, w, None, options["labels"], vector)
        for part, like in zip(got, want, strict=True):
            np.testing.assert_array_equal(part, like)


GOOD = (np.ones((3, 2), np.float32), np.ones(2, np.float32))


@pytest.mark.parametrize(
    ("vector", "error", "message"),
    [
        (GOOD[0], TypeError, "vector: expected a tuple of two arrays, got ndarray"),
        (None, TypeError, "vector: expected a tuple of two arrays, got NoneType"),
        (GOOD[:1], TypeError, "vector: expected a tuple of two arrays, got 1 of them"),
        ((*GOOD, 1), TypeError, "vector: expected a tuple of two arrays, got 3 of them"),
        ((GOOD[0].T, GOOD[1]), ValueError, r"vector: expected shape (3, 2) like weight, got (2, 3)"),
        ((GOOD[0], GOOD[1][:1]), ValueError, r"vector: expected shape (2,) like bias, got (1,)"),
        ((GOOD[0].astype(float), GOOD[1]), TypeError, "vector: expected float32 like weight, got float64"),
        ((GOOD[0], GOOD[1].astype(float)), TypeError, "vector: expected float32 like bias, got float64"),
        (
            (GOOD[0] > 0, GOOD[1]),
            TypeError,
            "vector: expected float32, float64, float16, bfloat16 or integers, got bool",
        ),
    ],
)
def test_vectors_that_do_not_fit(vector, error, message):
    x, w, b = np.ones((4, 3), np.float32), *GOOD
    with pytest.raises(error) as raised:
        linear_cross_entropy_hvp_part(x, w, b, [0, 1, 1, 0], vector)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"labels": [0, 1, 2, 0]}, ValueError, "labels: expected classes 0 to 1 or ignore_index -100, got 2 in row 2"),
        ({"labels": [0, 1]}, ValueError, "labels: expected shape (4,), got (2,)"),
        ({"inputs": np.ones((4, 2), np.float32)}, ValueError, "weight: expected shape (2, any), got shape (3, 2)"),
        ({"bias": np.ones(3, np.float32)}, ValueError, "bias: expected shape (2,), got (3,)"),
        ({"sample_weight": [1, 2]}, ValueError, "sample_weight: expected shape (4,), a weight for each row, got (2,)"),
        ({"label_smoothing": 2}, ValueError, "label_smoothing: expected a number from 0 to 1, got 2"),
        ({"workspace": 0}, ValueError, "workspace: expected a positive number of bytes, got 0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_arguments_that_do_not_fit(change, error, message):
    given = {"inputs": np.ones((4, 3), np.float32), "weight": GOOD[0], "bias": GOOD[1], "labels": [0, 1, 1, 0]} | change
    for call in (linear_cross_entropy_part, functools.partial(linear_cross_entropy_hvp_part, vector=GOOD)):
        with pytest.raises(error) as raised:
            call(**given)
        assert str(raised.value) == message


def test_parts_of_two_kinds():
    part, sums = Part(1.0, 2.0, np.ones((3, 2)), np.ones(2)), LayerSums(np.ones((3, 2)), np.ones(2))
    with pytest.raises(TypeError, match=r"^second: expected Part like first, got LayerSums$"):
        merge(part, sums)
    with pytest.raises(TypeError, match=r"^second: expected LayerSums like first, got Part$"):
        merge(sums, part)
