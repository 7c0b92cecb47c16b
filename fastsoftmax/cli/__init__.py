"""The command line: ``fastsoftmax train``, ``fastsoftmax warmup`` and ``fastsoftmax doctor``."""

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from fastsoftmax._version import __version__
from fastsoftmax.cli import doctor, train, warmup
from fastsoftmax.cli.errors import InputError
from fastsoftmax.cli.network import ACTIVATIONS
from fastsoftmax.cli.train import TrainingError
from fastsoftmax.kernels.compiling.target import LEVELS
from fastsoftmax.options import FIELDS


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """End with one line on stderr and status 2: no usage before it."""
        self.exit(2, self.line(message))

    def line(self, message: str) -> str:
        """Say what went wrong in one line."""
        return f"{self.prog}: error: {' '.join(message.splitlines())}\n"


def _parser() -> _Parser:
    description = "Softmax cross entropy and its gradients as fused CPU kernels."
    parser = _Parser(prog="fastsoftmax", description=description, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_train(commands)
    _add_warmup(commands)
    _add_doctor(commands)
    return parser


def _add_train(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "train",
        help="train a two-layer network and time it against NumPy",
        description="Train a two-layer network with softmax cross entropy on handwritten digits or on your own data, "
        "then train it again with the NumPy reference, and compare times and losses.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=train.run, parser=parser)
    add = parser.add_argument
    add("--data", type=Path, metavar="FILE", help=".npz with X and y, .csv or .csv.gz (default: digits)")
    add(
        "--label",
        metavar="COLUMN",
        help="name or number of the .csv's column of labels (default: the one named label, class, target, species or "
        "y, else the last)",
    )
    add("--drop", action="append", default=[], metavar="COLUMN", help="leave a column of the .csv out; may be repeated")
    add("--hidden", type=_integer(1), metavar="N", default=128, help="units of the hidden layer (default: %(default)s)")
    add("--activation", choices=ACTIVATIONS, default="relu", help="of the hidden layer (default: %(default)s)")
    add("--epochs", type=_integer(1), metavar="N", default=20, help="passes over the data (default: %(default)s)")
    add("--batch-size", type=_integer(1), metavar="N", default=32, help="rows in a mini-batch (default: %(default)s)")
    add("--lr", type=_learning_rate, metavar="X", default=0.05, help="learning rate (default: %(default)s)")
    add("--momentum", type=_momentum, metavar="X", default=0.9, help="from 0 to below 1 (default: %(default)s)")
    add("--seed", type=_integer(0), metavar="N", default=0, help="of split, weights and batches (default: %(default)s)")
    add("--plot", type=Path, metavar="FILE", help="draw both loss curves to this .png, .svg or .pdf")
    add("--save", type=Path, metavar="FILE", help="save the trained weights to this .npz")


def _add_warmup(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "warmup",
        help="compile the kernels ahead, for images and CI",
        description="Compile the kernels of all functions and keep them on disk, so that no later process on this kind "
        "of CPU has to. What is there already is not compiled again.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=warmup.run, parser=parser)
    add = parser.add_argument
    add(
        "--dtype",
        choices=warmup.DTYPES,
        help="only for arrays of this dtype, and what half types need of float32 (default: float32 and float64)",
    )
    add("--report", action="store_true", help="print what each kernel took to compile, dearest first")
    add("--into", type=Path, metavar="FOLDER", help="keep them there; processes read it as NUMBA_CACHE_DIR")
    add(
        "--options",
        action="append",
        nargs="+",
        default=[],
        choices=FIELDS,
        metavar="NAME",
        help="also what losses with these options take, all of them on; may be repeated for other sets: "
        f"{', '.join(FIELDS)}",
    )
    add(
        "--cpu",
        action="append",
        choices=LEVELS,
        help="for each processor of this level, whichever this one is; may be repeated",
    )


def _add_doctor(commands: "argparse._SubParsersAction[_Parser]") -> None:
    parser = commands.add_parser(
        "doctor",
        help="describe this installation and say what slows it down",
        description="Print versions, CPU, threads, the cache of compiled kernels and what the machine is measured to "
        "do, to be pasted into a bug report, then a sentence for each problem found.",
        allow_abbrev=False,
    )
    parser.set_defaults(run=doctor.run, parser=parser)


def _integer(low: int, high: int = 1_000_000) -> Callable[[str], int]:
    def parse(text: str) -> int:
        with contextlib.suppress(ValueError):
            if low <= (value := int(text)) <= high:
                return value
        raise argparse.ArgumentTypeError(f"expected an integer from {low} to {high:,}, got {text!r}")

    return parse


def _learning_rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (value := float(text)) < math.inf:
            return value
    raise argparse.ArgumentTypeError(f"expected a finite number above 0, got {text!r}")


def _momentum(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (value := float(text)) < 1:
            return value
    raise argparse.ArgumentTypeError(f"expected a number from 0 to below 1, got {text!r}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit status: 0, or 1 where a command has run and something is wrong.

    Raises
    ------
    SystemExit
        With status 2 for bad input and 130 for an interrupt, after one line on stderr.
    """
    _mend_streams()
    parser = _parser()
    try:
        args, unknown = parser.parse_known_args(argv)
    except SystemExit:  # after --help or --version, or an error
        try:
            sys.stdout.flush()
        except OSError as error:
            _give_up_output(parser, error)
            raise SystemExit(1) from None
        raise
    command: _Parser = args.parser
    if unknown:
        command.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except InputError as error:
        command.error(str(error))
    except MemoryError as error:
        command.error(f"not enough memory: {error}")
    except TrainingError as error:
        sys.stderr.write(command.line(str(error)))
        return 1
    except KeyboardInterrupt:
        command.exit(130, f"{command.prog}: interrupted\n")
    except OSError as error:  # what is read or written of files is an InputError: this is stdout
        _give_up_output(command, error)
        return 1
    return status


def _mend_streams() -> None:
    """Let streams that were closed take anything, and others what their encoding has no character for."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, for the process
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _give_up_output(parser: _Parser, error: OSError) -> None:
    """Drop what is still to be written, and is tried at exit; say why, unless the reader has left, as `head` does."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if not isinstance(error, BrokenPipeError):
        sys.stderr.write(parser.line(f"the output cannot be written: {error.strerror}"))
