"""The status socket: a line of JSON to who connects, and the connection ends."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from watcher.observe.name_service import STATUS, encoded
from watcher.observe.served import ServedSocket

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from watcher.log.logger import Log
    from watcher.observe.name_service import NameTotals


class Status:
    """Serves the socket. A line is sent once, and fits: who does not read it costs nothing.

    Args:
        run_dir: its directory is there; the unit makes it, or this does where it may.
        totals: what it tells.
    """

    def __init__(
        self,
        run_dir: str,
        totals: Callable[[], NameTotals],
        loop: asyncio.AbstractEventLoop,
        log: Log,
    ) -> None:
        self._totals = totals
        self._served = ServedSocket(
            run_dir, STATUS, "the status socket cannot be served", self._accepted, loop, log
        )

    def close(self) -> None:
        """Serve no more, and leave no name behind."""
        self._served.close()

    def _accepted(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.send(encoded(self._totals()))
