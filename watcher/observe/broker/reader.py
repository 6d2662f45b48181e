"""A reader of the socket: its connection, and how far it has got."""

from __future__ import annotations

from enum import Enum, auto
from socket import SO_SNDBUF, SOL_SOCKET
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

BUFFER: Final = 32 << 10
"""Bytes that the kernel keeps for a reader that does not read; it takes twice as many for them."""
MOST_HEARD: Final = 1 << 20
"""Bytes that a reader may send before it is closed: there is nothing to say to the broker."""
_HEAR: Final = 64 << 10


class Stage(Enum):
    """What a reader gets next.

    Attributes:
        BEGIN: it waits for the state.
        PICTURE: the lines with a key.
        MEASURES: those without.
        EVENTS: the events behind the picture.
    """

    BEGIN = auto()
    PICTURE = auto()
    MEASURES = auto()
    EVENTS = auto()


class Reader:
    """One connection. It owns no copy of anything, but for the line that it is in.

    Attributes:
        user: the number of the user that it is of.
        stage: what it gets next.
        epoch: that of the state which it has or gets; 0 before its first.
        next: the number of the event that it gets next. Its picture is that after the event before.
        after: the key of the last line that it got of this stage.
        blocked: whether its socket took no more.
        hears: whether it may send something.
        events: what epoll(7) is asked for.
    """

    __slots__ = (
        "_heard", "_rest", "after", "blocked", "connection", "epoch", "events", "hears", "next",
        "stage", "user",
    )  # fmt: skip

    def __init__(self, connection: socket.socket, user: int) -> None:
        connection.setblocking(False)
        connection.setsockopt(SOL_SOCKET, SO_SNDBUF, BUFFER)
        self.connection = connection
        self.user = user
        self.stage = Stage.BEGIN
        self.epoch = 0
        self.next = 0
        self.after = ""
        self.blocked = False
        self.hears = True
        self.events = 0
        self._rest: memoryview | None = None
        self._heard = 0

    def send(self, lines: Sequence[bytes], whole: bytes | None = None) -> int:
        """Send as many of `lines` as the socket takes; how many it has taken.

        One that it has not taken whole is counted, and its rest comes first the next time. If they
        are for many readers, `whole` is all of them together.

        Raises:
            OSError: the reader has gone.
        """
        try:
            if whole is None:
                sent = self.connection.sendmsg(lines)
            else:
                sent = self.connection.send(whole)
                if sent == len(whole):
                    return len(lines)
        except BlockingIOError:
            self.blocked = True
            return 0
        for count, line in enumerate(lines, 1):
            sent -= len(line)
            if sent < 0:
                self._rest = memoryview(line)[sent:]
                self.blocked = True
                return count
        return len(lines)

    def put(self, line: bytes) -> None:
        """Send `line` before all else. The reader is not blocked.

        Raises:
            OSError: the reader has gone.
        """
        self._rest = memoryview(line)
        self.flush()

    def flush(self) -> None:
        """Send the rest of the line that it is in, if there is one.

        Raises:
            OSError: the reader has gone.
        """
        self.blocked = False
        if self._rest is None:
            return
        try:
            sent = self.connection.send(self._rest)
        except BlockingIOError:
            self.blocked = True
            return
        self.blocked = sent < len(self._rest)
        self._rest = self._rest[sent:] if self.blocked else None

    def hear(self) -> bool:
        """Drop what it sends; whether it may stay. It may send little, and may end that.

        Raises:
            OSError: the reader has gone.
        """
        try:
            heard = len(self.connection.recv(_HEAR))
        except BlockingIOError:
            return True
        self._heard += heard
        self.hears = heard > 0
        return self._heard <= MOST_HEARD
