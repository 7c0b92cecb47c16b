"""Cost per element from what fits a cache to what fills the memory, and one thread against all."""

import math
import os

from benchmarks.problems import Case

ROLES = ("peer", "ours", "one thread")

_CLASSES = 1_000
# float32 arrays of the logits' size alive at once: inputs, results and temporaries of all contenders, or of ours.
_ARRAYS = {"peer": 12, "ours": 5, "one thread": 5}


def cases(config):
    exponents = range(3, math.floor(math.log10(config.getoption("--largest"))) + 1)
    return [Case("scaling", "cross_entropy_with_grad", (10**e // _CLASSES, _CLASSES)) for e in exponents]


def fits(case, contender):
    """Whether the memory holds what is alive beside the contender; in the largest cases ours run alone."""
    needed = math.prod(case.shape) * 4 * _ARRAYS[contender.role]
    return not hasattr(os, "sysconf") or needed <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_scaling(compete, case, library):
    compete(case, library)
