"""All that the benchmarks compare computes the same thing."""

import inspect

import numpy as np
import pytest

from benchmarks import options
from benchmarks.contenders import OURS, TABLE
from benchmarks.dialects import UnavailableError
from benchmarks.problems import INPUTS, VALUES, Case, make
from benchmarks.test_options import cases as cases_of_suite
from benchmarks.test_options import fits
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


def cases_of_options():
    return [pytest.param(case, id=f"{case.operation}-{case.option}") for case in options.cases([(37, 7)])]


def exact_arrays(values):
    return [v.astype(np.float64) if isinstance(v, np.ndarray) and v.dtype == np.float32 else v for v in values]


@pytest.mark.parametrize("case", cases_of_options())
def test_same_result_with_an_option(case):
    arrays, given = options.inputs([case])[case]
    call = TABLE[case.operation][OURS].setup(arrays, **given)
    keywords = {name: value for name, value in given.items() if name != "out"}
    of_float64 = dict(zip(keywords, exact_arrays(keywords.values()), strict=True))
    function = getattr(reference, case.operation)
    exact, usual = function(*exact_arrays(arrays), **of_float64), function(*arrays, **keywords)
    for _ in range(2):
        for got, want, like in zip(flat(call.run()), flat(exact), flat(usual), strict=True):
            assert (got.shape, got.dtype) == (like.shape, like.dtype)
            assert np.isfinite(got).all()
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("operation", options.OPTIONS)
def test_every_option_of_a_function_is_timed(operation):
    parameters = inspect.signature(getattr(reference, operation)).parameters.values()
    takes = {p.name for p in parameters if p.kind == p.KEYWORD_ONLY} - {"axis", "out", "reduction"}
    made = options.inputs(case for case in options.cases([(37, 7)]) if case.operation == operation)
    given = {case.option: set(keywords) - {"out", "reduction"} for case, (_, keywords) in made.items()}
    assert given["plain"] == set()
    assert given["all"] == takes
    assert all({name} in given.values() for name in takes)


def test_options_share_arrays():
    made = options.inputs(case for case in options.cases([(37, 7)]) if case.operation == "cross_entropy_with_grad")
    plain = next(case for case in made if case.option == "plain")
    (logits, labels), given = made[plain]
    assert all(arrays[0] is logits and keywords["out"] is given["out"] for (arrays, keywords) in made.values())
    ignored = made[plain._replace(option="ignore_index")]
    assert (ignored[0][1] == ignored[1]["ignore_index"]).sum() == 37 // 5
    assert made[plain._replace(option="probability labels")][0][1].shape == (37, 7)
    where = made[plain._replace(option="where")][1]["where"]
    assert where[np.arange(37), labels].all()
    assert where.mean() == pytest.approx(0.78, abs=0.1)
    assert options.inputs([plain._replace(option="")])[plain._replace(option="")][1] == {}


def test_the_suite_of_options_times_all_of_them():
    cases = cases_of_suite(None)
    assert all(any(fits(case, c) for c in TABLE[case.operation].values()) for case in cases)
    assert {(case.operation, case.option) for case in cases} == {
        (operation, option) for operation, names in options.OPTIONS.items() for option in names
    }
    assert len({case.small() for case in cases}) == len(set(cases)) == len({str(case) for case in cases})


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
