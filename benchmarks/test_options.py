"""What each option costs, alone and with the others, beside the plain call on the same arrays."""

from benchmarks import options
from benchmarks.contenders import OURS, TABLE

ROLES = ("ours",)


def cases(config):
    return options.cases()


def fits(case, contender):
    """Whether it is this library's usual form."""
    return contender is TABLE[case.operation][OURS]


def test_options(compete, case, library):
    compete(case, library)
