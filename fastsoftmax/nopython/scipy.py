"""SciPy's functions of logits, by the parameters that they have there."""

from fastsoftmax import activations

from .entries import checked_by
from .typing import is_none, literal, refuse


def _check(given):
    """Require what these kernels have no options for to be left out; the rest is checked where it is called."""
    if not is_none(given.get("b")):
        refuse("b", "None", given["b"])
    if literal(given.get("return_sign", False)) is not False:
        refuse("return_sign", "False", given["return_sign"])


@checked_by(_check)
def softmax(x, axis=None):
    return activations.softmax(x, axis)


@checked_by(_check)
def log_softmax(x, axis=None):
    return activations.log_softmax(x, axis)


@checked_by(_check)
def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    return activations.logsumexp(a, axis, None, None, keepdims)
