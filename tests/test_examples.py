"""The examples run, and what they compare agrees."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.exhaustive
def test_njit_trainer(capsys):
    losses, _ = load("njit_trainer").main(["--epochs", "3"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert losses[0] < 1
    assert "1 / " in capsys.readouterr().out
