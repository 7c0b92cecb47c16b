"""`fastsoftmax doctor`: it describes what is there, and finds each problem that is made for it."""

import os
import platform
import re
import subprocess
import sys

import llvmlite
import numba
import numpy as np
import pytest
from llvmlite import binding as llvm

import fastsoftmax
from fastsoftmax.cli import doctor, machine, main

WIDEST = doctor._widest_vectors()
# Whatever could be a problem on this machine is set right before one is made.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("NUMBA_", "OMP_", *doctor._CPU_TYPES)) and name != "FASTSOFTMAX_CACHE"
}
# Numba's own choice here, of which macOS may have no better.
WORKQUEUE = "Under the threading layer workqueue one caller at a time runs on all threads, the others on one each"


def run(prelude="", **environment):
    """Run the command in a fresh process: the described, by name, and the problems."""
    code = f"import sys\n{prelude}\nfrom fastsoftmax.cli import doctor, main\nsys.exit(main(['doctor']))"
    environment = {**CLEAN, "NUMBA_CACHE_DIR": os.environ.get("NUMBA_CACHE_DIR", ""), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return parse(done.stdout)


def parse(out):
    facts, _, advice = out.partition("\n\n")
    rows = [(line[:18].strip(), line[18:]) for line in facts.splitlines()]
    return dict(rows), advice.splitlines()


# What takes seconds, and is no part of the advice.
QUICK = "from fastsoftmax.cli import doctor; doctor._measurements = lambda _: []"
NO_FOLDER = """
import tempfile
def refuse(*_, **__): raise PermissionError(13, "Permission denied")
tempfile.TemporaryFile = refuse
"""


def test_described(capsys):
    assert main(["doctor"]) == 0
    facts, _ = parse(capsys.readouterr().out)
    assert facts["fastsoftmax"] == fastsoftmax.__version__
    assert facts["Python"] == platform.python_version()
    assert facts["NumPy"] == np.__version__
    assert facts["Numba"] == numba.__version__
    assert facts["llvmlite"] == llvmlite.__version__
    assert facts["LLVM"] == "{}.{}.{}".format(*llvm.llvm_version_info)
    assert facts["CPU"].endswith(f"({llvm.get_host_cpu_name()})")
    assert re.fullmatch(r"(128|256|512) bits \((zmm|ymm|xmm|NEON) registers\)", facts["vectors"])
    assert facts["threading layer"] == numba.threading_layer()
    assert re.fullmatch(rf"{numba.get_num_threads()}, of \d+ processors available", facts["threads"])
    for name in ("memory, read", "memory, in place", "memory, copy"):
        assert float(re.fullmatch(r"(\S+) GB/s", facts[name])[1]) > 0.1
    assert float(re.fullmatch(r"(\S+) per ns", facts["exp (float32)"])[1]) > 0.01


def test_cache_is_counted(tmp_path):
    prelude = f"{QUICK}; import fastsoftmax; fastsoftmax.softmax([1.0, 2.0])"
    # For a processor for which none has been compiled: kernels beside the sources would do.
    facts, _ = run(prelude, NUMBA_CACHE_DIR=str(tmp_path), NUMBA_CPU_NAME="nehalem")
    kernels = list(tmp_path.rglob("*.kernel"))
    assert any(kernel.name.startswith("softmax") for kernel in kernels)
    assert facts["kernel cache"] == str(kernels[0].parent)
    assert facts[""] == f"writable, {len(kernels)} kernels of {sum(k.stat().st_size for k in kernels) / 1e6:.1f} MB"


def test_no_problem():
    _, advice = run(QUICK)
    assert [line for line in advice if not line.startswith(WORKQUEUE)] in (["No problem found."], [])


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"NUMBA_THREADING_LAYER": "workqueue"}, f"{WORKQUEUE}: install OpenMP (libgomp) or tbb."),
        ({"NUMBA_BOUNDSCHECK": "1"}, "NUMBA_BOUNDSCHECK is set, which makes kernels slower: unset it."),
        (
            {"NUMBA_DISABLE_JIT": "1"},
            "NUMBA_DISABLE_JIT is set, and no kernel runs without being compiled: unset it.",
        ),
        (
            {"NUMBA_THREADING_LAYER": "none such"},
            "Numba has no threads (The threading layer requested 'none such' is unknown to Numba.): "
            "unset NUMBA_THREADING_LAYER.",
        ),
        (
            {"OMP_WAIT_POLICY": "active"},
            "OMP_WAIT_POLICY is active: Numba's threads spin after each kernel and take the processors from NumPy's "
            "matrix products: unset it.",
        ),
        ({"NUMBA_OPT": "0"}, "NUMBA_OPT is 0, which makes kernels up to fifteen times slower: unset it."),
        (
            {"OMP_THREAD_LIMIT": "1", "NUMBA_NUM_THREADS": "2", "NUMBA_THREADING_LAYER": "omp"},
            "Kernels run on 1 of Numba's 2 threads: unset OMP_THREAD_LIMIT and OMP_DYNAMIC.",
        ),
        *(
            ({name: value}, f"{name} is set, which can bind several of Numba's threads to one processor: unset it.")
            for name, value in (("GOMP_CPU_AFFINITY", "0"), ("OMP_PLACES", "{0}"))
        ),
        (
            {"FASTSOFTMAX_CACHE": "0"},
            "FASTSOFTMAX_CACHE is 0, so every process compiles its kernels anew: unset it.",
        ),
        *(
            ({name: value}, f"{name} is set, which can make NumPy slower than this CPU allows: unset it.")
            for name, value in (
                ("OPENBLAS_CORETYPE", "Nehalem"),
                ("MKL_ENABLE_INSTRUCTIONS", "SSE4_2"),
                ("NPY_DISABLE_CPU_FEATURES", "F16C" if "86" in platform.machine() else "ASIMDHP"),
            )
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_problem_of_the_environment(environment, problem):
    _, advice = run(QUICK, **environment)
    assert problem in advice


@pytest.mark.parametrize(
    ("files", "group", "expected"),
    [
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "150000 100000"}, "0::/", 1.5),
        ({"jobs/cpu.max": "50000 100000", "cpu.max": "150000 100000"}, "0::/jobs/ours", 0.5),
        ({"jobs/ours/cpu.max": "max 100000"}, "0::/jobs/ours", None),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/", 1.0),
        ({}, "", None),
    ],
)
def test_quota(files, group, expected, tmp_path, monkeypatch):
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    read_text = machine.Path.read_text
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(
        machine.Path, "read_text", lambda path: group if path == machine.Path("/proc/self/cgroup") else read_text(path)
    )
    assert machine.quota() == expected


