"""Resolves a root's path without following links that another user than root may have made.

The program opens, mounts and marks the directory at a root's path, and reads containers there. A
user who owns a part of that path could replace it by a link to `/` at any time. So a link is
followed only if its directory belongs to root and no other user may write to it. The sticky bit
makes no difference: any user may make links in such a directory. Directories of other users are
walked through, because what is in them is theirs anyway.

Everything is opened with `O_PATH`: nothing is read, and no fanotify event is made (open(2)).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator
from contextlib import suppress
from typing import Final

from handlers.kernel.openat2 import RESOLVE_NO_SYMLINKS, how, openat2

MODE: Final = 0o711
"""The mode that engines give a runtime's root and the directories above it."""

NEVER_MADE: Final = "/run/user"
"""A session manager makes this directory and those in it, and may fail if one exists."""

_STEP: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LINK: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS: Final = 40
"""The kernel's own limit (path_resolution(7))."""

_NO_LINKS: Final = how(_STEP & ~os.O_NOFOLLOW, RESOLVE_NO_SYMLINKS)


class UntrustedLinkError(OSError):
    """A part of a path is a link that another user than root may have made."""

    def __init__(self, link: str) -> None:
        super().__init__(errno.ELOOP, "is a link that others than root could have put there", link)


def open_directory(path: str, *, make: bool = False) -> int:
    """A descriptor (`O_PATH`) of the directory at the absolute `path`.

    Args:
        path: the path.
        make: whether to make missing parts, with :data:`MODE`; never in a directory of another
            user, nor :data:`NEVER_MADE` or below it.

    Raises:
        UntrustedLinkError: a part of it is a link that must not be followed.
        OSError: it is missing, is no directory, or cannot be made.
    """
    # Usually the path has no link, and one call is enough.
    try:
        return openat2(-1, path, _NO_LINKS)
    except OSError:
        pass  # a link may be followed all the same, and a step tells what is wrong
    steps = walk(path, make=make)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            descriptor: int = end.value
            return descriptor
        except OSError as error:
            if not str(error.filename).startswith("/"):
                error.filename = path  # the error named only a part of it
            raise


class Opened:
    """:func:`open_directory` for `with`; a class, because the hot path uses it often."""

    __slots__ = ("_descriptor", "_path")

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> int:
        self._descriptor = open_directory(self._path)
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def opened(path: str) -> Opened:
    """A context manager that opens the directory of `path`."""
    return Opened(path)


def walk(path: str, *, make: bool = False) -> Generator[tuple[int, str], None, int]:
    """Walk along `path`: yield each directory on the way, and the next name to look up in it.

    Each descriptor is closed when the next is requested. The last one, of `path`, is returned.
    Errors are those of :func:`open_directory`.
    """
    names = path.split("/")[::-1]
    links = 0
    here = os.open("/", _STEP)
    try:
        while names:
            name = names.pop()
            if name in ("", "."):
                continue
            yield here, name
            there = _step(here, name, make=make)
            if isinstance(there, str):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                names += there.split("/")[::-1]
                if not there.startswith("/"):
                    continue
                there = os.open("/", _STEP)
            os.close(here)
            here = there
        found, here = here, -1
        return found
    finally:
        if here >= 0:
            os.close(here)


def real(path: str) -> str:
    """The absolute `path` with links resolved, as far as it exists and may be followed."""
    names = path.split("/")
    for length in range(len(names), 1, -1):
        with suppress(OSError), opened("/".join(names[:length])) as directory:
            return os.path.join(path_of(directory), *names[length:])  # noqa: PTH118
    return path


def may_make(directory: int, name: str) -> bool:
    """Whether a missing `name` may be made in an open directory: that must be root's."""
    never = f"{_joined(path_of(directory), name)}/".startswith(f"{NEVER_MADE}/")
    return not never and os.fstat(directory).st_uid == 0


def path_of(descriptor: int) -> str:
    """The kernel's own name for an open directory."""
    return os.readlink(f"/proc/thread-self/fd/{descriptor}")  # noqa: PTH115


def identity(descriptor: int) -> tuple[int, int]:
    """Device and inode of an open directory, which identify it whatever its name."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def _step(here: int, name: str, *, make: bool) -> int | str:
    """The directory `name` in the directory `here`, or its target if it is a link."""
    try:
        return os.open(name, _STEP, dir_fd=here)
    except FileNotFoundError:
        if not make:
            raise
    except NotADirectoryError:
        target = _target(here, name)
        if target is None:
            raise
        return target
    below = path_of(here)
    if not may_make(here, name):
        why = "is not there yet, and is for the directory's owner to make"
        raise FileNotFoundError(errno.ENOENT, why, _joined(below, name))
    before = os.umask(0)
    try:
        with suppress(FileExistsError):
            os.mkdir(name, MODE, dir_fd=here)
    except OSError as error:
        raise OSError(error.errno, error.strerror, _joined(below, name)) from error
    finally:
        os.umask(before)
    return _step(here, name, make=False)


def _target(here: int, name: str) -> str | None:
    """The target of the link `name` in the directory `here`; `None` if it is no link."""
    link = os.open(name, _LINK, dir_fd=here)
    try:
        if not stat.S_ISLNK(os.fstat(link).st_mode):
            return None
        holder = os.fstat(here)
        if holder.st_uid != 0 or holder.st_mode & 0o022:
            raise UntrustedLinkError(_joined(path_of(here), name))
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _joined(directory: str, name: str) -> str:
    return f"{directory.rstrip('/')}/{name}"
