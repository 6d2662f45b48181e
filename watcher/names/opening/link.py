"""The connection to the service by `answers.sock`: many packets are under way on one."""

from __future__ import annotations

import socket
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from watcher.answers.protocol import LONGEST
from watcher.feed.names import ANSWERS
from watcher.model.errors import message_of
from watcher.model.pauses import longer

if TYPE_CHECKING:
    import asyncio

    from watcher.log.logger import Log

_PAUSES: Final = 0.01, 0.25
"""Seconds until the next try to connect while somebody waits: first, most."""

_QUEUE_AT_MOST: Final = 2048
"""Packets that wait for a service that does not read; all that wait for a reply fit."""

_AT_ONCE: Final = 64
"""Packets that are read before others have their turn."""


class Owner(Protocol):
    """Whose connection it is."""

    def connected(self) -> None:
        """It is there anew: nothing that was sent before will be replied to."""

    def heard(self, packet: bytes) -> None:
        """The service has sent a packet.

        Raises:
            ValueError: it is not understood; the connection ends.
        """

    def waits(self) -> bool:
        """Whether somebody waits for it to be there."""


class Link:
    """See the module's docstring. It is made when it is first wanted.

    Args:
        run_dir: where the socket is.
        loop: in whose thread all of this happens.
        log: the log.
        owner: hears what happens.
    """

    def __init__(
        self, run_dir: str, loop: asyncio.AbstractEventLoop, log: Log, owner: Owner
    ) -> None:
        self._path = f"{run_dir}/{ANSWERS}"
        self._loop = loop
        self._log = log
        self._owner = owner
        self._socket: socket.socket | None = None
        self._queue: deque[bytes] = deque()
        self._pause = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._problem = ""

    def want(self) -> None:
        """Connect, unless it is connected or about to be."""
        if self._socket is None and self._again is None:
            self._connect()

    def send(self, packet: bytes) -> bool:
        """Send a packet, now or once there is room; whether that may still be."""
        if self._socket is None or len(self._queue) >= _QUEUE_AT_MOST:
            return False
        if self._queue:
            self._queue.append(packet)
            return True
        try:
            self._socket.send(packet)
        except BlockingIOError:
            self._queue.append(packet)
            self._loop.add_writer(self._socket, self._writable)
        except OSError as error:
            self._ended(message_of(error))
            return False
        return True

    def close(self) -> None:
        """End it; nobody is told."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._close()

    def _connect(self) -> None:
        self._again = None
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            made.connect(self._path)
        except OSError as error:
            made.close()
            self._tell(f"{self._path}: {message_of(error)}")
            self._connect_later()
            return
        self._socket = made
        self._loop.add_reader(made, self._readable)
        self._owner.connected()

    def _connect_later(self) -> None:
        """Try again after a while, if somebody waits; else whoever does so next."""
        self._pause = longer(self._pause, _PAUSES)
        self._again = self._loop.call_later(self._pause, self._try_again)

    def _try_again(self) -> None:
        self._again = None
        if self._owner.waits():
            self._connect()

    def _readable(self) -> None:
        for _ in range(_AT_ONCE):
            if self._socket is None:  # who heard the last packet has closed it
                return
            try:
                packet = self._socket.recv(LONGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._ended(message_of(error))
                return
            if not packet:
                self._ended("the service has ended the connection")
                return
            try:
                self._owner.heard(packet)
            except ValueError:
                self._ended("the service says what this version does not understand")
                return
            self._works()

    def _writable(self) -> None:
        assert self._socket is not None
        try:
            while self._queue:
                self._socket.send(self._queue[0])
                self._queue.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(message_of(error))
            return
        self._loop.remove_writer(self._socket)

    def _ended(self, reason: str) -> None:
        self._close()
        if self._owner.waits():
            self._tell(f"{self._path}: {reason}")
        self._connect_later()

    def _close(self) -> None:
        self._queue.clear()
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _works(self) -> None:
        """The service has said something that is understood."""
        self._pause = 0.0
        if self._problem:
            self._problem = ""
            self._log.info("the service opens the addresses of names again")

    def _tell(self, problem: str) -> None:
        """Log why nothing can be opened, once."""
        if problem != self._problem:
            self._problem = problem
            self._log.warning("the service does not open the addresses of names", reason=problem)
