"""The processor that Numba compiles for."""

from numba.core import config
from numba.core.codegen import get_host_cpu_features


def _has_avx512() -> bool:
    """Whether Numba compiles for AVX-512: for this processor, or for features that it was told."""
    features = config.CPU_FEATURES
    if features is None:
        features = get_host_cpu_features() if config.CPU_NAME is None else ""
    return "+avx512f" in features.split(",")


AVX512 = _has_avx512()
