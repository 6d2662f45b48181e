"""The history: the last events, in two files of `state_dir`, across restarts.

Each line is an event as JSON, without what it changes in the state. The newer half is appended to:
one write(2) for many events, behind the answer of the gate. Once it has `keep` events it replaces
the older half, by rename(2). So there are `keep` to twice as many.

Several processes may write at once: the service, and a command that has found no service. O_APPEND
keeps their lines apart (open(2)), and flock(2) has one of them alone rename. A line may be torn by
the death of its writer or a full disk. The next writer ends it, and readers skip it.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from watcher.feed.lines import encoded_within
from watcher.model.errors import message_of, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable

    from watcher.config.settings import Events
    from watcher.feed.lines import Event
    from watcher.log.logger import Log

NEWER: Final = "events.jsonl"
OLDER: Final = "events.1.jsonl"
"""The names of the two halves."""

MOST_OF_A_LINE: Final = 16 << 10
"""An event with more bytes is kept without its port maps."""

_USUAL: Final = 2 << 10
_LEAST: Final = 1 << 20
"""A half has no more bytes than this for each event, or in all: whoever writes bundles chooses how
long events are, and is not to fill the disk."""

_EDGE: Final = 256 << 10
"""How much of a file's beginning and end is looked at for its first and last number."""

_SHORTEST: Final = 60
_DAY: Final = 86_400.0
_NEW: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class History:
    """Writes the history; no error of the file system leaves it.

    Args:
        state_dir: where the files are.
        settings: how much to keep.
        log: is told once if the history cannot be written, and once when it can be again.

    Attributes:
        last_seq: the number of the last event; 0 without any.
        lost: how many events could not be written since the start.
    """

    def __init__(self, state_dir: str, settings: Events, log: Log) -> None:
        self._directory = state_dir
        self._newer, self._older = f"{state_dir}/{NEWER}", f"{state_dir}/{OLDER}"
        self._log = log
        self._file: int | None = None
        self._identity: tuple[int, int] | None = None
        self._events = 0
        self._bytes = 0
        self._torn = False
        self._failing = 0
        self._tidied = 0.0
        self.lost = 0
        self.last_seq = last_seq(state_dir)
        self.configure(settings)

    def configure(self, settings: Events) -> None:
        """Keep as much as `settings` say from now on; nothing at all removes the files."""
        self._settings = settings
        try:
            if settings.keep == 0:
                self.close()
                remove(self._directory)
            else:
                self._tidy()
        except OSError as error:
            self._log.warning("the history cannot be tidied", reason=message_of(error))

    def write(self, events: Iterable[Event]) -> None:
        """Append `events` in one write; those that cannot be written are counted as lost."""
        batch = list(events)
        if not batch:
            return
        self.last_seq = batch[-1].seq
        if self._settings.keep == 0:
            return
        whole, error = 0, ""
        try:
            data = b"".join(map(_line, batch))
            whole = self._append(data, len(batch))
        except OSError as failure:
            error = message_of(failure)
        except Exception as failure:  # noqa: BLE001 (an event is worth no error in the service)
            error = shortened(repr(failure))
        self._tell(len(batch) - whole, error)

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _append(self, data: bytes, events: int) -> int:
        """Write `data`; returns how many of its `events` are whole in the file."""
        if time.monotonic() - self._tidied >= _DAY:
            self._tidy()
        file = self._opened()
        if self._events >= self._settings.keep or self._bytes + len(data) > self._most():
            file = self._rotated(file)
        start = b"\n" if self._torn else b""
        written = os.write(file, start + data)
        whole = events
        if written < len(start) + len(data):  # the disk is full now
            whole = data[: max(0, written - len(start))].count(b"\n")
            self._torn = True
        else:
            self._torn = False
        self._events += whole
        self._bytes += written
        return whole

    def _most(self) -> int:
        return max(self._settings.keep * _USUAL, _LEAST)

    def _opened(self) -> int:
        """The newer half, which is opened anew if another file has its name, or none."""
        if self._file is not None:
            if _identity(self._newer) == self._identity:
                return self._file
            self.close()
        if not os.path.isdir(self._directory):  # noqa: PTH112 (as the lease store makes it)
            Path(self._directory).mkdir(mode=0o700, parents=True)
        self._file = os.open(self._newer, _NEW, 0o600)
        status = os.fstat(self._file)
        if not S_ISREG(status.st_mode):
            self.close()
            raise OSError(0, "not a file", self._newer)
        if status.st_mode & 0o077:
            os.fchmod(self._file, 0o600)
        self._identity = status.st_dev, status.st_ino
        self._bytes = status.st_size
        self._events, self._torn = _extent(self._newer, status.st_size)
        return self._file

    def _rotated(self, file: int) -> int:
        """Make the newer half the older one; returns the new file."""
        if self._bytes == 0:
            return file
        with suppress(BlockingIOError):  # else another process is at it
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _identity(self._newer) == self._identity:
                os.rename(self._newer, self._older)  # noqa: PTH104 (both are strings)
            self.close()
        return self._opened()

    def _tidy(self) -> None:
        """Remove the older half if all of it is too old. Its last write is its last event."""
        self._tidied = time.monotonic()  # for the clock may be set back
        with suppress(FileNotFoundError):
            if time.time() - os.lstat(self._older).st_mtime > self._settings.keep_days * _DAY:
                os.unlink(self._older)  # noqa: PTH108

    def _tell(self, lost: int, error: str) -> None:
        self.lost += lost
        if lost and not self._failing:
            self._log.error(
                "the history cannot be written",
                file=self._newer, reason=error or "the file system is full",
                remedy="make room or repair the file system; events are lost until then",
            )  # fmt: skip
        elif not lost and self._failing:
            self._log.warning("the history is written again", lost=self._failing)
        self._failing = self._failing + lost if lost else 0


def remove(state_dir: str) -> None:
    """Remove the history.

    Raises:
        OSError: a file cannot be removed.
    """
    for name in (NEWER, OLDER):
        Path(state_dir, name).unlink(missing_ok=True)


def last_seq(state_dir: str) -> int:
    """The number of the last event of the history; 0 without any, or if it cannot be read."""
    for name in (NEWER, OLDER):
        with suppress(OSError):
            if numbers := _numbers(_edge(f"{state_dir}/{name}", end=True), last=True):
                return numbers
    return 0


class _Number(Struct):
    seq: Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


_decode: Final = msgspec.json.Decoder(_Number).decode


def _line(event: Event) -> bytes:
    return encoded_within(replace(event, set=(), unset=()), MOST_OF_A_LINE)


def _extent(path: str, size: int) -> tuple[int, bool]:
    """About how many events a file of that size has, and whether its last line is torn."""
    if size == 0:
        return 0, False
    end = _edge(path, end=True)
    first, last = _numbers(_edge(path, end=False), last=False), _numbers(end, last=True)
    events = last - first + 1 if first and last else 0
    if not 0 < events <= size // _SHORTEST:  # garbage, or numbers that began anew
        events = size // _USUAL
    return events, not end.endswith(b"\n")


def _edge(path: str, *, end: bool) -> bytes:
    """The first or the last bytes of a file."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        if not S_ISREG(status.st_mode):
            return b""
        return os.pread(file, _EDGE, max(0, status.st_size - _EDGE) if end else 0)
    finally:
        os.close(file)


def _numbers(edge: bytes, *, last: bool) -> int:
    """The first or the last number in the lines of a file's edge; 0 if none is whole."""
    lines = edge.split(b"\n")
    for line in reversed(lines) if last else lines:
        with suppress(msgspec.DecodeError, RecursionError):
            return _decode(line).seq
    return 0


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
