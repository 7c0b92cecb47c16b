"""Every library's form of every operation: ``TABLE[operation][library]``, a row a contender.

Each is the best form that the library offers for the result: a preallocated ``out`` where it takes one, its own memory
layout, compiled and with its inputs in place before the clock starts (`dialects`). The benchmarks time this table; the
tests check that all contenders of an operation compute the same.
"""

import numpy as np

from benchmarks import threads
from benchmarks.dialects import (
    Call,
    Contender,
    classes_last,
    compiled,
    eager,
    eager_grad,
    eager_out,
    jitted,
    ours,
    ours_in_place,
    plain,
    reusing,
    weight_turned,
    widened,
)

# NumPy: the lines that its users write. ------------------------------------------------------------------------------


def _of_labels(y):
    """Index each row's own logit; the classes are on the second axis."""
    first, *others = [np.arange(len(y))] if y.ndim == 1 else np.ix_(*map(np.arange, y.shape))
    return first, y, *others


def _softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _log_softmax(z):
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def _logsumexp(z):
    m = z.max(axis=1)
    return m + np.log(np.exp(z - m[:, None]).sum(axis=1))


def _row_losses(z, y):
    z = z - z.max(axis=1, keepdims=True)
    return np.log(np.exp(z).sum(axis=1)) - z[_of_labels(y)]


def _cross_entropy(z, y):
    return _row_losses(z, y).mean()


def _cross_entropy_with_grad(z, y):
    own = _of_labels(y)
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=1)
    loss = (np.log(total) - z[own]).mean()
    e /= total[:, None]
    e[own] -= 1
    e /= y.size
    return loss, e


def _linear_cross_entropy(x, w, b, y):
    return _cross_entropy(x @ w + b, y)


def _linear_cross_entropy_with_grad(x, w, b, y):
    z, dx, dw = np.empty((len(x), w.shape[1]), x.dtype), np.empty_like(x), np.empty_like(w)

    def run():
        np.matmul(x, w, out=z)
        loss, dz = _cross_entropy_with_grad(np.add(z, b, out=z), y)
        return loss, np.matmul(dz, w.T, out=dx), np.matmul(x.T, dz, out=dw), dz.sum(axis=0)

    return Call(run)


def _products(x, w, b, y):
    z, dx, dw = x @ w, np.empty_like(x), np.empty_like(w)

    def run():
        np.matmul(x, w, out=z)
        np.matmul(z, w.T, out=dx)
        np.matmul(x.T, z, out=dw)

    return Call(run)


# The other libraries, where it takes more than a line. ----------------------------------------------------------------


def _scipy_loss(special, z, y):
    return -special.log_softmax(z, axis=1)[np.arange(len(y)), y]


def _scipy_loss_with_grad(special, z, y):
    rows = np.arange(len(y))
    log_probs = special.log_softmax(z, axis=1)
    loss = -log_probs[rows, y].mean()
    dz = np.exp(log_probs, out=log_probs)
    dz[rows, y] -= 1
    dz /= len(y)
    return loss, dz


def _sklearn(with_grad):
    def make(losses, z, y):
        half = losses.HalfMultinomialLoss(n_classes=z.shape[1])
        losses_out = np.empty(len(z), z.dtype)
        # A weight of 1/N a row makes the gradient that of the mean without another pass.
        args = {"y_true": y.astype(z.dtype), "raw_prediction": z, "sample_weight": np.full(len(z), 1 / len(z), z.dtype)}
        args |= {"loss_out": losses_out, "n_threads": threads.count()}
        if not with_grad:
            return Call(lambda: half.loss(**args).sum())
        args["gradient_out"] = np.empty_like(z)

        def run():
            loss, dz = half.loss_gradient(**args)
            return loss.sum(), dz

        return Call(run)

    return Contender(make, ("sklearn._loss.loss",))


def _torch_loss(torch, z, y):
    return torch.nn.functional.cross_entropy(z, y)


def _torch_linear_loss(torch, x, w, b, y):
    return torch.nn.functional.cross_entropy(torch.nn.functional.linear(x, w, b), y)


def _torch_fused_linear_loss(torch, x, w, b, y):
    # Its option to work in chunks saves memory, and cost up to 2.6 times as long on our shapes.
    return torch.nn.functional.linear_cross_entropy(x, w, y, linear_bias=b)


def _jax_loss(jax, optax, z, y):
    return optax.softmax_cross_entropy_with_integer_labels(z, y, axis=1).mean()


