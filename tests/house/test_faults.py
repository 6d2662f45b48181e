"""Each row of the table of faults in docs/cluster.md has a test, and each test a row."""

from __future__ import annotations

import ast
import re
from typing import Final

from tests.support.paths import REPOSITORY

COLUMNS: Final = ["what fails", "packets", "new containers", "fixed addresses", "names"]


def table() -> list[list[str]]:
    """The rows of the table, with its head."""
    text = (REPOSITORY / "docs/cluster.md").read_text()
    section = text.partition("\n## When something fails\n")[2].partition("\n## ")[0]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| ") and "---" not in line
    ]


def written() -> set[str]:
    """The names of the tests of faults."""
    files = (REPOSITORY / "tests/cluster").glob("test_faults*.py")
    return {
        node.name
        for file in files
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_each_row_has_a_test_of_its_name_and_no_empty_cell() -> None:
    head, *rows = table()
    assert head == COLUMNS
    assert all(len(row) == len(COLUMNS) and all(row) for row in rows)
    names = [
        "test_" + re.sub(r"[^a-z0-9]+", "_", row[0].lower().replace("'", "")).strip("_")
        for row in rows
    ]
    assert sorted(names) == sorted(written())
