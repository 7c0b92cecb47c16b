"""Cost per element from what fits a cache to what fills the memory, and one thread against all."""

import math
import os

import pytest

from benchmarks.problems import Case

ROLES = ("peer", "ours", "one thread")

_CLASSES = 1_000
# float32 arrays of the logits' size alive at once: inputs, results and temporaries of all contenders.
_ARRAYS = 12


def cases(config):
    exponents = range(3, math.floor(math.log10(config.getoption("--largest"))) + 1)
    return [Case("scaling", "cross_entropy_with_grad", (10**e // _CLASSES, _CLASSES)) for e in exponents]


def test_scaling(compete, case, library, request):
    needed = math.prod(case.shape) * 4 * _ARRAYS
    if hasattr(os, "sysconf") and needed > (memory := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
        pytest.skip(f"needs about {needed / 1e9:.0f} GB of memory, there are {memory / 1e9:.0f}")
    compete(case, library)
