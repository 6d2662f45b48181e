"""What became of containers without a network, and the store's rows of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watcher.model import Process

if TYPE_CHECKING:
    import sqlite3

MAX_REFUSED: Final = 100
"""How many failures of refused containers are kept: nothing vanishes that would end them."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a container has no network.

    Attributes:
        root, id: where it is, or was, as in :class:`watcher.model.Container`.
        init: its first process; `None` if it is not known.
        key: the annotation that is at fault; empty if none is.
        value: that annotation's value.
        reason: the whole one-line message.
        refused: whether its start was denied, so that it never ran.
        at: when, in seconds since the epoch.
    """

    root: str
    id: str
    init: Process | None
    key: str
    value: str
    reason: str
    refused: bool
    at: float


def keep(db: sqlite3.Connection, failure: Failure) -> None:
    """Keeps a failure in place of the container's last; of the refused ones the newest 100 stay."""
    init = failure.init
    db.execute(
        "INSERT OR REPLACE INTO failure (root, id, pid, start, key, value, reason, refused, at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            failure.root,
            failure.id,
            None if init is None else init.pid,
            None if init is None else init.start,
            failure.key,
            _storable(failure.value),
            _storable(failure.reason),
            failure.refused,
            failure.at,
        ),
    )
    db.execute(
        "DELETE FROM failure WHERE refused AND number <= (SELECT number FROM failure"
        " WHERE refused ORDER BY number DESC LIMIT 1 OFFSET ?)",
        (MAX_REFUSED,),
    )


def forget(db: sqlite3.Connection, root: str, name: str, *, refused: bool) -> None:
    """Drops a container's failure, if there is one; a refused one only with `refused`."""
    db.execute(
        "DELETE FROM failure WHERE id = ? AND root = ? AND refused <= ?", (name, root, refused)
    )


def load_all(db: sqlite3.Connection) -> list[Failure]:
    """Every failure that is kept, the oldest first."""
    rows = db.execute(
        "SELECT root, id, pid, start, key, value, reason, refused, at FROM failure ORDER BY number"
    )
    return [
        Failure(
            root,
            name,
            None if pid is None else Process(pid, start),
            key,
            value,
            reason,
            bool(refused),
            at,
        )
        for root, name, pid, start, key, value, reason, refused, at in rows
    ]


def _storable(text: str) -> str:
    """`text` from a foreign file as UTF-8 can hold it."""
    return text.encode(errors="backslashreplace").decode()
