"""The schema's migrations, on real files: from every earlier version, whole or not at all."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.paths import REPOSITORY
from watcher.store import schema

if TYPE_CHECKING:
    from pathlib import Path

type Migration = tuple[str, ...]

LATER: Final[tuple[Migration, ...]] = (
    # A column that says what was not known, in a table that is made anew: SQLite's long way.
    (
        "CREATE TABLE anew (name TEXT PRIMARY KEY, value TEXT NOT NULL, by TEXT NOT NULL) STRICT",
        "INSERT INTO anew SELECT name, value, 'unknown' FROM note",
        "DROP TABLE note",
        "ALTER TABLE anew RENAME TO note",
    ),
    ("ALTER TABLE sandbox ADD COLUMN cgroup TEXT NOT NULL DEFAULT ''",),
)
"""Migrations that there may be one day, after those that there are."""

ALL: Final = (*schema.MIGRATIONS, *LATER)
SANDBOX: Final = "INSERT INTO sandbox (root, id, pid, start, netns) VALUES ('/r', 'web', 1, 2, 3)"
NOTE: Final = "INSERT INTO note (name, value) VALUES ('ruleset', 'abc')"
VERSIONS: Final = range(1, len(ALL))
"""Every version before the last, but that of an empty file."""


def opened(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def dump(path: Path) -> list[str]:
    """The whole of a file: its version, its tables and their rows."""
    with opened(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [f"version {schema.version_of(db)}", *db.iterdump()]


def made(path: Path, version: int) -> list[str]:
    """Makes a file of the first version with a row or two, and then of that; what is in it."""
    with opened(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        schema.migrate(db, ALL[:1])
        db.execute(SANDBOX)
        db.execute(NOTE)
        schema.migrate(db, ALL[:version])
    return dump(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store's file may be made, in a directory that is there."""
    return tmp_path / "leases.db"


@pytest.mark.parametrize("version", [0, *VERSIONS])
def test_every_version_becomes_the_last_in_one_transaction(path: Path, version: int) -> None:
    if version:
        made(path, version)
    statements: list[str] = []
    with opened(path) as db:
        db.set_trace_callback(statements.append)
        schema.migrate(db, ALL)
        db.set_trace_callback(None)
        assert schema.version_of(db) == len(ALL)
        if version:
            assert db.execute("SELECT id, cgroup FROM sandbox").fetchall() == [("web", "")]
            assert db.execute("SELECT name, value FROM note").fetchall() == [("ruleset", "abc")]
    done = [statement for steps in ALL[version:] for statement in steps]
    first, last = statements.index("BEGIN IMMEDIATE"), statements.index("COMMIT")
    inside = statements[first + 1 : last]
    assert [statement for statement in inside if statement in done] == done
    assert not any(statement in done for statement in statements[:first] + statements[last:])


def test_the_last_version_is_left_alone(path: Path) -> None:
    before = made(path, len(ALL))
    statements: list[str] = []
    with opened(path) as db:
        db.set_trace_callback(statements.append)
        schema.migrate(db, ALL)
    assert "BEGIN IMMEDIATE" not in statements
    assert dump(path) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_an_error_on_the_way_leaves_the_old_version_whole(path: Path, version: int) -> None:
    before = made(path, version)
    broken = (*ALL, ("CREATE TABLE last (x) STRICT, WITHOUT SENSE",))
    with opened(path) as db, pytest.raises(sqlite3.OperationalError):
        schema.migrate(db, broken)
    assert dump(path) == before


KILLED: Final = textwrap.dedent(
    """
    import json, os, signal, sqlite3, sys
    from watcher.store import schema
    path, migrations, left = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3])
    db = sqlite3.connect(path, isolation_level=None)
    def count(statement):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    db.set_trace_callback(count)
    schema.migrate(db, migrations)
    """
)


@pytest.mark.parametrize("version", VERSIONS)
def test_killed_between_any_two_statements_of_a_migration(path: Path, version: int) -> None:
    before = made(path, version)
    for statement in range(1, 100):
        words = [sys.executable, "-c", KILLED, str(path), json.dumps(ALL), str(statement)]
        child = subprocess.run(words, cwd=REPOSITORY, check=False)
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        assert dump(path) == before
    assert statement > sum(map(len, ALL[version:]))
    assert dump(path)[0] == f"version {len(ALL)}"
