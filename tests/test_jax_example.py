"""The example of a model in JAX learns, with the same losses whoever computes them; what the page shows is so."""

import doctest
import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")


@pytest.fixture(scope="module")
def example():
    path = Path(__file__).parents[1] / "examples" / "head_jax.py"
    spec = importlib.util.spec_from_file_location("head_jax", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_losses_are_the_same(example):
    lines = []
    by = {
        kind: example.train(kind, steps=12, batch=64, most_words=500, report=lines.append)
        for kind in ("optax", "fastsoftmax", "head")
    }
    np.testing.assert_allclose(by["fastsoftmax"], by["optax"], rtol=1e-3)
    np.testing.assert_allclose(by["head"], by["optax"], rtol=1e-3)
    assert by["head"][-1] < by["head"][0] - 0.5
    assert lines[0].startswith("step    0  loss")


def test_examples_of_the_page():
    page = Path(__file__).parents[1] / "docs" / "jax.md"
    failed, attempted = doctest.testfile(str(page), module_relative=False)
    assert attempted >= 7
    assert not failed
