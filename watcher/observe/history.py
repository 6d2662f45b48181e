"""Reads the history of events; :mod:`watcher.feed.history` writes it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from stat import S_ISREG
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Struct

from watcher.feed.history import NEWER, OLDER, last_seq
from watcher.feed.lines import Event
from watcher.model.errors import WatcherError, quoted

if TYPE_CHECKING:
    from watcher.config.settings import Events

type Wanted = Callable[[int, datetime], bool]
"""Whether an event is wanted, by its number and its time."""

_PART: Final = 1 << 18
_LONGEST: Final = 1 << 20
"""A longer line is no event: the rest of it is skipped."""

_TRIES: Final = 100
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class _Head(Struct):
    seq: int
    time: datetime


_head: Final = msgspec.json.Decoder(_Head).decode
_event: Final = msgspec.json.Decoder(Event).decode


class HistoryReader:
    """Reads both halves in order, part by part, and then what is appended.

    Args:
        state_dir: where the history is.

    Attributes:
        seq: the number of the last event that was read, wanted or not.

    Raises:
        WatcherError: it is for root.
    """

    def __init__(self, state_dir: str) -> None:
        self._newer = f"{state_dir}/{NEWER}"
        self._files: list[int] = []
        self._rest = b""
        self._skipping = False
        self.seq = 0
        try:
            self._open(f"{state_dir}/{OLDER}")
        except PermissionError as error:
            raise WatcherError(
                f"the history in {quoted(state_dir)} is for root",
                "be root, or leave --since out for what happens from now on",
            ) from error

    def close(self) -> None:
        """Close the files."""
        while self._files:
            os.close(self._files.pop())

    def read(self, wanted: Wanted) -> Iterator[Event]:
        """The events that are wanted, of those that were not read before."""
        while self._files or self._renew():
            while part := os.read(self._files[0], _PART):
                yield from self._events(part, wanted)
            if len(self._files) == 1 and not self._renew():
                return
            # The writer may have appended before it renamed the file.
            while part := os.read(self._files[0], _PART):
                yield from self._events(part, wanted)
            os.close(self._files.pop(0))
            self._rest, self._skipping = b"", False

    def has_more(self) -> bool:
        """Whether there is something that was not read yet."""
        if not self._files:
            return _identity(self._newer) is not None
        file = self._files[-1]
        if os.fstat(file).st_size > os.lseek(file, 0, os.SEEK_CUR):
            return True
        return _identity(self._newer) not in (None, _identity_of(file))

    def _open(self, older: str) -> None:
        """Open both halves as they were at one moment."""
        for _ in range(_TRIES):
            files = [_opened(older), _opened(self._newer)]
            self._files = [file for file in files if file is not None]
            if _identity(older) == (None if files[0] is None else _identity_of(files[0])):
                return
            self.close()  # it was renamed meanwhile
        raise WatcherError("the history changes too fast to be read", "try again")

    def _renew(self) -> bool:
        """Open the file that has the name now, if it is another one than the last that is open."""
        try:
            file = _opened(self._newer)
        except OSError:
            return False
        if file is None:
            return False
        if self._files and _identity_of(self._files[-1]) == _identity_of(file):
            os.close(file)
            return False
        self._files.append(file)
        return True

    def _events(self, part: bytes, wanted: Wanted) -> Iterator[Event]:
        *lines, self._rest = (self._rest + part).split(b"\n")
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if len(self._rest) > _LONGEST or self._skipping:
            self._rest, self._skipping = b"", True
        for line in lines:
            with suppress(msgspec.DecodeError, RecursionError):  # torn, or no line of ours
                head = _head(line)
                self.seq = head.seq
                if wanted(head.seq, head.time):
                    yield _event(line)


def kept(state_dir: str, settings: Events) -> Wanted:
    """What counts as kept: the files have more than the settings say, until these are renamed."""
    least = last_seq(state_dir) - settings.keep
    since = datetime.now(UTC) - timedelta(days=settings.keep_days)
    return lambda seq, time: seq > least and time >= since


def _opened(path: str) -> int | None:
    """The file, if it is one: anything else is no history, as if it were missing."""
    try:
        file = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link, a socket
            return None
        raise
    if not S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        return None
    return file


def _identity_of(file: int) -> tuple[int, int]:
    status = os.fstat(file)
    return status.st_dev, status.st_ino


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None
