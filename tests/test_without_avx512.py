"""Without AVX-512: other exponentials, smaller tiles, and stores without masks."""

import numpy as np
import pytest

import fastsoftmax as fs

ROWS, CLASSES, FEATURES = 50, (1, 3, 8, 10, 40, 1000), 37  # three bundles of rows and a part of one

SCRIPT = """
import sys
import numpy as np
import fastsoftmax as fs
from fastsoftmax.kernels.compiling.target import AVX512

given = np.load(sys.argv[1])
results = {"avx512": AVX512}
for name in given.files:
    if name.startswith("logits"):
        results[name] = fs.softmax(given[name])
loss, grads = fs.linear_cross_entropy_with_grad(given["inputs"], given["weight"], given["bias"], given["labels"])
np.savez(sys.argv[2], loss=loss, **grads._asdict(), **results)
"""


def given():
    rng = np.random.default_rng(0)
    arrays = {f"logits {classes}": rng.normal(scale=5, size=(ROWS, classes)) for classes in CLASSES}
    arrays |= {"inputs": rng.normal(size=(ROWS, FEATURES)), "weight": rng.normal(size=(FEATURES, 7))}
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    return arrays | {"bias": np.ones(7, np.float32), "labels": rng.integers(7, size=ROWS)}


@pytest.fixture(scope="module")
def computed(run_python, tmp_path_factory):
    """What a processor that has no AVX-512, nor AVX2, computes."""
    folder = tmp_path_factory.mktemp("without")
    np.savez(folder / "given.npz", **given())
    run_python("-c", SCRIPT, str(folder / "given.npz"), str(folder / "results.npz"), NUMBA_CPU_NAME="generic")
    return np.load(folder / "results.npz")


@pytest.mark.parametrize("classes", CLASSES)
def test_softmax(classes, computed):
    """Within the same four ulp."""
    assert not computed["avx512"]
    logits = given()[f"logits {classes}"]
    truth = fs.reference.softmax(logits.astype(np.float64))
    assert (np.abs(computed[f"logits {classes}"] - truth) <= 4 * np.spacing(truth.astype(np.float32))).all()


def test_head(computed):
    arrays = [array.astype(np.float64) for name, array in given().items() if name in ("inputs", "weight", "bias")]
    loss, grads = fs.reference.linear_cross_entropy_with_grad(*arrays, given()["labels"])
    np.testing.assert_allclose(computed["loss"], loss, rtol=1e-6)
    for name, grad in grads._asdict().items():
        np.testing.assert_allclose(computed[name], grad, rtol=1e-4, atol=1e-6)


def test_no_features(run_python):
    code = "from fastsoftmax.kernels.compiling.target import AVX512; print(AVX512)"
    assert run_python("-c", code, NUMBA_CPU_FEATURES="") == "False"
