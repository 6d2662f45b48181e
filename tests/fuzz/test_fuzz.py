"""What others write, as any bytes: a few inputs of `make fuzz`, and all that it ever found."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from itertools import product
from pathlib import Path

import pytest

from tests.fuzz import fuzz

KEPT = [
    (file.parent.name, file.name)
    for kind in fuzz.TARGETS
    for file in sorted((fuzz.CORPUS / kind).iterdir())
]
VALUES = ("'x'", "''", "NULL", "-1", "1 << 62", "1e300", "X'00ff'", "CAST(X'ff0a' AS TEXT)")


@pytest.mark.parametrize(("kind", "name"), KEPT)
def test_what_is_kept(kind: str, name: str, tmp_path: Path) -> None:
    assert (
        fuzz.attempt(fuzz.TARGETS[kind], (fuzz.CORPUS / kind / name).read_bytes(), tmp_path) == ""
    )


@pytest.mark.parametrize("kind", fuzz.TARGETS)
def test_some_more(kind: str, tmp_path: Path) -> None:
    inputs = fuzz.Inputs(1)
    for _ in range(50 if kind == "database" else 500):
        data = inputs.make(kind)
        assert fuzz.attempt(fuzz.TARGETS[kind], data, tmp_path) == "", data


def test_any_value_in_any_column_of_a_database(tmp_path: Path) -> None:
    whole = fuzz.some_database()
    (file := tmp_path / "some.db").write_bytes(whole)
    with closing(sqlite3.connect(file)) as database:
        columns = database.execute(
            "SELECT tables.name, columns.name FROM sqlite_schema AS tables"
            " JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'"
        ).fetchall()
    assert len(columns) > 30
    for (table, column), value in product(columns, VALUES):
        file.write_bytes(whole)
        connection = sqlite3.connect(file, isolation_level=None)
        with closing(connection), suppress(sqlite3.IntegrityError):  # it may take no such value
            connection.execute(f"UPDATE {table} SET {column} = {value}")
        found = fuzz.attempt(fuzz.TARGETS["database"], file.read_bytes(), tmp_path)
        assert found == "", (table, column, value)


def test_a_defect_is_seen() -> None:
    def broken(_: bytes, __: Path) -> None:
        raise KeyError("x")

    assert fuzz.attempt(broken, b"", Path()) == "KeyError: 'x'"
