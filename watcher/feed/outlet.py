"""The way from the service to its broker: it never waits, and its memory is bounded."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from watcher.feed.hanging import Hanging

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

LIMIT: Final = 8 << 20
"""The most bytes that wait for the broker. One line alone may be longer."""

_TOGETHER: Final = 64
"""The most lines of one sendmsg(2): far fewer than IOV_MAX."""


class Outlet:
    """Sends lines by a socket, in order, as fast as its other end reads them.

    If too much waits, it drops all lines that it has not begun to send, and takes no more until the
    rest of that one is sent. Then the reader has to be told everything again.

    Args:
        loop: the event loop in whose thread it is used.
        end: the socket, which stays the caller's.
        drained: called whenever nothing waits any more.
        broken: called, at most once, if the other end has gone.
        hangs: called, at most once, if the other end is there, but has read nothing for long.

    Attributes:
        behind: whether lines were dropped; the caller makes it false when it begins anew.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        end: socket.socket,
        drained: Callable[[], object],
        broken: Callable[[], object],
        hangs: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._socket = end
        self._drained = drained
        self._broken = broken
        self._hanging = Hanging(loop, end, hangs)
        self._waiting: deque[bytes | memoryview] = deque()
        self._size = 0
        self._closed = False
        self.behind = False

    @property
    def idle(self) -> bool:
        """Whether nothing waits, so that the next line is sent at once."""
        return not self._waiting

    def send(self, line: bytes) -> None:
        """Send `line` now, or as soon as that is possible; it is dropped if :attr:`behind`."""
        if self.behind or self._closed:
            return
        if self._waiting:
            self._wait_with(line)
            return
        sent = self._sent([line])
        if sent < len(line) and not self._closed:
            self._waiting.append(memoryview(line)[sent:])
            self._size = len(line) - sent
            self._loop.add_writer(self._socket, self._go_on)

    def close(self) -> None:
        """Send no more."""
        self._loop.remove_writer(self._socket)
        self._hanging.close()
        self._closed = True
        self._waiting.clear()

    def _wait_with(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)
        if self._size > LIMIT:
            self.behind = True
            begun = self._waiting.popleft()
            self._waiting.clear()
            if isinstance(begun, memoryview):  # the rest of a line
                self._waiting.append(begun)
                self._size = len(begun)

    def _go_on(self) -> None:
        lines = [self._waiting[number] for number in range(min(len(self._waiting), _TOGETHER))]
        sent = self._sent(lines)
        if self._closed:
            return
        self._size -= sent
        while self._waiting and sent >= len(self._waiting[0]):
            sent -= len(self._waiting.popleft())
        if sent:
            self._waiting[0] = memoryview(self._waiting[0])[sent:]
        if not self._waiting:
            self._loop.remove_writer(self._socket)
            self._drained()

    def _sent(self, lines: list[bytes | memoryview]) -> int:
        """How many bytes of `lines` the socket takes now."""
        try:
            sent = self._socket.sendmsg(lines)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            self._loop.call_soon(self._broken)
            return 0
        self._hanging.sent(sent)
        return sent
