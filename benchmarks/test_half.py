"""Half types: beside other libraries with the same type, and beside this library's own float32."""

from benchmarks.contenders import TABLE
from benchmarks.problems import Case

ROLES = ("peer", "ours", "float32")

_SHAPES = ((8_192, 1_000), (1_024, 32_000), (512, 128_256))
_OPERATIONS = ("cross_entropy_with_grad", "cross_entropy", "softmax", "log_softmax")
_PEERS = ("PyTorch", "torch.compile", "JAX")  # NumPy adds up in the half type, and others refuse it


def cases(config):
    return [
        Case("half", operation, shape, dtype=dtype)
        for dtype in ("bfloat16", "float16")
        for operation in _OPERATIONS
        for shape in _SHAPES
    ]


def fits(case, contender):
    """Whether it computes with half types."""
    return contender.role != "peer" or contender in [TABLE[case.operation][library] for library in _PEERS]


def test_half(compete, case, library):
    compete(case, library)