def test_quota_is_told(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "_measurements", lambda _: [])
    monkeypatch.setattr(machine, "quota", lambda: 0.5)
    assert main(["doctor"]) == 0
    _, advice = parse(capsys.readouterr().out)
    assert any("may use 0.5 of" in line and line.endswith("set NUMBA_NUM_THREADS to 1.") for line in advice)


def test_number_of_threads():
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    for count in {1, processors + 1} - {processors}:
        _, advice = run(QUICK, NUMBA_NUM_THREADS=str(count))
        where = f"where {processors} processors are available: set NUMBA_NUM_THREADS to {processors}."
        assert f"The number of Numba's threads is {count} {where}" in advice


@pytest.mark.skipif(WIDEST == 128, reason="nothing is narrower")
def test_narrow_vectors():
    facts, advice = run(QUICK, NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert facts["vectors"] == "128 bits (xmm registers)"
    problem = f"Kernels are compiled to vectors of 128 bits, and this CPU has {WIDEST}: unset NUMBA_CPU_NAME, "
    assert any(line.startswith(problem) for line in advice)


def test_no_folder_can_be_written():
    facts, advice = run(NO_FOLDER + QUICK)
    assert facts["kernel cache"] == "none"
    problem = (
        "No folder for compiled kernels can be written, so every process compiles its own: "
        "set NUMBA_CACHE_DIR to one that can."
    )
    assert problem in advice


def test_nothing_is_measured_without_compilation_or_threads():
    facts, _ = run(NUMBA_DISABLE_JIT="1")
    assert facts["measured"] == "nothing: no kernel is compiled"
    assert facts["vectors"] == "unknown: nothing is compiled"
    facts, _ = run(NUMBA_THREADING_LAYER="none such")
    assert facts["measured"] == "nothing: there are no threads"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forked_child():
    """The parent's threads are lost in it, and OpenMP would kill it at a parallel kernel."""
    prelude = """
import os
import numpy as np
import fastsoftmax
fastsoftmax.softmax(np.zeros((64, 1024), np.float32))
child = os.fork()
if child: os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    facts, advice = run(prelude, NUMBA_THREADING_LAYER="omp", NUMBA_NUM_THREADS="2")
    assert float(facts["exp (float32)"].split()[0]) > 0.01
    assert "This process is a fork of one whose threads had started: kernels run on one thread in it." in advice


def test_no_proc(monkeypatch, capsys):
    def refuse(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(doctor.Path, "read_text", refuse)
    monkeypatch.setattr(doctor, "_measurements", lambda _: [])
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert main(["doctor"]) == 0
    facts, _ = parse(capsys.readouterr().out)
    assert facts["CPU"] == f"{platform.processor() or platform.machine()} ({llvm.get_host_cpu_name()})"
    assert facts["threads"].endswith(f", of {os.cpu_count()} processors available")


@pytest.mark.parametrize(
    ("instruction", "registers"),
    [
        ("\tvfmadd213ps\t(%rcx){1to16}, %zmm4, %zmm2\n", ("zmm", 512)),
        ("\tvmulps\t%ymm1, %ymm2, %ymm0\n\tvmulps\t%xmm1, %xmm2, %xmm0\n", ("ymm", 256)),
        ("\taddps\t%xmm1, %xmm0\n\tcallq\tfmaf\n", ("xmm", 128)),
        ("\tmulps\t%xmm1, %xmm0\n\tvmovups\t%zmm0, (%rax)\n", ("xmm", 128)),
        ("\tfmla\tv0.4s, v1.4s, v2.4s\n", ("NEON", 128)),
        ("\tfmul.4s\tv0, v1, v2\n", ("NEON", 128)),
        ("\tvfmadd213ss\t%xmm1, %xmm0, %xmm2\n\tfmul\ts0, s1, s2\n\tcallq\tfmaf\n", None),
    ],
)
def test_registers(instruction, registers):
    assert machine.registers(f"\tmovq\t%rsp, %rbp\n{instruction}\tretq\n") == registers


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for command in ("train", "warmup", "doctor"):
        assert re.search(rf"^    {command}  +\w.*$", out, re.MULTILINE)
