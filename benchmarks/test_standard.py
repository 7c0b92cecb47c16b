"""The shapes that people train: small and large batches, few classes and a language model's vocabulary."""

from benchmarks.problems import Case

ROLES = ("peer", "ours", "yardstick", "weight (C, D)")

_ROWS = ((8_192, 1_000), (1_024, 32_000))
_LONG = (8, 4_194_304)
_LAYERS = ((65_536, 784, 10), (16_384, 256, 1_000), (2_048, 768, 32_000))
_SHAPES = {
    "cross_entropy_with_grad": ((32, 10), (65_536, 10), *_ROWS, (512, 128_256), _LONG),
    "cross_entropy": _ROWS,
    "softmax": _ROWS,
    "log_softmax": _ROWS,
    "logsumexp": (*_ROWS, _LONG),
    "softmax_backward": _ROWS,
    "log_softmax_backward": _ROWS,
    "linear_cross_entropy": _LAYERS,
    "linear_cross_entropy_with_grad": _LAYERS,
    "weight_grad": _LAYERS[:1],
    "bias_grad": ((2_048, 32_000),),
    "input_grad": _LAYERS[:1],
}


def cases(config):
    return [Case("standard", operation, shape) for operation, shapes in _SHAPES.items() for shape in shapes]


def test_standard(compete, case, library):
    compete(case, library)
