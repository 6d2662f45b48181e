"""Events of commands that change something: how a command tells them, and how the service hears.

They travel by datagrams at a socket of root's, a line of JSON each, without what they change: the
keys of that stand in `unset`, and the service reads the rest from the lease store.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import replace

from watcher.facts import kinds
from watcher.feed.credentials import CREDENTIALS
from watcher.feed.events import event_of, kind_of
from watcher.feed.lines import Event, encoded_within

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Iterator

    from watcher.facts.kinds import Fact
    from watcher.log.logger import Log

PATIENCE: Final = 1.0
"""Seconds that a command waits for a service that does not read."""

_TOGETHER: Final = 32 << 10
"""Bytes of a datagram, unless one event has more."""

_MOST: Final = 1 << 20
"""The most bytes of a datagram: an event with more is told without its port maps."""

_SLICE: Final = 0.0004
"""Seconds of events until other work of the loop has its turn."""

_STANDING: Final = (
    kinds.NetworkTaken, kinds.NetworkFree, kinds.Unmet, kinds.Unread, kinds.LeftNamespace,
)  # fmt: skip
"""What each process tells once, and is no news: the service has told it."""

_decode: Final = msgspec.json.Decoder(Event).decode


class Collected:
    """The events of a command."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, fact: Fact) -> None:
        """Take a fact; a subscriber."""
        kind = kind_of(fact)
        if kind is not None and not isinstance(fact, _STANDING):
            self.events.append(event_of(fact, kind, 0, time.time()))


def send(path: str, events: Iterable[Event]) -> int:
    """Tell `events` to the service at `path`; returns how many it did not take in time.

    Raises:
        ConnectionRefusedError, FileNotFoundError: no service is there.
        OSError: the socket cannot be used.
    """
    end = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MOST)
        out.connect(path)
        parts = list(_datagrams(events))
        for number, (data, _) in enumerate(parts):
            out.settimeout(max(0.001, end - time.monotonic()))
            try:
                out.send(data)
            except TimeoutError:
                return sum(count for _, count in parts[number:])
    return 0


class FromCommands:
    """Hears the events of commands. One thread, that of the loop, uses it.

    Args:
        loop: the event loop.
        take: gets each event.
        log: gets what cannot be understood.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, take: Callable[[Event], object], log: Log
    ) -> None:
        self._loop = loop
        self._take = take
        self._log = log
        self._socket: socket.socket | None = None
        self._waiting: deque[Event] = deque()

    def listen(self, bound: socket.socket) -> None:
        """Hear what is sent to the socket `bound`, in place of any before."""
        self.stop()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket = bound
        self._loop.add_reader(bound, self._hear)

    def stop(self) -> None:
        """Hear no more; what was heard is passed on."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket = None
        while self._waiting:
            self._take(self._waiting.popleft())

    def _hear(self) -> None:
        """Take one datagram, and its events one after the other, before the next."""
        assert self._socket is not None
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                _MOST, socket.CMSG_SPACE(CREDENTIALS.size), socket.MSG_CMSG_CLOEXEC
            )
        except OSError:
            return
        if flags & socket.MSG_TRUNC or not _is_own(ancillary):
            return
        for line in data.splitlines():
            try:
                self._waiting.append(_decode(line))
            except (msgspec.DecodeError, RecursionError):
                self._log.warning(
                    "a command of another version has told something that is not understood",
                    remedy="restart the service, e.g. `systemctl restart watcher`",
                )
                break
        if self._waiting:
            self._loop.remove_reader(self._socket)
            self._loop.call_soon(self._take_some)

    def _take_some(self) -> None:
        until = time.perf_counter() + _SLICE
        while self._waiting and time.perf_counter() < until:
            self._take(self._waiting.popleft())
        if self._waiting:
            self._loop.call_soon(self._take_some)
        elif self._socket is not None:
            self._loop.add_reader(self._socket, self._hear)


def _is_own(ancillary: Iterable[tuple[int, int, bytes]]) -> bool:
    """Whether the kernel says that the sender is of the service's user."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return bool(CREDENTIALS.unpack(data)[1] == os.geteuid())
    return False


def _datagrams(events: Iterable[Event]) -> Iterator[tuple[bytes, int]]:
    """The datagrams of `events`, each with the number of events in it."""
    lines: list[bytes] = []
    size = 0
    for event in events:
        line = _line(event)
        if lines and size + len(line) > _TOGETHER:
            yield b"".join(lines), len(lines)
            lines, size = [], 0
        lines.append(line)
        size += len(line)
    if lines:
        yield b"".join(lines), len(lines)


def _line(event: Event) -> bytes:
    keys = (*(line.key for line in event.set), *event.unset)
    return encoded_within(replace(event, set=(), unset=keys), _MOST // 4)
