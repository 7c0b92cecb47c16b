"""``fastsoftmax train``: train the two-layer network, then compare time and losses with the NumPy reference."""

import argparse
import contextlib
import io
import math
import os
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

import fastsoftmax
from fastsoftmax import reference
from fastsoftmax.cli import compiling, data
from fastsoftmax.cli.data import Array, Dataset, Split
from fastsoftmax.cli.errors import InputError
from fastsoftmax.cli.extras import extra
from fastsoftmax.cli.network import (
    ACTIVATIONS,
    Parameters,
    forward,
    initialise,
    loss_and_grads,
    sgd_step,
)

# Relative differences of loss curves: float32's roundings after some epochs, and all that amplification may explain.
_ROUNDING = 1e-5
_AMPLIFIED = 0.1
_PICTURES = (".png", ".svg", ".pdf")


class TrainingError(RuntimeError):
    """Training has come to nothing."""


class Run(NamedTuple):
    """What a training run leaves behind: the mean loss of each epoch, and the seconds all of them took."""

    parameters: Parameters
    losses: Array
    seconds: float


def run(args: argparse.Namespace) -> int:
    """Run the command, and return the exit status: 1 where the two loss curves do not agree."""
    tqdm = extra("tqdm", "cli").tqdm
    _check_outputs(args)
    dataset = data.load(args.data, args.label, args.drop)
    # The same three streams of random numbers for every run.
    split_seed, weight_seed, batch_seed = np.random.SeedSequence(args.seed).spawn(3)
    split = data.split(dataset, np.random.default_rng(split_seed))
    initial = Parameters(split.X.shape[1], args.hidden, len(dataset.classes))
    initialise(initial, ACTIVATIONS[args.activation], np.random.default_rng(weight_seed))
    _print_problem(args, dataset, split)

    def trained(ops: ModuleType, name: str, dtype: type = np.float32) -> Run:
        rng = np.random.default_rng(batch_seed)
        X: Array = split.X.astype(dtype, copy=False)
        with compiling.shown(tqdm):
            run_batches_once(ops, initial, X, split.y, args)
        # disable=None: no bar where stderr is no terminal.
        with tqdm(total=args.epochs, desc=name, unit="epoch", disable=None) as bar:
            return train(ops, initial.copy(dtype), X, split.y, args, rng, bar)

    # One right after the other: the large products of an evaluation between them would leave the BLAS's threads
    # spinning, and the second run would pay for it.
    ours, numpys = trained(fastsoftmax, "fastsoftmax"), trained(reference, "NumPy")
    _print_result(args, ours, split)
    _print_times(ours, numpys)
    agree, how = agreement(ours.losses, numpys.losses, lambda: trained(reference, "NumPy float64", np.float64).losses)
    print(f"loss curves: {how}")
    _write_outputs(args, dataset, split, ours, numpys)
    return 0 if agree else 1


def run_batches_once(ops: ModuleType, p: Parameters, X: Array, y: Array, args: argparse.Namespace) -> None:
    """Have what a full batch and the last one run compiled, or loaded; the weights stay as they are."""
    p, grads = p.copy(X.dtype), p.copy(X.dtype)
    with np.errstate(all="ignore"):
        for size in (args.batch_size, len(X) % args.batch_size or args.batch_size):
            loss_and_grads(ops, ACTIVATIONS[args.activation], p, X[:size], y[:size], grads)


def train(
    ops: ModuleType, p: Parameters, X: Array, y: Array, args: argparse.Namespace, rng: np.random.Generator, bar: Any
) -> Run:
    """Train `p` in place by mini-batch descent; only the epochs are timed, not the progress bar."""
    activation = ACTIVATIONS[args.activation]
    grads, velocity = p.copy(), np.zeros_like(p.flat)
    losses = np.empty(args.epochs)
    seconds = 0.0
    # Overflow shows in the loss, and is reported from there.
    with np.errstate(all="ignore"):
        for epoch in range(args.epochs):
            start = perf_counter()
            order = rng.permutation(len(X))
            shuffled_X, shuffled_y = X[order], y[order]
            total = 0.0
            for first in range(0, len(X), args.batch_size):
                batch = slice(first, first + args.batch_size)
                labels = shuffled_y[batch]
                loss = loss_and_grads(ops, activation, p, shuffled_X[batch], labels, grads)
                sgd_step(p, grads, velocity, args.lr, args.momentum)
                total += float(loss) * len(labels)
            losses[epoch] = total / len(X)
            seconds += perf_counter() - start
            if not math.isfinite(losses[epoch]):
                problem = f"the loss became {losses[epoch]} in epoch {epoch + 1} with {ops.__name__}"
                raise TrainingError(f"{problem}: --lr {args.lr} may be too large")
            bar.set_postfix(loss=f"{losses[epoch]:.4g}", refresh=False)
            bar.update()
    return Run(p, losses, seconds)


