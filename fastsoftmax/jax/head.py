"""The linear layer and the loss together, whose logits are never stored as a whole."""

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from fastsoftmax import arrays, options
from fastsoftmax.conversions import compute_dtype
from fastsoftmax.head_rows import WORKSPACE, rows_of_a_chunk
from fastsoftmax.jax import formulas
from fastsoftmax.jax.handlers.labels import IGNORED
from fastsoftmax.jax.losses import floats, signed
from fastsoftmax.jax.operations.head import HeadLosses, HeadTotal, Options
from fastsoftmax.jax.operations.rows import DTYPES

Reduction = Literal["mean", "sum", "none"]


def linear_cross_entropy(
    inputs: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None,
    labels: ArrayLike,
    *,
    class_weight: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
    ignore_index: int = -100,
    label_smoothing: float = options.OFF,
    z_loss: float = options.OFF,
    softcap: float | None = None,
    scale: float | None = None,
    reduction: Reduction = "mean",
    workspace: int = WORKSPACE,
) -> jax.Array:
    r"""Compute the cross entropy of a linear layer's outputs: that of fastsoftmax for JAX.

    .. math:: L = \frac{1}{N} \sum_i \left(\log \sum_j e^{z_{ij}} - z_{i,y_i}\right), \quad z = X W + b

    The logits z of as many rows as the workspace holds are computed at a time, and with them, where JAX differentiates,
    the gradients of X, W and b, which the forward pass leaves for the backward one.

    Parameters
    ----------
    inputs : array_like of float32, float64, float16 or bfloat16, shape (..., D)
        X.
    weight : array_like, shape (D, C)
        W, the dtype of `inputs`.
    bias : array_like, shape (C,), or None
        b, the dtype of `inputs`.
    labels : array_like of integers, shape (...)
        y, a class index for each row.
    class_weight : array_like, shape (C,), optional
        A weight for each class.
    sample_weight : array_like, shape (...), optional
        A weight for each row.
    ignore_index : int
        Rows with this label have no loss and do not count in the mean.
    label_smoothing, z_loss, softcap, scale : float
        As in `fastsoftmax.cross_entropy`: numbers of Python's, not traced.
    reduction : {"mean", "sum", "none"}
        As there. For "none" logits are computed twice, once for the losses and once more for their gradients.
    workspace : int
        Bytes of memory to use for logits, 32 MiB by default; at least one row's are used.

    Returns
    -------
    jax.Array
        The loss, in the dtype of `inputs`, for "none" one for each row; a mean or a sum of half types is a float32.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    jax.errors.JaxRuntimeError, ValueError
        The former where JAX runs the computation at once, when a label is no class: the message has it and its row.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> import fastsoftmax.jax as fj
    >>> inputs, weight, labels = jnp.ones((1, 1)), jnp.log(jnp.array([[1.0, 3.0]])), jnp.array([1])
    >>> jax.grad(fj.linear_cross_entropy, argnums=1)(inputs, weight, None, labels).round(6).tolist()
    [[0.25, -0.25]]
    """
    x, w, b, y = _checked(inputs, weight, bias, labels)
    arrays.check_reduction(reduction)
    dtype, n_classes = compute_dtype(x.dtype), w.shape[1]
    given = Options(
        options.number("label_smoothing", label_smoothing, 1.0, "from 0 to 1"),
        options.number("z_loss", z_loss, math.inf, "from 0 up"),
        **{"softcap": None, "scale": None} | options.transform(dtype, softcap, scale),
        chunk=rows_of_a_chunk(x, w, workspace),
    )
    weights = _weights("class_weight", class_weight, (n_classes,), dtype)
    factors = _weights("sample_weight", sample_weight, y.shape, dtype)
    ignored = arrays.integer("ignore_index", ignore_index)
    return _reduced(x, w, b, y, weights, factors, ignored, given, reduction)


def _checked(inputs: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, labels: ArrayLike) -> tuple[Any, ...]:
    x, w, y = floats("inputs", inputs), floats("weight", weight), jnp.asarray(labels)
    b = jnp.zeros(w.shape[1:], x.dtype) if bias is None else floats("bias", bias)
    if x.dtype.name not in DTYPES:
        raise TypeError(f"inputs: expected one of {', '.join(DTYPES)}, got {x.dtype}")
    for name, array in (("weight", w), ("bias", b)):
        if array.dtype != x.dtype:
            raise TypeError(f"{name}: expected {x.dtype} like inputs, got {array.dtype}")
    if x.ndim == 0:
        raise ValueError("inputs: expected at least one axis, that of the features, got a scalar")
    if w.ndim != 2 or w.shape[0] != x.shape[-1] or w.shape[1] == 0:
        raise ValueError(f"weight: expected shape ({x.shape[-1]}, at least 1), got shape {w.shape}")
    if b.shape != w.shape[1:]:
        raise ValueError(f"bias: expected shape {w.shape[1:]}, got {b.shape}")
    if not formulas.is_labels(y):
        raise TypeError(f"labels: expected integers, got {y.dtype}")
    if y.shape != x.shape[:-1]:
        raise ValueError(f"labels: expected shape {x.shape[:-1]}, got {y.shape}")
    return x.reshape(-1, x.shape[-1]), w, b, y


def _weights(name: str, value: ArrayLike | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> jax.Array | None:
    if value is None:
        return None
    weights = jnp.asarray(value, dtype)
    if weights.shape != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {weights.shape}")
    return weights


@functools.partial(jax.jit, static_argnums=(6, 7, 8), inline=True)
def _reduced(
    x: jax.Array,
    w: jax.Array,
    b: jax.Array,
    labels: jax.Array,
    class_weight: jax.Array | None,
    sample_weight: jax.Array | None,
    ignored: int,
    given: Options,
    reduction: Reduction,
) -> jax.Array:
    """Compute the loss of checked arguments."""
    y = jnp.where(labels == ignored, IGNORED, signed(labels)).reshape(-1)
    factors = jnp.ones(y.shape, compute_dtype(x.dtype)) if sample_weight is None else sample_weight.reshape(-1)
    others = [] if class_weight is None else [class_weight]
    if reduction == "none":
        losses, *_ = HeadLosses(given)(x, w, b, y, *others)
        return (factors * losses).astype(x.dtype).reshape(labels.shape)
    if reduction == "sum":
        return HeadTotal(given)(x, w, b, y, factors, *others)[0]
    counts = y != IGNORED
    own = 1 if class_weight is None else class_weight[jnp.where(counts, y, 0)]
    divisor = jnp.sum(jnp.where(counts, factors * own, 0))
    (total,) = HeadTotal(given)(x, w, b, y, jnp.where(divisor == 0, 0, factors / divisor), *others)
    return total + jnp.where(divisor == 0, jnp.nan, 0)
