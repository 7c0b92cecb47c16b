"""Classes on the second axis, as in images and detections, beside the same rows with their classes last."""

from benchmarks.contenders import TABLE
from benchmarks.problems import Case

ROLES = ("peer", "ours", "classes last")

_SHAPES = ((8, 21, 256, 256), (32, 81, 8_732), (4, 150, 128, 128), (16, 1_000, 49))
_OPERATIONS = ("cross_entropy_with_grad", "softmax", "log_softmax")
_PEERS = ("NumPy", "PyTorch", "torch.compile", "JAX")


def cases(config):
    return [Case("layouts", operation, shape) for operation in _OPERATIONS for shape in _SHAPES]


def fits(case, contender):
    """Whether it takes classes on the second axis."""
    return contender.role != "peer" or contender in [TABLE[case.operation][library] for library in _PEERS]


def test_layouts(compete, case, library):
    compete(case, library)
