"""The generated parts of the README: what they say, and what happens to bad input."""

import json
import xml.etree.ElementTree

import mpmath
import numpy as np
import pytest

from benchmarks import fidelity, options, report, roofline
from benchmarks.dialects import Call
from benchmarks.problems import dtype_named
from benchmarks.readme import table
from benchmarks.round_robin import time_calls

OPTIONS_MARKERS = "\n<!-- options:start -->\nyesterday's costs\n<!-- options:end -->\n"
MARKERS = "# Title\n\n<!-- benchmarks:start -->\nyesterday's table\n<!-- benchmarks:end -->\n\nThe end.\n"
GB = 1e9
LIMITS = {kind: [[2**20, 100 * GB], [2**28, 20 * GB]] for kind in ("read", "in place", "copy")} | {"exps": 1e10}
ROLES = {
    "fastsoftmax on one thread": "one thread",
    "products alone": "yardstick",
    "fastsoftmax (float32)": "float32",
    "fastsoftmax in place (classes last)": "classes last",
}


def timing(suite, operation, shape, library, seconds, values="spread 3", **option):
    role = ROLES.get(library, "ours" if library.startswith("fastsoftmax") else "peer")
    info = {"suite": suite, "operation": operation, "shape": shape, "values": values, "library": library, "role": role}
    return {"extra_info": info | option, "stats": {"median": seconds, "data": [seconds]}}


