"""A socket with a name that a process which is not the service serves, and makes anew if lost."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from watcher.feed.sockets import NamedSocket
from watcher.model.errors import message_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.log.logger import Log

_TURN: Final = 8
"""Connections that are accepted at once."""
_CHECK: Final = 5.0
"""Seconds between two looks whether the socket has lost its name."""
_MODE: Final = 0o660


class ServedSocket:
    """Accepts connections, which do not wait, for root and the group of the readers.

    Nothing else depends on it: what fails is logged, and tried again.

    Args:
        run_dir, name: the socket; its directory is there, as the unit makes it, or this does where
            it may.
        event: what is logged if it cannot be served.
        accepted: called with each connection, which it has to close.
    """

    def __init__(
        self,
        run_dir: str,
        name: str,
        event: str,
        accepted: Callable[[socket.socket], object],
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self._path = Path(run_dir, name)
        self._event = event
        self._accepted = accepted
        self._loop = loop
        self._log = log
        self._named: NamedSocket | None = None
        self._problem = ""
        self._check()

    def close(self) -> None:
        """Serve no more, and leave no name behind."""
        self._timer.cancel()
        if self._named is not None:
            if not self._named.lost():
                with suppress(OSError):
                    self._path.unlink()
            self._unlisten()

    def _unlisten(self) -> None:
        if self._named is not None:
            self._loop.remove_reader(self._named.socket.fileno())
            self._named.close()
            self._named = None

    def _check(self) -> None:
        """Make the socket anew if there is none, or its name leads elsewhere."""
        if self._named is None or self._named.lost():
            self._unlisten()
            try:
                self._make()
            except OSError as error:
                problem = message_of(error)
                if problem != self._problem:
                    self._log.warning(
                        self._event, reason=problem,
                        remedy=f"let this user write to {self._path.parent}",
                    )  # fmt: skip
                self._problem = problem
            else:
                self._problem = ""
        self._timer = self._loop.call_later(_CHECK, self._check)

    def _make(self) -> None:
        directory, root = self._path.parent, os.geteuid() == 0
        with suppress(OSError):
            directory.mkdir(mode=0o755, exist_ok=True)
        self._named = NamedSocket(
            str(directory), self._path.name, socket.SOCK_STREAM, group=root, log=self._log
        )
        if not root:  # the unit's own group is the one that may read
            self._path.chmod(_MODE)
        self._loop.add_reader(self._named.socket.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._named is not None
        for _ in range(_TURN):
            try:
                connection, _ = self._named.socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # no descriptors left; accept(2)
                self._unlisten()  # until the next look
                return
            connection.setblocking(False)
            self._accepted(connection)
