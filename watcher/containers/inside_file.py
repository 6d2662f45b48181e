"""Reads a file of a container as its processes see it.

The container is not believed: a link may lead anywhere, and the file may be a pipe, endless, or on
a file system that never answers. So a child process reads it, which is left alone after a while.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from handlers.kernel.in_root import open_in_root
from watcher.containers import proc
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.model.container import Process

MAX_SIZE: Final = 64 << 10
"""Bytes of a file that are read; what comes after them is not looked at."""

PATIENCE: Final = 0.8
"""Seconds to wait for the content."""

_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CONTENT, _MISSING, _BAD = b"+", b"-", b"!"


class CannotRead(WatcherError):
    """The file is there, but its content is not to be had."""


def read_inside(init: Process, path: str) -> bytes | None:
    """The beginning of the file `path` of the container of `init`; `None` if it is missing.

    Raises:
        CannotRead: it is not a regular file, cannot be read, or nothing answers.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _be_child(init, path, writer)
    os.close(writer)
    try:
        told = _all_of(reader)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, os.WNOHANG)  # one that hangs is left to whoever adopts it
    if told[:1] == _CONTENT:
        return told[1:]
    if told[:1] == _MISSING:
        return None
    why = told[1:].decode(errors="replace") or f"nothing has answered for {PATIENCE} s"
    raise CannotRead(f"its {path} cannot be read: {why}", "make it a plain file")


def _all_of(reader: int) -> bytes:
    """What the child writes until it ends; nothing if that takes too long."""
    end = time.monotonic() + PATIENCE
    pieces: list[bytes] = []
    while (left := end - time.monotonic()) > 0:
        if select.select([reader], [], [], left)[0]:
            piece = os.read(reader, MAX_SIZE)
            if not piece:
                return b"".join(pieces)
            pieces.append(piece)
    return b""


def _be_child(init: Process, path: str, writer: int) -> None:
    """Read, write the outcome to `writer`, and end. Nothing else of the parent's stays open."""
    try:
        os.closerange(0, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        _write(writer, _outcome(init, path))
    finally:
        os._exit(0)


def _outcome(init: Process, path: str) -> bytes:
    try:
        root = os.open(f"/proc/{init.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if not proc.runs(init):  # what was opened may be of another process
            return _BAD + b"the container has ended"
        file = open_in_root(root, path)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            return _BAD + b"it is not a regular file"
        if not status.st_size:  # files of the kernel, which do something when they are read
            return _CONTENT
        return _CONTENT + os.read(os.open(f"/proc/self/fd/{file}", _READ), MAX_SIZE)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        return _BAD + (error.strerror or "").encode()


def _write(writer: int, content: bytes) -> None:
    while content:
        content = content[os.write(writer, content) :]