def timings():
    loss, head = "cross_entropy_with_grad", "linear_cross_entropy_with_grad"
    yield timing("standard", loss, [1024, 32000], "NumPy", 0.100)
    yield timing("standard", loss, [1024, 32000], "JAX", 0.040)
    yield timing("standard", loss, [1024, 32000], "fastsoftmax", 0.020)
    yield timing("standard", loss, [1024, 32000], "fastsoftmax in place", 0.016)
    yield timing("standard", head, [64, 32, 10], "NumPy", 0.003)
    yield timing("standard", head, [64, 32, 10], "fastsoftmax", 0.004)
    yield timing("standard", head, [64, 32, 10], "products alone", 0.001)
    yield timing("values", loss, [1024, 32000], "NumPy", 0.5, "half -inf")
    yield timing("values", loss, [1024, 32000], "fastsoftmax", 0.02, "half -inf")
    for elements in (1000, 1_000_000):
        yield timing("scaling", loss, [elements // 1000, 1000], "NumPy", 5e-9 * elements)
        yield timing("scaling", loss, [elements // 1000, 1000], "fastsoftmax", 1e-9 * elements)
        yield timing("scaling", loss, [elements // 1000, 1000], "fastsoftmax on one thread", 2e-9 * elements)


def timings_of_options():
    for operation, shape, option, seconds in [
        ("cross_entropy", [32, 10], "plain", 5e-6),
        ("cross_entropy", [32, 10], "z_loss", 6e-6),
        ("cross_entropy", [1024, 32000], "plain", 4e-3),
        ("cross_entropy", [1024, 32000], "z_loss", 4.4e-3),
        ("cross_entropy", [1024, 32000], "all", 8e-3),
        ("softmax", [32, 10], "plain", 2e-6),
        ("softmax", [32, 10], "where", 3e-6),
        ("softmax", [32, 10], "an option of another version", 4e-6),
    ]:
        yield timing("options", operation, shape, "fastsoftmax", seconds, option=option)


def timings_of_half_types():
    for library, seconds in [("PyTorch", 0.020), ("fastsoftmax", 0.010), ("fastsoftmax (float32)", 0.015)]:
        yield timing("half", "softmax", [1024, 32000], library, seconds, dtype="bfloat16")
    yield timing("half", "softmax", [1024, 32000], "fastsoftmax", 0.012, dtype="float16")


def timings_of_layouts():
    shape = [4, 150, 128, 128]
    for library, seconds in [
        ("NumPy", 0.080),
        ("PyTorch", 0.002),
        ("fastsoftmax", 0.005),
        ("fastsoftmax in place", 0.004),
        ("fastsoftmax in place (classes last)", 0.003),
    ]:
        yield timing("layouts", "softmax", shape, library, seconds)


def timings_of_homes():
    for name, shape, bar, memory_bar, ours, theirs, memory in (
        ("loss", [1024, 32000], 5, None, 0.05, 0.3, None),
        ("head", [2048, 768, 32000], 1.5, 1 / 3, 1.0, 1.2, (300, 800)),
        ("no bar", [10, 20], None, None, 2.0, 1.0, None),
        ("one side", [10, 20], None, None, 2.0, None, None),
    ):
        for library, seconds, size in (("fastsoftmax", ours, 0), ("F.loss", theirs, 1)):
            if seconds:
                info = {"suite": "homes", "home": "PyTorch", "name": name, "shape": shape, "peer": "F.loss"}
                info |= {"needs": ["torch"], "bar": bar, "memory_bar": memory_bar, "library": library}
                info["memory"] = memory and memory[size] * 2**20
                yield {"extra_info": info, "stats": {"median": seconds}}


def set_timings(results, benchmarks):
    data = json.loads(results.read_text())
    results.write_text(json.dumps(data | {"benchmarks": list(benchmarks)}))


@pytest.fixture
def results(tmp_path):
    data = {
        "machine_info": {
            "cpu": {"brand_raw": "Some CPU", "count": 4, "flags": ["avx", "avx2"]},
            "machine": "x86_64",
            "system": "Linux",
            "python_version": "3.13.1",
        },
        "datetime": "2026-01-02T03:04:05+00:00",
        "benchmarks": list(timings()),
        "fastsoftmax": {"threads": 2, "versions": {"numpy": "2.4.0"}, "quick": False, "limits": LIMITS},
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(data))
    return path


@pytest.fixture
def readme(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(MARKERS)
    return path


def row(text, *cells):
    """The cells of the one line of a table that begins with these."""
    (line,) = [line for line in text.splitlines() if line.startswith("| " + " | ".join(cells) + " |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table(results, readme):
    assert report.main([str(results), "--readme", str(readme)]) == 0
    text = readme.read_text()
    loss = "`cross_entropy_with_grad`"
    # 2 · 4 · 1,024 · 32,000 bytes in 20 ms; at 20 GB/s they take 13.1 ms, which is more than the exps need.
    assert row(text, loss, "1,024 × 32,000") == [
        loss, "1,024 × 32,000", "2.0× JAX", "5.0×", "2.0×", "20", "13.1", "66 %",
    ]  # fmt: skip
    assert row(text, f"{loss}, in place", "1,024 × 32,000")[2:5] == ["2.5× JAX", "6.2×", "2.5×"]
    assert row(text, loss, "half -inf")[2:4] == ["25× NumPy", "25×"]
    assert row(text, "1,000,000") == ["1,000,000", "1", "", "2.0×"]
    for part in (
        "Some CPU with AVX2, 4 cores, 2 threads",
        "Linux, Python 3.13.1, 2026-01-02",
        "numpy 2.4.0",
        "read 20",
        "exp 10.0",
    ):
        assert part in text


def test_losses_are_told_first(results, readme):
    report.main([str(results), "--readme", str(readme)])
    text = readme.read_text()
    head = "`linear_cross_entropy_with_grad`"
    assert row(text, head, "64 × 32 × 10")[2:5] == ["**0.75×** NumPy", "**0.75×**", "0.25×"]
    assert f"in 2 of 3 rows, slower in: {head} 64 × 32 × 10 (0.75× NumPy)." in text
    assert text.index("slower in") < text.index("| :--")


def test_no_gain_is_not_called_faster(results, capsys):
    """What a table shows as 1.0× is level."""
    data = json.loads(results.read_text())
    for benchmark in data["benchmarks"]:
        if benchmark["extra_info"]["library"] == "JAX":
            benchmark["stats"] = {"median": 0.0208, "data": [0.0208]}
    results.write_text(json.dumps(data))
    report.main([str(results)])
    loss, head = "`cross_entropy_with_grad` 1,024 × 32,000", "`linear_cross_entropy_with_grad` 64 × 32 × 10"
    verdict = f"in 1 of 3 rows, level in: {loss} (1.04× JAX), slower in: {head} (0.75× NumPy)."
    assert verdict in capsys.readouterr().out


def test_only_the_section_changes(results, readme):
    report.main([str(results), "--readme", str(readme)])
    once = readme.read_text()
    report.main([str(results), "--readme", str(readme)])
    assert readme.read_text() == once
    assert once.startswith("# Title\n\n<!-- benchmarks:start -->\n")
    assert once.endswith("<!-- benchmarks:end -->\n\nThe end.\n")
    assert "yesterday" not in once


def test_prints_without_options(results, capsys):
    assert report.main([str(results)]) == 0
    assert "| operation |" in capsys.readouterr().out


def test_quick_run_is_marked(results, capsys):
    results.write_text(results.read_text().replace('"quick": false', '"quick": true'))
    report.main([str(results)])
    assert "the figures mean nothing" in capsys.readouterr().out


def test_costs_of_options(results, capsys):
    set_timings(results, timings_of_options())
    assert report.main([str(results)]) == 0
    text = capsys.readouterr().out
    assert "What options cost" in text
    assert "Some CPU with AVX2" in text
    assert "| function | option | 32 × 10 | 1,024 × 32,000 |" in text
    loss = "`cross_entropy`"
    assert row(text, loss, "plain, ms") == [loss, "plain, ms", "0.005", "4"]
    assert row(text, loss, "z_loss") == [loss, "z_loss", "1.20", "1.10"]
    assert row(text, loss, "all") == [loss, "all", "", "2.00"]
    assert row(text, "`softmax`", "plain, ms")[2:] == ["0.002", ""]
    assert row(text, "`softmax`", "where")[2:] == ["1.50", ""]
    assert row(text, "`softmax`", "an option of another version")[2:] == ["2.00", ""]
    assert "Faster" not in text
    assert "figures mean nothing" not in text
    results.write_text(results.read_text().replace('"quick": false', '"quick": true'))
    report.main([str(results)])
    assert capsys.readouterr().out.startswith("**A quick run")


@pytest.mark.parametrize("operation", options.OPTIONS)
def test_an_option_without_timings_has_an_empty_row(results, capsys, operation):
    set_timings(results, [timing("options", operation, [32, 10], "fastsoftmax", 1e-6, option="plain")])
    assert report.main([str(results)]) == 0
    text = capsys.readouterr().out
    for option in options.OPTIONS[operation][1:]:
        assert row(text, f"`{operation}`", option) == [f"`{operation}`", option, ""]


def test_options_without_their_plain_call(results, capsys):
    left = [b for b in timings_of_options() if b["extra_info"]["option"] != "plain"]
    set_timings(results, left)
    assert_refused([str(results)], "expected a plain call of cross_entropy 32 × 10", capsys)


def test_a_run_fills_the_sections_that_it_has_timings_of(results, readme):
    readme.write_text(MARKERS + OPTIONS_MARKERS)
    set_timings(results, timings_of_options())
    assert report.main([str(results), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(MARKERS)
    assert "yesterday's costs" not in text
    assert row(text, "`cross_entropy`", "z_loss")
    set_timings(results, timings())
    report.main([str(results), "--readme", str(readme)])
    with_table = readme.read_text()
    assert "yesterday" not in with_table
    assert with_table.endswith(text[len(MARKERS) :])
    set_timings(results, [*timings(), *timings_of_options()])
    report.main([str(results), "--readme", str(readme)])
    assert readme.read_text() == with_table


def test_readme_without_the_markers_of_options(results, readme, capsys):
    set_timings(results, [*timings(), *timings_of_options()])
    assert_refused([str(results), "--readme", str(readme)], "expected the markers <!-- options:start -->", capsys)
    assert readme.read_text() == MARKERS


def test_half_types(results, capsys):
    set_timings(results, timings_of_half_types())
    assert report.main([str(results)]) == 0
    text = capsys.readouterr().out
    assert "| best peer | PyTorch | float32 | ms |" in text
    # 2 · 2 · 1,024 · 32,000 bytes in 10 ms; at 20 GB/s they take 6.6 ms.
    softmax, shape = "`softmax`", "1,024 × 32,000"
    assert row(text, softmax, f"{shape} bfloat16")[2:] == ["2.0× PyTorch", "2.0×", "1.50×", "10", "13.1", "66 %"]
    assert row(text, softmax, f"{shape} float16")[2:6] == ["", "", "", "12"]
    assert "Faster than every other library in all 1 rows." in text
    assert "bfloat16 and float16, medians" in text


def test_layouts(results, capsys):
    set_timings(results, timings_of_layouts())
    assert report.main([str(results)]) == 0
    text = capsys.readouterr().out
    assert "| operation | shape, classes second | best peer | NumPy | PyTorch | classes last | ms |" in text
    softmax, shape = "`softmax`", "4 × 150 × 128 × 128"
    assert row(text, softmax, shape)[2:7] == ["**0.40×** PyTorch", "16×", "**0.40×**", "", "5"]
    assert row(text, f"{softmax}, in place", shape)[2:7] == ["**0.50×** PyTorch", "20×", "**0.50×**", "0.75×", "4"]
    assert f"in 0 of 2 rows, slower in: {softmax} {shape} (0.40× PyTorch)" in text


@pytest.mark.parametrize(("name", "given"), [("half", timings_of_half_types), ("layouts", timings_of_layouts)])
def test_suites_of_their_own_fill_sections_of_their_own(results, readme, name, given):
    markers = f"\n<!-- {name}:start -->\nyesterday's\n<!-- {name}:end -->\n"
    readme.write_text(MARKERS + markers)
    set_timings(results, given())
    assert report.main([str(results), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert text.startswith(MARKERS)
    assert "yesterday's\n" not in text.removeprefix(MARKERS)
    assert "| `softmax` |" in text.removeprefix(MARKERS)


def test_options_command(capsys):
    assert options.main(["--quick", "--rounds", "1", "--options", "z_loss", "dloss"]) == 0
    text = capsys.readouterr().out
    assert "| function | option | 32 × 10 |" in text
    loss, gradient = "`cross_entropy`", "`cross_entropy_with_grad`"
    assert all(float(row(text, loss, option)[2]) > 0 for option in ("plain, ms", "z_loss"))
    assert all(float(row(text, gradient, option)[2]) > 0 for option in ("plain, ms", "z_loss", "dloss"))
    assert "dloss" not in text.replace(f"{gradient} | dloss", "")
    assert "softmax" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rounds", "0"], "--rounds: expected at least 1"),
        (["--options", "z_los"], "got z_los"),
        (["--options", "plain"], "z_loss; "),
    ],
)
def test_bad_arguments_of_the_options_command(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        options.main(arguments)
    out, err = capsys.readouterr()
    assert (stop.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err


def test_homes(results, readme):
    """What is short of its bar stands out; a case of which one side was not timed is left out."""
    readme.write_text(MARKERS + "\n<!-- homes:start -->\n<!-- homes:end -->\n")
    set_timings(results, timings_of_homes())
    assert report.main([str(results), "--readme", str(readme)]) == 0
    text = readme.read_text()
    assert "yesterday's table" in text
    assert row(text, "PyTorch", "loss")[2:] == [
        "1,024 × 32,000", "`F.loss`", "6.0×", "5×", "50", "300", "", "",
    ]  # fmt: skip
    assert row(text, "PyTorch", "head")[4:] == ["**1.2×**", "1.5×", "1e+03", "1.2e+03", "**0.38 of 800 MiB**", "0.33"]
    assert row(text, "PyTorch", "no bar")[4:6] == ["0.5×", ""]
    assert "one side" not in text


def test_plots(results, readme, tmp_path):
    pytest.importorskip("matplotlib")
    arguments = [str(results), "--readme", str(readme), "--plots", str(tmp_path / "plots")]
    assert report.main(arguments) == 0
    plots = [tmp_path / "plots" / name for name in ("speedup.svg", "cost.svg")]
    first = [path.read_bytes() for path in plots]
    assert all(xml.etree.ElementTree.fromstring(content).tag.endswith("svg") for content in first)
    assert "](plots/speedup.svg)" in readme.read_text()
    assert "](plots/cost.svg)" in readme.read_text()
    report.main(arguments)
    assert [path.read_bytes() for path in plots] == first


def test_no_plot_without_its_data(results, tmp_path):
    pytest.importorskip("matplotlib")
    data = json.loads(results.read_text())
    data["benchmarks"] = [b for b in data["benchmarks"] if b["extra_info"]["suite"] == "standard"]
    results.write_text(json.dumps(data))
    assert report.main([str(results), "--plots", str(tmp_path / "plots")]) == 0
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["speedup.svg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "not written by"),
        ('{"benchmarks": []}', "not written by"),
        (b"\xff\xfe\x00", "not a text file"),
    ],
)
def test_bad_results(tmp_path, capsys, content, message):
    path = tmp_path / "results.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_refused([str(path)], message, capsys)


def test_results_without_this_library(results, capsys):
    data = json.loads(results.read_text())
    data["benchmarks"] = [b for b in data["benchmarks"] if b["extra_info"]["library"] == "NumPy"]
    results.write_text(json.dumps(data))
    assert_refused([str(results)], "no timings of fastsoftmax", capsys)


@pytest.mark.parametrize(
    "text", ["no markers", "<!-- benchmarks:end -->\n<!-- benchmarks:start -->", MARKERS + MARKERS]
)
def test_readme_without_its_markers(results, readme, capsys, text):
    readme.write_text(text)
    assert_refused([str(results), "--readme", str(readme)], "expected the markers", capsys)
    assert readme.read_text() == text


def assert_refused(arguments, message, capsys):
    assert report.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_limits_are_measured(monkeypatch):
    monkeypatch.setattr(roofline, "_SIZES", (2**16, 2**20))
    limits = roofline.measure()
    assert list(limits) == ["read", "in place", "copy", "exps"]
    assert all([size for size, _ in limits[kind]] == [2**16, 2**20] for kind in ("read", "in place", "copy"))
    assert all(1e8 < rate < 1e13 for kind in ("read", "in place", "copy") for _, rate in limits[kind])
    assert 1e7 < limits["exps"] < 1e13


def test_roofline_is_the_larger_limit():
    million = (1000, 1000)
    assert roofline.least_seconds(LIMITS, "softmax_backward", million) == pytest.approx(12e6 / (100 * GB))
    assert roofline.least_seconds(LIMITS, "softmax", million) == pytest.approx(1e6 / 1e10)
    in_place = roofline.least_seconds(LIMITS, "cross_entropy_with_grad", (1024, 32_000), in_place=True)
    assert in_place == pytest.approx(8 * 1024 * 32_000 / (20 * GB))
    assert roofline.work("softmax", (8, 21, 4, 5), "bfloat16") == (2 * 3360, 2 * 3360, 3360)


@pytest.mark.parametrize("operation", sorted(fidelity.TABLE.keys() - {"cross_entropy_of_rows"}))
def test_every_operation_has_a_roofline(operation):
    shapes = [(5, 7)] if operation in roofline._ROWS else [(5, 3, 7)]
    assert all(roofline.least_seconds(LIMITS, operation, shape) > 0 for shape in shapes)


def test_turns_are_interleaved():
    played = []
    calls = {
        name: Call(
            lambda name=name: played.append(name), lambda: played.append("before"), lambda: played.append("after")
        )
        for name in "ab"
    }
    durations = time_calls(calls, rounds=3, seconds=0)
    assert [len(recorded) for recorded in durations.values()] == [3, 3]
    assert all(0 < duration < 0.1 for recorded in durations.values() for duration in recorded)
    assert played[::3] == ["before"] * (len(played) // 3)
    assert played[2::3] == ["after"] * (len(played) // 3)
    turns = [name for name, previous in zip(played[1::3], [None, *played[1::3]], strict=False) if name != previous]
    assert len(turns) >= 4


@pytest.mark.parametrize("values", [member for group in fidelity._GROUPS.values() for member in group])
def test_fidelity_is_measured_against_the_truth(values):
    """Long double in forms that do not cancel, against the definitions with 400 digits."""
    case = fidelity.Case("test", "cross_entropy_with_grad", (8, 6), values)
    logits, labels = fidelity.make(case)
    got = fidelity.exact(logits, labels)
    with mpmath.workdps(400), np.errstate(all="ignore"):
        for i, label in enumerate(labels):
            z = [mpmath.mpf(float(v)) for v in logits[i]]
            m = max(z)
            e = [mpmath.exp(v - m) for v in z]
            total = mpmath.fsum(e)
            want = {
                "softmax": [v / total for v in e],
                "log_softmax": [v - m - mpmath.log(total) for v in z],
                "logsumexp": m + mpmath.log(total),
                "loss": mpmath.log(total) - (z[label] - m),
                "dlogits": [(v / total - (j == label)) / 8 for j, v in enumerate(e)],
            }
            for name, value in want.items():
                np.testing.assert_allclose(
                    got[name][i].astype(np.float64), np.array(value, dtype=np.float64), rtol=1e-14, err_msg=name
                )


def test_fidelity_summary():
    errors = [
        fidelity.Errors("loss", "spread 20", shape, library, largest, 0.1)
        for shape, library, largest in [
            ((4096, 10), "fastsoftmax", 0.7),
            ((512, 1000), "fastsoftmax", 0.9),
            ((512, 1000), "NumPy", float("inf")),
        ]
    ]
    text = fidelity.summary(errors, "float32")
    assert row(text, "loss", "spread 20 and 80") == ["loss", "spread 20 and 80", "0.90", "∞"]
    assert "0.70 (0.10)" in fidelity.details(errors)


def test_fidelity_of_one_case():
    errors = list(fidelity.measure((64, 10), "spread 3", np.float32))
    mine = {e.measured: e.largest for e in errors if e.library == "fastsoftmax"}
    assert mine.keys() == {"softmax", "log_softmax", "logsumexp", "loss", "dlogits"}
    assert max(mine.values()) < 4


def test_fidelity_of_a_half_type():
    errors = list(fidelity.measure((64, 10), "spread 3", dtype_named("bfloat16").type))
    mine = {e.measured: e.largest for e in errors if e.library == "fastsoftmax"}
    assert mine.keys() == {"softmax", "log_softmax", "logsumexp", "loss", "dlogits"}
    assert 0.4 < max(mine.values()) < 0.501


def test_fidelity_needs_markers(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(fidelity, "_SHAPES", ((4, 3),))
    path = tmp_path / "README.md"
    path.write_text("no markers")
    assert fidelity.main(["--readme", str(path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    path.write_text("<!-- fidelity:start -->\n<!-- fidelity:end -->")
    assert fidelity.main(["--readme", str(path), "--dtype", "float32"]) == 0
    assert "| dlogits | spread 20 and 80 |" in path.read_text()


def test_markdown_table():
    assert table(["a", "b"], [["x", "1"]], 1) == "| a | b |\n| :-- | --: |\n| x | 1 |"
