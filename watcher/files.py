"""Reading files that others write: never by a link, never blocked, never without bound."""

from __future__ import annotations

import os
import stat
from typing import Final

from watcher.errors import WatcherError, quoted, remedy_for

MAX_SIZE: Final = 8 << 20
"""Bytes of the largest file that is read; runc's own are around 40 KiB."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Unreadable(WatcherError):
    """A file that is there, but is not what it should be."""


def read_below(directory: str, name: str, file: str) -> bytes | None:
    """The content of `directory/name/file`; `None` if that or `name` is not there.

    `name` and `file` are single path components and may not be links, so nothing outside of
    `directory` is ever read.

    Raises:
        Unreadable: it is a link, not a regular file, too large, or not permitted.
    """
    try:
        parent = os.open(f"{directory}/{name}", _DIRECTORY)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(f"{directory}/{name}", error) from error
    try:
        return read_regular(file, f"{directory}/{name}/{file}", dir_fd=parent)
    finally:
        os.close(parent)


def read_regular(path: str, shown: str, *, dir_fd: int | None = None) -> bytes | None:
    """The content of the regular file `path`, shown in errors as `shown`; `None` if not there.

    Raises:
        Unreadable: it is a link, not a regular file, too large, or not permitted.
    """
    try:
        descriptor = os.open(path, _FILE, dir_fd=dir_fd)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(shown, error) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Unreadable(f"{quoted(shown)} is not a regular file", "remove it")
        if status.st_size > MAX_SIZE:
            raise Unreadable(
                f"{quoted(shown)} has {status.st_size} bytes, more than {MAX_SIZE}", "remove it"
            )
        # It may grow while it is read; one byte more than allowed is enough to see that.
        content = os.read(descriptor, status.st_size + 1)
        while len(content) <= MAX_SIZE and (more := os.read(descriptor, 1 << 16)):
            content += more
        return content
    except OSError as error:
        raise _unreadable(shown, error) from error
    finally:
        os.close(descriptor)


def _unreadable(shown: str, error: OSError) -> Unreadable:
    what = f"{quoted(shown)} cannot be read: {error.strerror}"
    return Unreadable(what, remedy_for(error, "remove or repair it"))
