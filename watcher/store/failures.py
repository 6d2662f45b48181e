"""Failures: why containers have no network, and their rows in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from watcher.model.container import Process

if TYPE_CHECKING:
    import sqlite3

MAX_VALUE: Final = 256
"""The most characters to keep of an annotation's value, which may have any length."""

MAX_REASON: Final = 4096
"""The most characters to keep of a reason, which may quote several shortened values."""

MAX_REFUSED: Final = 100
"""The number of refused containers whose failures are kept: they never vanish."""

REFUSED_FOR: Final = 3600.0
"""Seconds for which such a failure counts; it is removed with the next failure."""


class Failure(Struct, frozen=True):
    """Why a container has no network.

    Attributes:
        root, id: as in :class:`watcher.model.container.Container`.
        init: its first process, if known.
        key: the faulty annotation; empty if there is none.
        value: the first :data:`MAX_VALUE` characters of that annotation's value.
        reason: the whole one-line message.
        refused: whether its start was denied, so that it never ran.
        at: the time, in seconds since the epoch.
        cause: as in :class:`watcher.facts.kinds.Failed`; empty if an earlier version kept it.
    """

    root: str
    id: str
    init: Process | None
    key: str
    value: str
    reason: str
    refused: bool
    at: float
    cause: str = ""


def keep(db: sqlite3.Connection, failure: Failure) -> None:
    """Replace the container's last failure; of the refused ones only the last hour's stay.

    Of these only the newest 100.
    """
    init = failure.init
    db.execute(
        "INSERT OR REPLACE INTO failure (root, id, pid, start, key, value, reason, refused, at,"
        " cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            failure.root,
            failure.id,
            None if init is None else init.pid,
            None if init is None else init.start,
            failure.key,
            _storable(failure.value, MAX_VALUE),
            _storable(failure.reason, MAX_REASON),
            failure.refused,
            failure.at,
            failure.cause,
        ),
    )
    db.execute("DELETE FROM failure WHERE refused AND at <= ?", (failure.at - REFUSED_FOR,))
    db.execute(
        "DELETE FROM failure WHERE refused AND number <= (SELECT number FROM failure"
        " WHERE refused ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (MAX_REFUSED,),
    )


def cut(db: sqlite3.Connection) -> None:
    """Shorten values that an earlier version kept whole, perhaps hundreds of megabytes."""
    for column, most in (("value", MAX_VALUE), ("reason", MAX_REASON)):
        long = f"FROM failure WHERE length({column}) > {most}"
        if db.execute(f"SELECT 1 {long} LIMIT 1").fetchone():
            db.execute(
                f"UPDATE failure SET {column} = substr({column}, 1, {most})"  # noqa: S608
                f" WHERE length({column}) > {most}"
            )


def forget(db: sqlite3.Connection, root: str, name: str, *, refused: bool) -> None:
    """Drop a container's failure, if there is one; a refused one only with `refused`."""
    db.execute(
        "DELETE FROM failure WHERE id = ? AND root = ? AND refused <= ?", (name, root, refused)
    )


def load(db: sqlite3.Connection, root: str, name: str) -> Failure | None:
    """A container's failure, if one is kept."""
    row = db.execute(f"{_SELECT} WHERE id = ? AND root = ?", (name, root)).fetchone()
    return None if row is None else _failure(row)


def load_all(db: sqlite3.Connection) -> list[Failure]:
    """Every kept failure, the oldest first."""
    return [_failure(row) for row in db.execute(f"{_SELECT} ORDER BY number")]


def load_after(db: sqlite3.Connection, number: int, most: int) -> list[tuple[int, Failure]]:
    """The first failures after `number` of containers that may live, at most so many.

    Each has its number, which grows with every failure.
    """
    query = f"{_SELECT} WHERE number > ? AND NOT refused AND id <> '' ORDER BY number LIMIT ?"
    return [(row[-1], _failure(row)) for row in db.execute(query, (number, most))]


_SELECT: Final = (
    "SELECT root, id, pid, start, key, value, reason, refused, at, cause, number FROM failure"
)


def _failure(row: tuple[Any, ...]) -> Failure:
    root, name, pid, start, key, value, reason, refused, at, cause, _ = row
    init = None if pid is None else Process(pid, start)
    return Failure(root, name, init, key, value, reason, bool(refused), at, cause)


def _storable(text: str, most: int) -> str:
    """The first `most` characters of a foreign `text`, in a form that UTF-8 can encode."""
    return text[:most].encode(errors="backslashreplace").decode()
