"""All that the benchmarks compare computes the same thing."""

import inspect

import numpy as np
import pytest

from benchmarks import options, test_half, test_layouts, test_standard
from benchmarks.contenders import IN_PLACE, OURS, TABLE, TWINS
from benchmarks.dialects import UnavailableError, axis_of, flat
from benchmarks.problems import INPUTS, VALUES, Case, dtype_named, has_features, make
from benchmarks.test_options import cases as cases_of_suite
from benchmarks.test_options import fits
from fastsoftmax import reference

# Relative and absolute; others add up in the half type, and take the loss for their own dtype.
TOLERANCES = {"float32": (2e-5, 2e-6), "float16": (1e-2, 2e-3), "bfloat16": (8e-2, 2e-2)}


def rows():
    """Every row of the table, and those of the suites for half types and layouts again, with arrays of theirs."""
    for operation, row in TABLE.items():
        # What a yardstick computes is something else.
        yield from variants(case_of(operation), [name for name in row if row[name].role != "yardstick"])
    for suite in (test_half, test_layouts):
        cases = {(case.operation, case.dtype, len(case.shape)): case for case in suite.cases(None)}
        for case in cases.values():
            row = TABLE[case.operation].items()
            yield from variants(
                case.small(), [name for name, each in row if each.role in suite.ROLES and suite.fits(case, each)]
            )


def variants(case, libraries):
    """Only what belongs to this library must be free of warnings."""
    for library in libraries:
        marks = [] if OURS in TABLE[case.operation][library].needs else [pytest.mark.filterwarnings("default")]
        yield pytest.param(case, library, id=f"{case}-{library}", marks=marks)


def case_of(operation):
    return Case("table", operation, (37, 6, 7) if has_features(operation) else (37, 7))


def expected(operation, arrays):
    arrays = [a if a.dtype.kind == "i" else a.astype(np.float64) for a in arrays]
    if operation == "cross_entropy_of_rows":
        return reference.cross_entropy(*arrays, reduction="none")
    return getattr(reference, operation)(*arrays, **axis_of(arrays[0]))


@pytest.mark.parametrize(("case", "library"), list(rows()))
def test_same_result(case, library):
    operation, dtype = case.operation, dtype_named(case.dtype)
    contender = TABLE[operation][library]
    arrays = make(case)
    originals = [a.copy() for a in arrays]
    of_arrays = np.dtype(np.float32) if contender.role == "float32" else dtype
    rtol, atol = TOLERANCES[case.dtype]
    try:
        call = contender.setup(arrays)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    for _ in range(2):  # again, after what the first call may have overwritten
        call.before()
        results, exact = flat(call.run()), flat(expected(operation, arrays))
        call.after()
        assert [a.shape for a in results] == [a.shape for a in exact]
        assert all(a.dtype == of_arrays if a.ndim else a.dtype in (of_arrays, np.float32) for a in results)
        for got, want in zip(results, exact, strict=True):
            np.testing.assert_allclose(got.astype(np.float64), want, rtol=rtol, atol=atol)
    for array, original in zip(arrays, originals, strict=True):
        np.testing.assert_array_equal(array, original)


def test_table_covers_every_operation():
    assert TABLE.keys() == INPUTS.keys()
    assert all({"NumPy", "fastsoftmax"} <= row.keys() for row in TABLE.values())


@pytest.mark.parametrize("suite", [test_half, test_layouts])
def test_suites_time_each_form_of_this_library_beside_itself(suite):
    (kind,) = TWINS.keys() & set(suite.ROLES)
    cases = suite.cases(None)
    assert len({case.small() for case in cases}) == len(set(cases)) == len({str(case) for case in cases})
    for case in cases:
        row = TABLE[case.operation]
        chosen = {name for name, each in row.items() if each.role in suite.ROLES and suite.fits(case, each)}
        own = {OURS, IN_PLACE} & row.keys()
        assert chosen >= {"PyTorch", "JAX", *own, *(f"{name} ({kind})" for name in own)}
        assert all(TABLE[case.operation][f"{name} ({kind})"].role == kind for name in own)


@pytest.mark.parametrize("operation", ["linear_cross_entropy", "linear_cross_entropy_with_grad"])
def test_heads_are_timed_with_the_weight_in_either_form(operation):
    assert operation in {case.operation for case in test_standard.cases(None)}
    twin = TABLE[operation][f"{OURS} (weight (C, D))"]
    assert twin.role in test_standard.ROLES
    result = twin.setup(make(case_of(operation))).run()
    if operation.endswith("with_grad"):
        assert result[1].dweight.T.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_arrays_are_of_the_dtype_and_the_layout_of_their_case(dtype):
    matrix = make(Case("test", "cross_entropy_with_grad", (5 * 6 * 2, 7), dtype=dtype))
    logits, labels = make(Case("test", "cross_entropy_with_grad", (5, 7, 6, 2), dtype=dtype))
    assert logits.dtype == matrix[0].dtype == dtype_named(dtype)
    assert logits.flags.c_contiguous
    np.testing.assert_array_equal(np.moveaxis(logits, 1, -1).reshape(-1, 7), matrix[0])
    np.testing.assert_array_equal(labels.ravel(), matrix[1])


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
