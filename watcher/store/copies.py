"""Copies of a lease store in memory: for readers, and while its file is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from watcher.model.errors import WatcherError
from watcher.store import schema
from watcher.store.errors import BROKEN
from watcher.store.files import has_no_journal
from watcher.store.opening import check, connect

if TYPE_CHECKING:
    from pathlib import Path


def empty() -> sqlite3.Connection:
    """An empty lease store in memory."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    schema.migrate(db)
    return db


def kept(db: sqlite3.Connection) -> sqlite3.Connection:
    """A copy of `db` in memory; an empty one if `db` is damaged."""
    copy = sqlite3.connect(":memory:", isolation_level=None)
    with suppress(*BROKEN):
        db.backup(copy)
        if copy.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok":
            return copy
    copy.close()
    return empty()


def has_sandboxes(db: sqlite3.Connection) -> bool:
    """Whether a store has any sandbox."""
    return db.execute("SELECT 1 FROM sandbox").fetchone() is not None


def put_back(kept: sqlite3.Connection, db: sqlite3.Connection) -> None:
    """Replace the content of `db` with that of `kept`, in the transaction of `db`.

    SQLite's own backup fails if the page sizes differ, as they may for an older file.
    """
    db.execute("PRAGMA defer_foreign_keys = ON")
    tables = kept.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    for (table,) in tables:
        db.execute(f"DELETE FROM {table}")  # noqa: S608
        rows = kept.execute(f"SELECT * FROM {table}")  # noqa: S608
        marks = ", ".join("?" * len(rows.description))
        db.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608


def read(path: Path) -> sqlite3.Connection:
    """A copy in memory of the file `path`; without tables if that does not exist.

    Raises:
        WatcherError, OSError, sqlite3.Error: as :func:`watcher.store.opening.check`; or it cannot
            be read.
    """
    copy = sqlite3.connect(":memory:", isolation_level=None)
    try:
        _fill(copy, path)
    except BaseException:
        copy.close()
        raise
    return copy


def _fill(copy: sqlite3.Connection, path: Path) -> None:
    try:
        before = path.stat()
    except FileNotFoundError:
        return
    if has_no_journal(path):
        # No process has it open, and only `immutable` keeps SQLite from making files beside it. If
        # a writer comes in meanwhile, what was read is discarded.
        error = None
        try:
            _backup(path, "immutable=1", copy)
        except (*BROKEN, WatcherError) as failed:
            error = failed
        after = path.stat()
        unchanged = (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
        if unchanged and has_no_journal(path):
            if error is not None:
                raise error
            return
    _backup(path, "mode=ro", copy)


def _backup(path: Path, options: str, copy: sqlite3.Connection) -> None:
    with closing(connect(path, options)) as source:
        source.execute("BEGIN")  # the busy timeout applies to it, but not to a backup
        check(source, path)
        source.backup(copy)