def agreement(losses: Array, numpys: Array, in_float64: Callable[[], Array]) -> tuple[bool, str]:
    """Tell whether two loss curves differ by rounding alone, and by how much.

    The larger the learning rate, the more training amplifies a rounding. What that comes to is seen from the reference
    in float64, which is run if need be: two runs in float32 may differ ten times as much as one of them does from it.
    """
    difference, epoch = _largest_difference(losses, numpys)
    seen = f"largest relative difference {difference:.1e}, in epoch {epoch}"
    if difference <= _ROUNDING:
        return True, f"agree to rounding ({seen})"
    drift, _ = _largest_difference(numpys, in_float64())
    seen += f"; NumPy's float32 differs from its float64 by {drift:.1e}"
    if difference <= min(10 * drift, _AMPLIFIED):
        return True, f"agree to rounding, amplified by training ({seen})"
    hint = ": with these options training amplifies rounding, try a smaller --lr" if drift > _ROUNDING else ""
    return False, f"DO NOT AGREE ({seen}){hint}"


def _largest_difference(losses: Array, expected: Array) -> tuple[float, int]:
    """Find the largest relative difference, and the epoch it is in."""
    differences = np.abs(losses - expected) / np.maximum(np.abs(expected), np.finfo(np.float32).tiny)
    epoch = int(np.argmax(differences))
    return float(differences[epoch]), epoch + 1


def _print_problem(args: argparse.Namespace, dataset: Dataset, split: Split) -> None:
    n_rows, n_columns = dataset.X.shape
    n_classes = len(dataset.classes)
    print(
        f"data: {dataset.name}, {n_rows:,} rows of {n_columns:,} features in {n_classes:,} classes; "
        f"{len(split.X):,} to train on, {len(split.X_held_out):,} held out"
    )
    if dataset.label_column:
        print(f"labels: {dataset.label_column}")
    print(
        f"network: {n_columns:,} inputs, {args.hidden:,} hidden ({args.activation}), {n_classes:,} classes; "
        f"{args.epochs:,} epochs of {-(-len(split.X) // args.batch_size):,} batches, float32, seed {args.seed}"
    )


def _print_result(args: argparse.Namespace, ours: Run, split: Split) -> None:
    _, z2 = forward(fastsoftmax, ACTIVATIONS[args.activation], ours.parameters, split.X_held_out)
    right = np.count_nonzero(z2.argmax(axis=1) == split.y_held_out)
    count = len(split.y_held_out)
    print(f"training loss: {ours.losses[0]:.4g} in the first epoch, {ours.losses[-1]:.4g} in the last")
    print(f"held-out accuracy: {right / count:.2%} ({right:,} of {count:,})")


def _print_times(ours: Run, numpys: Run) -> None:
    print(
        f"time: fastsoftmax {ours.seconds:.3f} s, NumPy reference {numpys.seconds:.3f} s, "
        f"NumPy / fastsoftmax {numpys.seconds / ours.seconds:.2f} "
        "(compiling not counted: each ran a batch before the clock)"
    )


def _check_outputs(args: argparse.Namespace) -> None:
    """Find out before training whether what comes after it can be written."""
    for option, path, suffixes in (("--save", args.save, (".npz",)), ("--plot", args.plot, _PICTURES)):
        if path is None:
            continue
        problem = None
        if path.suffix.lower() not in suffixes:
            problem = f"expected a name that ends in {' or '.join(suffixes)}"
        elif not os.path.isdir(path.parent):
            problem = "expected a folder that exists"
        elif os.path.exists(path) and not (os.path.isfile(path) and os.access(path, os.W_OK)):
            problem = "expected a file that may be replaced"
        elif args.data is not None and os.path.realpath(path) == os.path.realpath(args.data):
            problem = "expected another file than that of --data"
        if problem:
            raise InputError(f"argument {option}: {problem}, got {str(path)!r}")
        _write(option, path, None)
    if args.plot is not None:
        extra("matplotlib.figure", "plot")


def _write(option: str, path: Path, content: bytes | None) -> None:
    """Write a file whole or not at all; without content, only try whether it could be."""
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        with open(temporary, "xb") as file:
            file.write(content or b"")
        if content is not None:
            os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"argument {option}: {str(path)!r} cannot be written: {error.strerror}") from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _write_outputs(args: argparse.Namespace, dataset: Dataset, split: Split, ours: Run, numpys: Run) -> None:
    if args.save is not None:
        p = ours.parameters
        file = io.BytesIO()
        network = {"W1": p.W1, "b1": p.b1, "W2": p.W2, "b2": p.b2, "activation": args.activation}
        np.savez(file, **network, mean=split.mean, scale=split.scale, clip=data.CLIP, classes=dataset.classes)
        _write("--save", args.save, file.getvalue())
        print(f"saved the weights to {str(args.save)!r}")
    if args.plot is not None:
        _write("--plot", args.plot, picture(ours, numpys, args.plot.suffix.lower()[1:]))
        print(f"drew the loss curves in {str(args.plot)!r}")


def picture(ours: Run, numpys: Run, kind: str) -> bytes:
    """Draw the loss curves over one another."""
    # Not pyplot: no window, no backend to choose.
    figure = extra("matplotlib.figure", "plot").Figure(layout="constrained")
    yscale = "log" if min(ours.losses.min(), numpys.losses.min()) > 0 else "linear"
    axes = figure.add_subplot(xlabel="epoch", ylabel="training loss", yscale=yscale)
    epochs = np.arange(1, len(ours.losses) + 1)
    axes.plot(epochs, ours.losses, ".-", label=f"fastsoftmax, {ours.seconds:.2f} s")
    axes.plot(epochs, numpys.losses, "--", label=f"NumPy, {numpys.seconds:.2f} s")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()
