"""The connection to the service by `cluster.sock`. It is made again whenever it has ended."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import msgspec

from watcher.cluster.agent.tables import Telling
from watcher.cluster.protocol import LONGEST, SOCKET, decode_from_service, encode
from watcher.clustering.tables import Heard
from watcher.model.errors import message_of
from watcher.model.pauses import longer
from watcher.observe.live.socket_watch import SocketWatch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable, Sequence

    from watcher.cluster.protocol import Row, StatusRow
    from watcher.log.logger import Log

_PAUSES: Final = 0.01, 1.0
"""Seconds until the next try to connect: first, most."""

_AT_ONCE: Final = 64
"""Packets that are read before others have their turn."""


class Link:
    """See the module's docstring.

    Args:
        run_dir: where the socket is.
        loop: in whose thread all of this happens.
        log: the log.
        changed: called after the service has told something, and when it goes.

    Attributes:
        heard: what the service has told; `None` before it has told all of it once. While the
            service is away, what it has told last stays.
        connected: whether it tells.
    """

    def __init__(
        self,
        run_dir: str,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        changed: Callable[[], object],
    ) -> None:
        self._path = f"{run_dir}/{SOCKET}"
        self._loop = loop
        self._log = log
        self._changed = changed
        self._telling = Telling()
        self._socket: socket.socket | None = None
        self._coming = Heard()
        self._pause = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._watch = SocketWatch(run_dir, SOCKET, loop, self.start)
        self._problem: str | None = None
        self.heard: Heard | None = None

    @property
    def connected(self) -> bool:
        """See above."""
        return self._socket is not None and self._coming.whole

    def start(self) -> None:
        """Connect, now or as soon as that can be."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._socket is not None:
            return
        made = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            made.connect(self._path)
        except OSError as error:
            made.close()
            self._tell_problem(message_of(error))
            self._connect_later()
            return
        self._watch.end()
        self._socket = made
        self._coming = Heard()
        self._telling.anew()
        self._loop.add_reader(made, self._readable)
        self._pump()

    def stop(self) -> None:
        """End it. The service keeps what it was told."""
        if self._again is not None:
            self._again.cancel()
        self._watch.end()
        self._close()

    def set(self, rows: Iterable[Row]) -> bool:
        """Have :meth:`tell` tell this, and nothing else; whether it was different so far."""
        return self._telling.set(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Have :meth:`tell` tell this beside what was :meth:`set`, if anything was."""
        self._telling.add(rows)

    def tell(self, status: StatusRow) -> None:
        """Have the service know how this host stands, and what was :meth:`set`."""
        self._telling.status = status
        self._pump()

    def _pump(self) -> None:
        """Tell what is untold, as much as goes; the rest when there is room."""
        connection = self._socket
        if connection is None:
            return
        try:
            while rows := self._telling.next():
                connection.send(encode(rows))
                self._telling.told(rows)
        except BlockingIOError:
            self._loop.add_writer(connection, self._pump)
            return
        except OSError as error:
            self._ended(message_of(error))
            return
        self._loop.remove_writer(connection)

    def _readable(self) -> None:
        connection = self._socket
        for _ in range(_AT_ONCE):
            if connection is None or connection is not self._socket:
                return
            try:
                packet = connection.recv(LONGEST)
            except BlockingIOError:
                break
            except OSError as error:
                self._ended(message_of(error))
                return
            if not packet:
                self._ended("it has ended the connection")
                return
            try:
                self._coming.take(decode_from_service(packet))
            except (msgspec.DecodeError, RecursionError, ValueError):
                self._ended("it tells what this version does not understand")
                return
        if self._coming.whole:
            if self._coming is not self.heard:
                self.heard = self._coming
                self._log.info("the service tells what this host has")
            self._pause, self._problem = 0.0, ""
            self._changed()

    def _ended(self, reason: str) -> None:
        self._close()
        self._tell_problem(reason)
        self._changed()
        self._connect_later()

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None

    def _connect_later(self) -> None:
        self._watch.begin()
        self._pause = longer(self._pause, _PAUSES)
        self._again = self._loop.call_later(self._pause, self.start)

    def _tell_problem(self, problem: str) -> None:
        """Log why the service is not heard, once."""
        if not self._problem:
            self._log.warning(
                "the service is away, nothing is taken or given back", reason=problem,
                socket=self._path,
            )  # fmt: skip
        self._problem = problem
