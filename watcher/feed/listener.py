"""Accepts those who connect to a socket in `run_dir`, and makes it anew if its name is lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.feed.sockets import NamedSocket

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from watcher.log.logger import Log

_TURN: Final = 8
"""The most connections that are accepted before others have their turn."""


class Listener:
    """See the module's docstring. It listens from the first :meth:`check` on.

    Args:
        path: the name of the socket.
        kind: `SOCK_STREAM` or `SOCK_SEQPACKET`.
        accepted: called with each connection, which does not wait; it has to close that.
        loop: in whose thread all of this happens.
        group, log: as :class:`watcher.feed.sockets.NamedSocket` has them.
    """

    def __init__(
        self,
        path: Path,
        kind: int,
        accepted: Callable[[socket.socket], object],
        loop: asyncio.AbstractEventLoop,
        log: Log,
        *,
        group: bool,
    ) -> None:
        self._path = path
        self._kind = kind
        self._accepted = accepted
        self._loop = loop
        self._log = log
        self._group = group
        self._named: NamedSocket | None = None

    def check(self) -> bool:
        """Make the socket if there is none, or its name leads elsewhere; returns whether it did.

        Raises:
            OSError: it cannot be made. The one before is kept.
        """
        before = self._named
        made = before is None or before.lost()
        if made:
            self._named = NamedSocket(
                str(self._path.parent), self._path.name, self._kind, group=self._group,
                log=self._log,
            )  # fmt: skip
            if before is not None:
                self._end(before)
        if self._named is not None:
            self._loop.add_reader(self._named.socket, self._readable)  # no descriptor was left
        return made

    def close(self) -> None:
        """Listen no more; the socket keeps its name."""
        if self._named is not None:
            self._end(self._named)
            self._named = None

    def remove(self) -> None:
        """Listen no more, and leave no name behind."""
        if self._named is not None:
            self._named.remove_name()
        self.close()

    def _end(self, named: NamedSocket) -> None:
        self._loop.remove_reader(named.socket)
        named.close()

    def _readable(self) -> None:
        assert self._named is not None
        listening = self._named.socket
        for _ in range(_TURN):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, ConnectionAbortedError):  # it has gone
                return
            except OSError:  # no descriptor is left; accept(2)
                self._loop.remove_reader(listening)  # until the next check
                return
            connection.setblocking(False)
            self._accepted(connection)
