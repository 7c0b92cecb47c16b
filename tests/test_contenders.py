"""All that the benchmarks compare computes the same thing."""

import numpy as np
import pytest

from benchmarks.contenders import TABLE
from benchmarks.dialects import UnavailableError
from benchmarks.problems import INPUTS, VALUES, Case, make
from fastsoftmax import reference


def rows():
    """Every row of the table; only what belongs to this library must be free of warnings."""
    for operation, row in TABLE.items():
        for library, contender in row.items():
            if contender.role == "yardstick":  # it computes something else
                continue
            marks = [] if contender.role == "ours" else [pytest.mark.filterwarnings("default")]
            yield pytest.param(operation, library, id=f"{operation}-{library}", marks=marks)


def case_of(operation):
    has_features = {"inputs", "weight"} & set(INPUTS[operation])
    return Case("test", operation, (37, 6, 7) if has_features else (37, 7))


def expected(operation, arrays):
    arrays = [a.astype(np.float64) if a.dtype == np.float32 else a for a in arrays]
    if operation == "cross_entropy_of_rows":
        return reference.cross_entropy(*arrays, reduction="none")
    return getattr(reference, operation)(*arrays)


def flat(result):
    """List the arrays of a nested result."""
    if isinstance(result, tuple | list):
        return [array for part in result for array in flat(part)]
    return [np.asarray(result)]


@pytest.mark.parametrize(("operation", "library"), list(rows()))
def test_same_result(operation, library):
    contender = TABLE[operation][library]
    arrays = make(case_of(operation))
    originals = [a.copy() for a in arrays]
    try:
        call = contender.setup(arrays)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    for _ in range(2):  # again, after what the first call may have overwritten
        call.before()
        results, exact = flat(call.run()), flat(expected(operation, arrays))
        call.after()
        assert [a.shape for a in results] == [a.shape for a in exact]
        assert all(a.dtype == np.float32 for a in results)
        for got, want in zip(results, exact, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)
    for array, original in zip(arrays, originals, strict=True):
        np.testing.assert_array_equal(array, original)


def test_table_covers_every_operation():
    assert TABLE.keys() == INPUTS.keys()
    assert all({"NumPy", "fastsoftmax"} <= row.keys() for row in TABLE.values())


@pytest.mark.parametrize("values", VALUES)
def test_values_are_what_their_name_says(values):
    case = Case("test", "cross_entropy_with_grad", (50, 40), values)
    (logits, labels), again = make(case), make(case)
    np.testing.assert_array_equal(logits, again[0])
    assert logits.dtype == np.float32
    assert logits.shape == (50, 40)
    chosen = logits[np.arange(50), labels]
    assert np.isfinite(chosen).all()
    if values.startswith("spread"):
        assert np.std(logits.astype(np.float64)) == pytest.approx(float(values.split()[1]), rel=0.05)
    if values.startswith("label ahead"):
        others = logits.copy()
        others[np.arange(50), labels] = -np.inf
        np.testing.assert_allclose(chosen - others.max(axis=1), float(values.split()[-1]), rtol=1e-5)
    if values == "half -inf":
        assert np.isneginf(logits).mean() == pytest.approx(0.5, abs=0.05)
    if values == "all -inf but the label":
        assert np.isneginf(logits).sum() == 50 * 39
