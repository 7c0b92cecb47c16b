"""The cases of the benchmarks' suite for homes: both sides compute the same, and their memory can be measured."""

import pytest

pytest.importorskip("torch")

import numpy as np

from benchmarks import homes
from benchmarks.dialects import flat

CASES = homes.cases()


@pytest.mark.usefixtures("ours_in_torch")
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_both_sides_compute_the_same(case):
    found = []
    for call in case.small().calls().values():
        call.before()
        found.append(flat(call.run()))
        call.after()
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_names_are_unique():
    assert len({str(case) for case in CASES}) == len({str(case.small()) for case in CASES}) == len(CASES)


def test_memory_is_measured():
    """The sum of a case takes as much as there is to hold: 4,096 rows' logits."""
    pytest.importorskip("resource")
    case = next(case for case in CASES if case.name == "loss")._replace(shape=(4_096, 2_048))
    size = 4 * 4_096 * 2_048
    assert size < homes._measure(case, case.peer) < 8 * size
