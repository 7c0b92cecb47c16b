"""Time that depends on the values: subnormal results, masks, rows that are sure of their label.

Fewer rows than in the standard suite: all values of all contenders are in memory at once, to take turns.
"""

from benchmarks.problems import Case

ROLES = ("peer", "ours")

_VALUES = [*(f"spread {width}" for width in (1, 3, 20, 30, 80)), "half -inf", "label ahead by 60"]


def cases(config):
    return [Case("values", "cross_entropy_with_grad", (256, 32_000), values) for values in _VALUES]


def test_values(compete, case, library):
    compete(case, library)
