"""Turns errors of SQLite and the system about the lease store's file into ones with a remedy."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from watcher.model.errors import WatcherError, quoted, shortened

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

BROKEN: Final = (sqlite3.DatabaseError, ValueError)
"""The exceptions about a file; `ValueError` for a bad text or address in it."""

AWAY: Final = "move it away and run `watcher sync`, which rebuilds it from what runs"
"""The remedy for a file that is no lease store of this program."""

REBUILD: Final = "run `watcher sync`, which puts it aside and rebuilds it from what runs"
"""The remedy for a file that is damaged or no database."""

_SPACE: Final = "free some space on its file system and run `watcher sync`"
_WRITABLE: Final = "make its file system writable, or set `state_dir` to a directory that is"
_RIGHTS: Final = "run as root, or set `state_dir` to a directory that you may write"

_SQLITE: Final = {
    sqlite3.SQLITE_CORRUPT: ("is damaged", REBUILD),
    sqlite3.SQLITE_NOTADB: ("is not a lease store", REBUILD),
    sqlite3.SQLITE_BUSY: (
        "is locked by another process",
        "wait for it to end and try again; `fuser` with the file's name tells which it is",
    ),
    sqlite3.SQLITE_FULL: ("cannot be written: no space left", _SPACE),
    sqlite3.SQLITE_READONLY: ("cannot be written", _WRITABLE),
    sqlite3.SQLITE_IOERR: (
        "cannot be read or written: input/output error",
        "see `df` for space left and `dmesg` for the disk's state, then run `watcher sync`",
    ),
    sqlite3.SQLITE_CANTOPEN: ("cannot be opened", _RIGHTS),
    sqlite3.SQLITE_PERM: ("cannot be opened", _RIGHTS),
}

_ERRNO: Final = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: _WRITABLE,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
}


class StoreDamaged(WatcherError):
    """The file is no database, or SQLite finds it damaged."""


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Turn errors of SQLite and the system about `path` into one line with a remedy.

    Raises:
        WatcherError: in place of `OSError` and of SQLite's errors about the file. An error that
            only a defect of this program can cause passes unchanged.
    """
    try:
        yield
    except OSError as error:
        remedy = _ERRNO.get(error.errno or 0, "see that `state_dir` is a directory on a local disk")
        raise WatcherError(
            f"lease store {quoted(path)} cannot be opened: {error.strerror}", remedy
        ) from error
    except BROKEN as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_ERROR:
            # A header that SQLite cannot read.
            what = f"lease store {quoted(path)} is damaged ({shortened(error)})"
            raise StoreDamaged(what, REBUILD) from error
        tell(path, error)


def tell(path: Path, error: sqlite3.DatabaseError | ValueError) -> NoReturn:
    """Raise `error` with a remedy; or unchanged, if it is a defect of this program.

    Raises:
        WatcherError: it is about the file.
    """
    if isinstance(error, UnicodeEncodeError):  # the file is not the cause
        what = f"{quoted(error.object)} is no text, and cannot be in a lease store"
        raise WatcherError(what, "give it another name") from error
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        what, remedy = _SQLITE[code & 0xFF]
        raise StoreDamaged(
            f"lease store {quoted(path)} {what} ({shortened(error)})", remedy
        ) from error
    if code is None and isinstance(error, ValueError | sqlite3.OperationalError):
        # SQLite accepts any bytes as text, so only the reader notices. The file is not put aside.
        what = f"lease store {quoted(path)} is damaged ({shortened(error)})"
        raise WatcherError(what, AWAY) from error
    if code is None or code & 0xFF not in _SQLITE:
        raise error
    what, remedy = _SQLITE[code & 0xFF]
    raise WatcherError(f"lease store {quoted(path)} {what} ({shortened(error)})", remedy) from error
