"""The page on parts: its loop, what it does with frames and actors, and with Spark and Ray where they are installed."""

import copy
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

import fastsoftmax as fs
from fastsoftmax.parts import linear_cross_entropy_part, merge

PAGE = Path(__file__).parents[1] / "docs" / "parts.md"


def blocks_of(heading):
    """The blocks of Python under a heading."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return re.findall(r"```python\n(.*?)```", section[1], re.DOTALL)


def run(block, variables):
    exec(compile(block, str(PAGE), "exec"), variables)


@pytest.fixture(scope="module")
def after_the_loop():
    (block,) = blocks_of("A loop, or threads")
    variables = {"__name__": "__main__"}  # so that functions are pickled, not looked up
    run(block, variables)
    return variables


@pytest.fixture
def page(after_the_loop):
    return dict(after_the_loop)


def parts_of(page, chunks):
    return [linear_cross_entropy_part(X, page["W"], page["b"], y, label_smoothing=0.1) for X, y in chunks]


@pytest.fixture
def whole(page):
    """Loss and gradients of all rows, in one call."""
    return fs.linear_cross_entropy_with_grad(page["X"], page["W"], page["b"], page["y"], label_smoothing=0.1)


def assert_like(page, whole):
    loss, grads = whole
    np.testing.assert_allclose(page["loss"], loss, rtol=1e-6)
    np.testing.assert_allclose(page["grads"].dweight, grads.dweight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(page["grads"].dbias, grads.dbias, rtol=0, atol=1e-6)


def test_the_loop_learns(page, whole):
    first = np.log(5)
    assert whole[0] < page["loss"] < first - 0.3


def test_tree_is_the_same_without_threads(page, assert_same_bits):
    W, b = np.zeros((20, 5), np.float32), np.zeros(5, np.float32)
    for _ in range(10):
        loss, grads = page["tree"](parts_of({"W": W, "b": b}, page["chunks"])).mean()
        W -= grads.dweight
        b -= grads.dbias
    assert_same_bits((loss, W, b), (page["loss"], page["W"], page["b"]))


@pytest.mark.parametrize("n", range(1, 10))
def test_tree_merges_each_part_once_and_in_order(page, n):
    merged = page["tree"]([[k] for k in range(n)], lambda first, second: [*first, *second])
    assert merged == list(range(n))


def frames_of(page, sizes):
    """Frames of so many rows, as Spark gives them."""
    pd, start = page["pd"], 0
    for size in sizes:
        rows = slice(start, start + size)
        yield pd.DataFrame({"features": list(page["X"][rows]), "label": page["y"][rows]})
        start += size


@pytest.fixture
def spark_page(page):
    pytest.importorskip("pandas")
    run(blocks_of("Spark")[0], page)
    return page


def test_partitions_without_spark(spark_page, whole, assert_same_bits):
    """The function for `mapInPandas` takes an iterator and gives one, so that it takes no Spark to run it."""
    mapper = spark_page["part_of_frames"](spark_page["W"], spark_page["b"], label_smoothing=0.1)
    frames = list(frames_of(spark_page, [3_000, 0, 2_000, 4_999, 1]))
    found = [list(mapper(iter(partition))) for partition in (frames[:3], [], frames[3:])]
    assert [[len(frame) for frame in partition] for partition in found] == [[1]] * 3
    parts = [pickle.loads(partition[0]["part"][0]) for partition in found]
    assert [part.divisor for part in parts] == [5_000, 0, 5_000]
    spark_page["loss"], spark_page["grads"] = spark_page["tree"](parts).mean()
    assert_like(spark_page, whole)
    bounds = [slice(0, 3_000), slice(3_000, 5_000)]
    assert_same_bits(parts[0], merge(*parts_of(spark_page, [(spark_page["X"][r], spark_page["y"][r]) for r in bounds])))


@pytest.mark.filterwarnings("default")  # what Spark thinks of the versions of pandas and Java
def test_spark(spark_page, whole, monkeypatch, assert_same_bits):
    sql = pytest.importorskip("pyspark.sql")
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    spark = sql.SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        run(blocks_of("Spark")[1], spark_page)
        assert len(spark_page["found"]) > 1
        assert_like(spark_page, whole)
        first = copy.deepcopy((spark_page["loss"], spark_page["grads"]))
        run(blocks_of("Spark")[1], spark_page)
        assert_same_bits((spark_page["loss"], spark_page["grads"]), first)
    finally:
        spark.stop()


@pytest.mark.filterwarnings("default")
def test_ray(page, assert_same_bits):
    """As many chunks on each actor: the tree, and so the bits, of the loop."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False)
    try:
        run(blocks_of("Ray")[0], page)
        want = page["tree"](parts_of(page, page["chunks"]))
        assert_same_bits((page["loss"], page["grads"]), want.mean())
        assert_same_bits(ray.get(page["tree"](page["found"], ray.remote(merge).remote)), want)
    finally:
        ray.shutdown()