def _jax_linear_loss(jax, optax, x, w, b, y):
    return _jax_loss(jax, optax, x @ w + b, y)


def _softmax_backward(a, g):
    return a * (g - (a * g).sum(1)[:, None])


def _torch_softmax_backward(torch, a, g, out=None):
    out = torch.empty_like(a) if out is None else out
    return torch.ops.aten._softmax_backward_data.out(g, a, 1, a.dtype, grad_input=out)


def _torch_log_softmax_backward(torch, log_a, g, out=None):
    out = torch.empty_like(log_a) if out is None else out
    return torch.ops.aten._log_softmax_backward_data.out(g, log_a, 1, log_a.dtype, out=out)


def _on_one_thread(fs, z, y):
    from numba import get_num_threads, set_num_threads

    everyone, out = get_num_threads(), np.empty_like(z)
    return Call(
        lambda: fs.cross_entropy_with_grad(z, y, out=out),
        before=lambda: set_num_threads(1),
        after=lambda: set_num_threads(everyone),
    )


# --------------------------------------------------------------------------------------------------------------------

OURS = "fastsoftmax"
IN_PLACE = "fastsoftmax in place"

TABLE: dict[str, dict[str, Contender]] = {
    "softmax": {
        "NumPy": plain(_softmax),
        "SciPy": plain(lambda special, z: special.softmax(z, axis=1), "scipy.special"),
        "PyTorch": eager_out(lambda torch, z, out=None: torch.softmax(z, 1, out=out)),
        "torch.compile": compiled(lambda torch, z: torch.softmax(z, 1)),
        "JAX": jitted(lambda jax, z: jax.nn.softmax(z, 1)),
        OURS: ours("softmax"),
        IN_PLACE: ours_in_place("softmax"),
    },
    "log_softmax": {
        "NumPy": plain(_log_softmax),
        "SciPy": plain(lambda special, z: special.log_softmax(z, axis=1), "scipy.special"),
        "PyTorch": eager_out(lambda torch, z, out=None: torch.log_softmax(z, 1, out=out)),
        "torch.compile": compiled(lambda torch, z: torch.log_softmax(z, 1)),
        "JAX": jitted(lambda jax, z: jax.nn.log_softmax(z, 1)),
        OURS: ours("log_softmax"),
        IN_PLACE: ours_in_place("log_softmax"),
    },
    "logsumexp": {
        "NumPy": plain(_logsumexp),
        "SciPy": plain(lambda special, z: special.logsumexp(z, axis=1), "scipy.special"),
        "PyTorch": eager_out(lambda torch, z, out=None: torch.logsumexp(z, 1, out=out)),
        "torch.compile": compiled(lambda torch, z: torch.logsumexp(z, 1)),
        "JAX": jitted(lambda jax, z: jax.nn.logsumexp(z, 1)),
        OURS: ours("logsumexp"),
    },
    "softmax_backward": {
        "NumPy": plain(_softmax_backward),
        "PyTorch": eager_out(_torch_softmax_backward),
        "torch.compile": compiled(lambda torch, a, g: _softmax_backward(a, g)),
        "JAX": jitted(lambda jax, a, g: _softmax_backward(a, g)),
        OURS: ours("softmax_backward"),
    },
    "log_softmax_backward": {
        "NumPy": plain(lambda log_a, g: g - np.exp(log_a) * g.sum(axis=1, keepdims=True)),
        "PyTorch": eager_out(_torch_log_softmax_backward),
        "torch.compile": compiled(lambda torch, log_a, g: g - log_a.exp() * g.sum(1, keepdim=True)),
        "JAX": jitted(lambda jax, log_a, g: g - jax.numpy.exp(log_a) * g.sum(1, keepdims=True)),
        OURS: ours("log_softmax_backward"),
    },
    # Not timed: the errors of single losses are what `fidelity` looks at.
    "cross_entropy_of_rows": {
        "NumPy": plain(_row_losses),
        "SciPy": plain(_scipy_loss, "scipy.special"),
        "PyTorch": eager(lambda torch, z, y: torch.nn.functional.cross_entropy(z, y, reduction="none")),
        "JAX": jitted(lambda jax, optax, z, y: optax.softmax_cross_entropy_with_integer_labels(z, y), "optax"),
        OURS: plain(lambda fs, z, y: fs.cross_entropy(z, y, reduction="none"), OURS, role="ours"),
    },
    "cross_entropy": {
        "NumPy": plain(_cross_entropy),
        "SciPy": plain(lambda special, z, y: _scipy_loss(special, z, y).mean(), "scipy.special"),
        "PyTorch": eager(_torch_loss),
        "torch.compile": compiled(_torch_loss),
        "JAX": jitted(_jax_loss, "optax"),
        "scikit-learn": _sklearn(with_grad=False),
        OURS: ours("cross_entropy", reuse=False),
    },
    "cross_entropy_with_grad": {
        "NumPy": plain(_cross_entropy_with_grad),
        "SciPy": plain(_scipy_loss_with_grad, "scipy.special"),
        "PyTorch": eager_grad(_torch_loss),
        "torch.compile": compiled(_torch_loss, wrt=1),
        "JAX": jitted(_jax_loss, "optax", wrt=1),
        "scikit-learn": _sklearn(with_grad=True),
        OURS: ours("cross_entropy_with_grad"),
        IN_PLACE: ours_in_place("cross_entropy_with_grad"),
        "fastsoftmax on one thread": Contender(_on_one_thread, (OURS,), "one thread"),
    },
    "weight_grad": {
        "NumPy": reusing(lambda x, dz, out=None: np.matmul(x.T, dz, out=out)),
        "PyTorch": eager_out(lambda torch, x, dz, out=None: torch.mm(x.T, dz, out=out)),
        "torch.compile": compiled(lambda torch, x, dz: x.T @ dz),
        "JAX": jitted(lambda jax, x, dz: x.T @ dz),
        OURS: ours("weight_grad"),
    },
    "bias_grad": {
        "NumPy": reusing(lambda dz, out=None: np.sum(dz, axis=0, out=out)),
        "PyTorch": eager_out(lambda torch, dz, out=None: torch.sum(dz, 0, out=out)),
        "torch.compile": compiled(lambda torch, dz: dz.sum(0)),
        "JAX": jitted(lambda jax, dz: dz.sum(0)),
        OURS: ours("bias_grad"),
    },
    "input_grad": {
        "NumPy": reusing(lambda dz, w, out=None: np.matmul(dz, w.T, out=out)),
        "PyTorch": eager_out(lambda torch, dz, w, out=None: torch.mm(dz, w, out=out), weight_at=1),
        "torch.compile": compiled(lambda torch, dz, w: dz @ w, weight_at=1),
        "JAX": jitted(lambda jax, dz, w: dz @ w.T),
        OURS: ours("input_grad"),
    },
    "linear_cross_entropy": {
        "NumPy": plain(_linear_cross_entropy),
        "PyTorch": eager(_torch_linear_loss, weight_at=1),
        "torch.compile": compiled(_torch_linear_loss, weight_at=1),
        "torch linear_cross_entropy": eager(_torch_fused_linear_loss, weight_at=1),
        "JAX": jitted(_jax_linear_loss, "optax"),
        OURS: ours("linear_cross_entropy", reuse=False),
    },
    "linear_cross_entropy_with_grad": {
        "NumPy": Contender(_linear_cross_entropy_with_grad),
        "PyTorch": eager_grad(_torch_linear_loss, wrt=3, weight_at=1),
        "torch.compile": compiled(_torch_linear_loss, wrt=3, weight_at=1),
        "torch linear_cross_entropy": eager_grad(_torch_fused_linear_loss, wrt=3, weight_at=1),
        "JAX": jitted(_jax_linear_loss, "optax", wrt=3),
        OURS: ours("linear_cross_entropy_with_grad"),
        "products alone": Contender(_products, role="yardstick"),
    },
}

# What forms of this library are compared with beside other libraries: their own in another dtype or layout.
TWINS = {"float32": widened, "classes last": classes_last, "weight (C, D)": weight_turned}


def _with_twins(row, *kinds):
    own = [(library, contender) for library, contender in row.items() if contender.role == "ours"]
    return row | {f"{library} ({kind})": TWINS[kind](contender) for kind in kinds for library, contender in own}


for _operation in ("softmax", "log_softmax", "cross_entropy", "cross_entropy_with_grad"):
    TABLE[_operation] = _with_twins(TABLE[_operation], "float32", "classes last")
for _operation in ("linear_cross_entropy", "linear_cross_entropy_with_grad"):
    TABLE[_operation] = _with_twins(TABLE[_operation], "weight (C, D)")
