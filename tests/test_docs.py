"""The pages for users: what their examples print, and what their tables say."""

import doctest
import inspect
import re
from pathlib import Path

import pytest

import fastsoftmax as fs

PAGE = Path(__file__).parents[1] / "docs" / "options.md"


def code_by_section():
    """The page's Python by heading, all other lines blank, so that line numbers are those of the page."""
    sections, heading, in_code = {}, "", False
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line.startswith("```"):
            in_code = line == "```python"
        elif line.startswith("## "):
            heading = line.removeprefix("## ")
        code = sections.setdefault(heading, [""] * len(lines))
        if in_code and not line.startswith("```"):
            code[number] = line
    return {name: "\n".join(code) for name, code in sections.items()}


SECTIONS = code_by_section()


@pytest.mark.parametrize("section", SECTIONS)
def test_examples(section):
    """Each section is run after what the page begins with, and after nothing else."""
    told, variables = [], {}
    for name in dict.fromkeys(("", section)):
        examples = doctest.DocTestParser().get_doctest(SECTIONS[name], variables, name or PAGE.name, str(PAGE), 0)
        assert examples.examples, f"no example in {name!r}"
        doctest.DocTestRunner(verbose=False).run(examples, out=told.append, clear_globs=False)
        variables = examples.globs
    if told:
        pytest.fail("".join(told), pytrace=False)


def test_table_of_functions():
    """A function takes an option where the table says so, and nowhere else; labels are its own argument."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| option") or line.startswith("| [`")
    ]
    columns = [re.findall(r"`(\w+)`", cell) for cell in rows[0][1:]]
    said = {re.search(r"`(\w+)`", row[0])[1]: row[1:] for row in rows[1:]}
    for functions, *cells in zip(columns, *said.values(), strict=True):
        for function in functions:
            taken = inspect.signature(getattr(fs, function)).parameters
            assert [cell == "yes" for cell in cells] == [option in taken for option in said], function
    options = inspect.signature(fs.cross_entropy_with_grad).parameters.keys() - {"logits", "out"}
    assert said.keys() == options
