"""A socket with a name that a process which is not the service serves, and makes anew if lost."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from socket import SOCK_STREAM
from typing import TYPE_CHECKING, Final

from watcher.feed.listener import Listener
from watcher.model.errors import message_of

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from watcher.log.logger import Log

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
        self._loop = loop
        self._log = log
        self._root = os.geteuid() == 0
        self._listener = Listener(self._path, SOCK_STREAM, accepted, loop, log, group=self._root)
        self._problem = ""
        self._check()

    def close(self) -> None:
        """Serve no more, and leave no name behind."""
        self._timer.cancel()
        self._listener.remove()

    def _check(self) -> None:
        """Make the socket anew if there is none, or its name leads elsewhere."""
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
        with suppress(OSError):
            self._path.parent.mkdir(mode=0o755, exist_ok=True)
        if self._listener.check() and not self._root:  # the unit's own group may read
            self._path.chmod(_MODE)
