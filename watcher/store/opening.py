"""Opens a file of the lease store: makes it, checks it, and shrinks it."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from watcher.model.errors import WatcherError, quoted
from watcher.store import schema
from watcher.store.errors import AWAY, BROKEN, REBUILD, StoreDamaged
from watcher.store.files import SUFFIXES, StoreFiles

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUSY_TIMEOUT: Final = 2.0
"""Seconds that a transaction waits for that of another process."""

SLACK: Final = 8 << 20
"""Unused bytes that a file may have."""


TRIES: Final = 5
"""How often a file is opened that is removed or replaced each time."""


def undisturbed[Opened](path: Path, call: Callable[[], Opened]) -> Opened:
    """Call `call`, which opens `path`; again if it fails because one of its files has changed.

    SQLite opens the files one after the other, and each by its name.
    """
    for _ in range(TRIES - 1):
        before = StoreFiles.of(path)
        try:
            return call()
        except (*BROKEN, WatcherError, OSError):
            if before.inodes[0] is not None and StoreFiles.of(path) == before:
                raise
    return call()


def make(path: Path) -> None:
    """Make an empty `path` and its directory, for the owner alone whatever the umask."""
    parent = path.parent
    if not parent.is_dir():
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        parent.chmod(0o700)
    if os.statvfs(parent).f_flag & os.ST_RDONLY:  # SQLite's error would be later and vaguer
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not path.exists():
        for suffix in SUFFIXES[1:]:  # those of a removed file are no part of a new one
            path.with_name(path.name + suffix).unlink(missing_ok=True)
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def connect(path: Path, options: str) -> sqlite3.Connection:
    """Open `path` with SQLite's URI parameters `options`, e.g. `mode=ro`."""
    return sqlite3.connect(
        f"file:{quote(os.fsencode(path.absolute()))}?{options}",
        uri=True,
        timeout=BUSY_TIMEOUT,
        isolation_level=None,
    )


def check(db: sqlite3.Connection, path: Path, in_use_by: Callable[[], str] = lambda: "") -> None:
    """Check that an open file is a whole lease store that this program may migrate.

    `in_use_by` is called for a file of an earlier schema; it returns the name of the service that
    has the file open, or an empty string.

    Raises:
        StoreDamaged: the file is damaged.
        WatcherError: it is something else, a newer program's, or in use by an older service.
    """
    version = schema.version_of(db)
    if version is None:
        raise WatcherError(f"lease store {quoted(path)} is another program's database", AWAY)
    if version > schema.VERSION:
        raise WatcherError(
            f"lease store {quoted(path)} has schema {version}, and this program knows"
            f" {schema.VERSION}",
            "upgrade watcher",
        )
    if (found := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
        raise StoreDamaged(f"lease store {quoted(path)} is damaged ({quoted(found)})", REBUILD)
    if 0 < version < schema.VERSION and (service := in_use_by()):
        raise WatcherError(
            f"lease store {quoted(path)} has schema {version}, and {service}, which has it open,"
            " knows no newer one",
            "restart that service, e.g. `systemctl restart watcher`",
        )


def shrink(db: sqlite3.Connection) -> None:
    """Shrink the file if most of it, and more than :data:`SLACK`, is unused."""
    pages, free, size = db.execute(
        "SELECT page_count, freelist_count, page_size"
        " FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
    ).fetchone()
    if free * 2 > pages and free * size > SLACK:
        with suppress(sqlite3.OperationalError):  # another process writes, or there is no space
            db.execute("VACUUM")
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
