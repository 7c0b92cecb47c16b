"""SciPy's functions of logits, by the parameters that they have there."""

from fastsoftmax import activations

from .typing import is_none, literal, refuse


def softmax(x, axis=None):
    return lambda x, axis=None: activations.softmax(x, axis)


def log_softmax(x, axis=None):
    return lambda x, axis=None: activations.log_softmax(x, axis)


def logsumexp(a, axis=None, b=None, keepdims=False, return_sign=False):
    if not is_none(b):
        refuse("b", "None", b)
    if literal(return_sign) is not False:
        refuse("return_sign", "False", return_sign)

    def compute(a, axis=None, b=None, keepdims=False, return_sign=False):
        return activations.logsumexp(a, axis, None, None, keepdims)

    return compute
