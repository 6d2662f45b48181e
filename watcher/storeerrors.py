"""What SQLite and the system say of the lease store's file, as an error that says what to do."""

from __future__ import annotations

import errno
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NoReturn

from watcher.errors import WatcherError, quoted

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

AWAY: Final = "move it away and run `watcher sync`, which rebuilds it from what runs"
"""What to do about a file that is no lease store of this program's."""

_SPACE: Final = "free some space on its file system and run `watcher sync`"
_WRITABLE: Final = "make its file system writable, or set `state_dir` to a directory that is"
_RIGHTS: Final = "run as root, or set `state_dir` to a directory that you may write"

_SQLITE: Final = {
    sqlite3.SQLITE_CORRUPT: ("is damaged", AWAY),
    sqlite3.SQLITE_NOTADB: ("is not a lease store", AWAY),
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


@contextmanager
def translated(path: Path) -> Generator[None]:
    """Turns what SQLite and the system say of `path` into a line that says what to do.

    Raises:
        WatcherError: in place of `OSError` and of SQLite's errors about the file. What only a
            mistake in this program can cause is left as it is.
    """
    try:
        yield
    except OSError as error:
        remedy = _ERRNO.get(error.errno or 0, "see that `state_dir` is a directory on a local disk")
        raise WatcherError(
            f"lease store {quoted(path)} cannot be opened: {error.strerror}", remedy
        ) from error
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_ERROR:  # a header of which it can make nothing
            raise WatcherError(f"lease store {quoted(path)} is damaged ({error})", AWAY) from error
        tell(path, error)


def tell(path: Path, error: sqlite3.DatabaseError) -> NoReturn:
    """Raise what says of `error` what to do; itself, if only a mistake of ours can cause it.

    Raises:
        WatcherError: it is about the file.
    """
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code not in _SQLITE:
        raise error
    what, remedy = _SQLITE[code]
    raise WatcherError(f"lease store {quoted(path)} {what} ({error})", remedy) from error
