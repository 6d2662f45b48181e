"""Reads foreign files without following a link, blocking, or reading without bound."""

from __future__ import annotations

import errno
import os
import stat
from typing import Final

from handlers.kernel import rootpath
from watcher.model.errors import WatcherError, quoted, remedy_for

MAX_SIZE: Final = 8 << 20
"""Bytes of the largest file to read; runc's have around 40 KiB."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Unreadable(WatcherError):
    """A file exists but cannot be read, or is not what it should be."""


def open_below(directory: str, name: str, *, opened: int | None = None) -> int | None:
    """A descriptor (`O_PATH`) of the directory `directory/name`; `None` if it is missing.

    `name` is a single path component and may not be a link, so nothing outside of `directory` is
    ever opened. :mod:`handlers.kernel.rootpath` opens `directory` itself, unless `opened` is a
    descriptor of it.

    Raises:
        Unreadable: it is a link, not a directory, or not permitted.
    """
    try:
        above = rootpath.open_directory(directory) if opened is None else opened
        try:
            return os.open(name, _DIRECTORY, dir_fd=above)
        finally:
            if opened is None:
                os.close(above)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(f"{directory}/{name}", error) from error


def read_regular(
    path: str, shown: str, *, dir_fd: int | None = None, limit: int = MAX_SIZE
) -> bytes | None:
    """The content of the regular file `path`, shown in errors as `shown`; `None` if missing.

    Raises:
        Unreadable: it is a link, not a regular file, larger than `limit` bytes, or not permitted.
    """
    try:
        descriptor = os.open(path, _FILE, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(shown, error) from error
    return _read(descriptor, shown, limit)


def read_linked(path: str, shown: str, *, dir_fd: int, limit: int = MAX_SIZE) -> bytes | None:
    """Like :func:`read_regular`, but follow `path` if it is a link, wherever it leads.

    Only a regular file is opened, because opening a device may start something.
    """
    try:
        descriptor = os.open(path, _FILE, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise _unreadable(shown, error) from error
        descriptor = _open_linked(path, shown, dir_fd)
    return _read(descriptor, shown, limit)


def _open_linked(path: str, shown: str, dir_fd: int) -> int:
    try:
        found = os.open(path, os.O_PATH | os.O_CLOEXEC, dir_fd=dir_fd)
    except OSError as error:
        raise _unreadable(shown, error) from error
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise Unreadable(f"{quoted(shown)} is not a regular file", "remove it")
        return os.open(f"/proc/thread-self/fd/{found}", _FILE & ~os.O_NOFOLLOW)
    except OSError as error:
        raise _unreadable(shown, error) from error
    finally:
        os.close(found)


def _read(descriptor: int, shown: str, limit: int) -> bytes:
    """Read all of a regular file, and close its descriptor."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{quoted(shown)} is not a regular file", "make it one")
        if status.st_size > limit:
            raise Unreadable(
                f"{quoted(shown)} has {status.st_size} bytes, more than {limit}",
                "give the container fewer or shorter annotations",
            )
        # It may grow meanwhile; one byte more than allowed shows that.
        pieces = [os.read(descriptor, status.st_size + 1)]
        size = len(pieces[0])
        while status.st_size < size <= limit and (more := os.read(descriptor, 1 << 16)):
            pieces.append(more)
            size += len(more)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    except OSError as error:
        raise _unreadable(shown, error) from error
    finally:
        os.close(descriptor)


def _unreadable(shown: str, error: OSError) -> Unreadable:
    what = f"{quoted(shown)} cannot be read: {error.strerror}"
    return Unreadable(what, remedy_for(error, "see who may read it, and what `dmesg` tells of it"))
