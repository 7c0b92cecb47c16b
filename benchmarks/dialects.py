"""How a library's functions become contenders: set up before the clock starts, in the library's own best form.

Nothing is imported before a contender is set up.
"""

import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from benchmarks import threads
from benchmarks.problems import dtype_named


class UnavailableError(Exception):
    """A contender cannot run here; the message says why."""


class Call(NamedTuple):
    """A contender at the start: `run` is timed, what must happen before and after each run is not."""

    run: Callable[[], Any]
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


class Contender(NamedTuple):
    """How to set up a library: `make` receives the modules that it needs, then the arrays of the problem."""

    make: Callable[..., Call]
    needs: tuple[str, ...] = ()
    role: Literal["peer", "ours", "yardstick", "one thread", "float32", "classes last", "weight (C, D)"] = "peer"

    def installed(self) -> bool:
        """Whether all that it needs is installed; nothing is imported for the answer."""
        return all(importlib.util.find_spec(name.partition(".")[0]) for name in self.needs)

    def setup(self, arrays: list[np.ndarray], **options: Any) -> Call:
        """Prepare the contender for these arrays, ours for options too, or raise `UnavailableError`."""
        if not self.installed():
            raise UnavailableError(f"{' and '.join(self.needs)} must be installed")
        return self.make(*(importlib.import_module(name) for name in self.needs), *arrays, **options)


# Dialects: from a function of (modules, arrays) to a contender. -----------------------------------------------------


def plain(function, *needs, role="peer"):
    """Call the function as it is."""
    return Contender(lambda *args, **options: Call(partial(function, *args, **options)), needs, role)


def reusing(function, *needs, role="peer"):
    """Call a function that takes ``out``; the array that its first call made serves all others, unless one is given."""

    def make(*args, out=None, **options):
        if out is None:
            made = function(*args, **options)
            out = made[1] if isinstance(made, tuple) else made
        return Call(partial(function, *args, **options, out=out))

    return Contender(make, needs, role)


def axis_of(array):
    """Give the option for classes on the second axis, where it is not the last."""
    return {} if array.ndim == 2 else {"axis": 1}


def ours(name, reuse=True):
    """Call a function of this library."""
    dialect = reusing if reuse else plain
    usual = dialect(lambda fs, *arrays, **options: getattr(fs, name)(*arrays, **options), "fastsoftmax", role="ours")
    return usual._replace(make=lambda fs, *arrays, **given: usual.make(fs, *arrays, **axis_of(arrays[0]), **given))


def ours_in_place(name):
    """Call a function of this library that writes over its logits."""

    def make(fs, z, *labels):
        work = z.copy()
        run = partial(getattr(fs, name), work, *labels, out=work, **axis_of(z))
        # Its result is no realistic input: each call begins with the logits again.
        return Call(run, before=lambda: np.copyto(work, z))

    return Contender(make, ("fastsoftmax",), "ours")


def widened(contender):
    """Do the same in float32, with arrays of the same numbers."""

    def make(fs, *arrays):
        return contender.make(fs, *(a if a.dtype.kind == "i" else a.astype(np.float32) for a in arrays))

    return contender._replace(make=make, role="float32")


def classes_last(contender):
    """Do the same with the classes of each row next to each other, and turn the result back."""

    def make(fs, z, *labels):
        rows = np.moveaxis(z, 1, -1)
        call = contender.make(fs, rows.reshape(-1, rows.shape[-1]), *map(np.ravel, labels))

        def turn(result):
            return np.moveaxis(result.reshape(rows.shape), -1, 1) if np.ndim(result) else result

        def run_and_turn():
            result = call.run()
            return tuple(map(turn, result)) if isinstance(result, tuple) else turn(result)

        return call._replace(run=run_and_turn)

    return contender._replace(make=make, role="classes last")


def weight_turned(contender):
    """Do the same with the weight as the transpose of a (C, D) array, and its gradient too."""

    def make(fs, x, w, *others):
        return contender.make(fs, x, np.asfortranarray(w), *others)

    return contender._replace(make=make, role="weight (C, D)")


def _tensor(torch, array):
    """Make a tensor of an array's memory; of bfloat16 PyTorch takes the bits alone."""
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def flat(result):
    """List the arrays of a nested result, a contender's own ones as NumPy's."""
    if isinstance(result, tuple | list):
        return [array for part in result for array in flat(part)]
    if str(getattr(result, "dtype", "")) == "torch.bfloat16":  # which NumPy cannot take
        return [result.float().numpy().astype(dtype_named("bfloat16"))]
    return [np.asarray(result)]


def _torch(build, weight_at=None, wrt=0):
    """Turn arrays into tensors, a weight (D, C) into PyTorch's (C, D), and its gradient back."""

    def make(torch, *arrays):
        torch.set_num_threads(threads.count())
        turned = [np.ascontiguousarray(a.T) if i == weight_at else a for i, a in enumerate(arrays)]
        run = build(torch, *(_tensor(torch, a) for a in turned))
        if weight_at is None or not wrt:
            return Call(run)

        def run_and_turn():
            loss, grads = run()
            return loss, [g.T if i == weight_at else g for i, g in enumerate(grads)]

        return Call(run_and_turn)

    return Contender(make, ("torch",))


def eager(function, weight_at=None):
    """Call a PyTorch function without gradients."""
    return _torch(lambda torch, *tensors: partial(function, torch, *tensors), weight_at)


def eager_out(function, weight_at=None):
    """Call a PyTorch function that takes ``out``."""
    return _torch(lambda *args: partial(function, *args, out=function(*args)), weight_at)


def eager_grad(function, wrt=1, weight_at=None):
    """Call a PyTorch loss and its backward pass, for the gradients of the first `wrt` arguments and no others."""

    def build(torch, *tensors):
        sources = [tensor.requires_grad_() for tensor in tensors[:wrt]]

        def run():
            loss = function(torch, *tensors)
            return loss.detach(), torch.autograd.grad(loss, sources)

        return run

    return _torch(build, weight_at, wrt)


def compiled(function, wrt=0, weight_at=None):
    """Compile a PyTorch function, and with `wrt` its gradients too: forward and backward as one graph."""

    def build(torch, *tensors):
        compilers = [os.environ.get("CXX"), "c++", "g++", "clang++", "cl"]
        if not any(shutil.which(name) for name in compilers if name):
            raise UnavailableError("torch.compile needs a C++ compiler")
        torch.compiler.reset()  # after eight shapes of one function it would quietly stop compiling
        torch._inductor.config.compile_threads = 1  # no pool of compilers beside the measurements
        target = partial(function, torch)
        if not wrt:
            return partial(torch.compile(target, dynamic=False, fullgraph=True), *tensors)
        both = torch.func.grad_and_value(target, argnums=tuple(range(wrt)))
        both = torch.compile(both, dynamic=False, fullgraph=True)

        def run():
            grads, loss = both(*tensors)
            return loss, grads

        return run

    return _torch(build, weight_at, wrt)


def jitted(function, *needs, wrt=0):
    """Compile a JAX function, and with `wrt` its gradients too; wait for the result."""

    def make(jax, *args):
        modules, arrays = args[: len(needs)], args[len(needs) :]
        jax.config.update("jax_enable_x64", any(a.dtype == np.float64 for a in arrays))
        target = partial(function, jax, *modules)
        target = jax.jit(jax.value_and_grad(target, argnums=tuple(range(wrt))) if wrt else target)
        inputs = jax.device_put([a.astype(np.int32) if a.dtype == np.int64 else a for a in arrays])
        return Call(lambda: jax.block_until_ready(target(*inputs)))

    return Contender(make, ("jax", *needs))
