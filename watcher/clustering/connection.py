"""A connection of `watcher cluster`: what it has told, and what it was told."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

import msgspec

from watcher.cluster.protocol import LONGEST, decode_from_cluster
from watcher.clustering.tables import Heard, Told

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from watcher.cluster.protocol import Row
    from watcher.log.logger import Log

_AT_ONCE: Final = 16
"""The most packets that are read before others have their turn."""

_BUFFER: Final = 4 << 20
"""Bytes that the kernel holds of what was told and is not read yet."""


class Connection:
    """See the module's docstring.

    Args:
        connection: reading and writing do not wait.
        heard: called when there is something new in `heard`.
        ended: called once, after the other side has gone, or has told what is not understood.
        loop: in whose thread all of this happens.
        log: the log.

    Attributes:
        heard: what it has told.
    """

    def __init__(
        self,
        connection: socket.socket,
        heard: Callable[[], object],
        ended: Callable[[], object],
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self._socket = connection
        self._has_heard = heard
        self._has_ended = ended
        self._loop = loop
        self._log = log
        self.heard = Heard()
        self._told = Told()
        self._rows: Sequence[Row] | None = None
        """What the other side is to know, once it has read what is unsent. So one that does not
        read costs nothing: of what changes meanwhile it is told once."""
        self._unsent: list[bytes] = []
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        loop.add_reader(connection, self._hear)

    def close(self) -> None:
        """End it."""
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()

    def tell(self, rows: Sequence[Row]) -> None:
        """Have the other side know `rows` and nothing else; what does not go follows."""
        self._rows = rows
        self._send()

    def _end(self) -> None:
        self.close()
        self._has_ended()

    def _hear(self) -> None:
        """Take what was told; garbage ends the connection, and so does its end."""
        for _ in range(_AT_ONCE):
            try:
                data, _, flags, _ = self._socket.recvmsg(LONGEST)
            except BlockingIOError:
                break
            except OSError:
                data, flags = b"", 0
            try:
                whole = data if not flags & socket.MSG_TRUNC else b""
                self.heard.take(decode_from_cluster(whole))
            except (msgspec.DecodeError, RecursionError, ValueError):  # the end is none as well
                if data:
                    self._log.warning(
                        "`watcher cluster` has told something that is not understood",
                        remedy="restart it, e.g. `systemctl restart watcher-cluster`",
                    )
                self._end()
                return
        self._has_heard()

    def _send(self) -> None:
        """Send what is unsent, as much as goes; the rest when there is room."""
        try:
            while True:
                if self._unsent:
                    self._socket.send(self._unsent[0])
                    del self._unsent[0]
                elif self._rows is not None:
                    self._unsent += self._told.packets(self._rows)
                    self._rows = None
                else:
                    break
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._send)
            return
        except OSError:
            self._end()
            return
        self._loop.remove_writer(self._socket)
