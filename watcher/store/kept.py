"""Notes which sandboxes have a copy beside the lease store (:mod:`handlers.copies`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3


def keep(db: sqlite3.Connection, sandbox: int, *, kept: bool = True) -> None:
    """Note that neither annotations nor links tell any more what a sandbox has; or that they do."""
    db.execute("UPDATE sandbox SET kept = ? WHERE key = ?", (kept, sandbox))
