"""Sections of a README that are generated: what stands between ``<!-- NAME:start -->`` and ``<!-- NAME:end -->``."""

from collections.abc import Mapping, Sequence
from pathlib import Path


class InputError(Exception):
    """What was given cannot be used; the message is one line."""


def read(path: Path) -> str:
    """Read a text file, or raise `InputError`."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}") from error


def replace_sections(path: Path, bodies: Mapping[str, str]) -> None:
    """Put each body between the markers of its name in a file, or raise `InputError` and leave the file alone."""
    text = read(path)
    for name, body in bodies.items():
        start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
        if text.count(start) != 1 or text.count(end) != 1 or text.index(start) > text.index(end):
            raise InputError(f"{path}: expected the markers {start} and {end}, once and in this order")
        before, rest = text.split(start)
        text = f"{before}{start}\n\n{body.strip()}\n\n{end}{rest.split(end)[1]}"
    path.write_text(text, encoding="utf-8")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int) -> str:
    """Lay out a Markdown table: the first columns are text, the others numbers."""
    rule = [":--"] * text_columns + ["--:"] * (len(header) - text_columns)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))
