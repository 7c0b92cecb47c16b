"""Commands whose streams are closed, full, or of an encoding that lacks a character: their own status, and one line."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the shell of POSIX")

COMMANDS = ["train --epochs 2 --hidden 8", "warmup --dtype float32", "--version"]


def run(command, redirect, folder=None, **environment):
    """Run a command with a shell's redirection; give its status, stdout and stderr."""
    return subprocess.run(
        ["sh", "-c", f'exec "$0" -m fastsoftmax {command} {redirect}', sys.executable],
        env={**os.environ, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.mark.parametrize("redirect", [">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize("command", COMMANDS)
def test_closed(command, redirect):
    done = run(command, redirect)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("redirect", ["2>&-", ">&- 2>&-"])
def test_closed_where_there_is_an_error(redirect):
    assert run("train --data missing.csv", redirect).returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
@pytest.mark.parametrize("command", [*COMMANDS[:2], "doctor"])
def test_full(command):
    done = run(command, "> /dev/full")
    name = command.split()[0]
    assert done.returncode == 1
    assert done.stderr == f"fastsoftmax {name}: error: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full device here")
@pytest.mark.parametrize("option", ["--version", "--help", "train --help"])
def test_full_before_there_is_a_command(option):
    done = run(option, "> /dev/full", PYTHONUNBUFFERED="")  # else argparse ignores it
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)


def test_encoding(tmp_path):
    """After the file is written its name is printed, with escapes for what ASCII lacks."""
    done = run(f"{COMMANDS[0]} --save Größe.npz", "", tmp_path, PYTHONIOENCODING="ascii", PYTHONUTF8="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "Größe.npz").exists()
    assert "Gr\\xf6\\xdfe.npz" in done.stdout
