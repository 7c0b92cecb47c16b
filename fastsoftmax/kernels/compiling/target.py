"""The processor that Numba compiles for, and levels of processors that kernels can be compiled for ahead."""

from llvmlite import binding as llvm
from numba.core import config
from numba.core.codegen import get_host_cpu_features

# By LLVM's names, without what would halve the vectors of processors with AVX-512; the best first (M31).
_V3 = "+avx,+avx2,+bmi,+bmi2,+cmov,+cx16,+f16c,+fma,+lzcnt,+movbe,+popcnt,+sse3,+sse4.1,+sse4.2,+ssse3,+xsave"
LEVELS = {
    "x86-64-v4": f"{_V3},+avx512bw,+avx512cd,+avx512dq,+avx512f,+avx512vl,-prefer-256-bit",
    "x86-64-v3": _V3,
}


X86 = llvm.get_process_triple().startswith(("x86_64", "i686"))


def _features() -> list[str]:
    """List what Numba compiles for: the features of this processor, or those that it was told."""
    features = config.CPU_FEATURES
    if features is None:
        features = get_host_cpu_features() if config.CPU_NAME is None else ""
    return features.split(",")


AVX512 = "+avx512f" in _features()
# Whether instructions convert float16; where LLVM would call a function of its own, there is none.
CONVERTS_FLOAT16 = "+f16c" in _features() if X86 else llvm.get_process_triple().startswith("aarch64")


def levels_here() -> list[str]:
    """List the levels that this processor has all features of; none where Numba was told to compile for another."""
    if config.CPU_NAME is not None or config.CPU_FEATURES is not None:
        return []
    have = llvm.get_host_cpu_features()
    wanted = {level: [name[1:] for name in features.split(",") if name[0] == "+"] for level, features in LEVELS.items()}
    return [level for level, names in wanted.items() if all(have.get(name) for name in names)]
