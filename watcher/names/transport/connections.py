"""All connections by TCP, and the bounds that they share.

Nobody who connects is trusted. There is a bound to the connections of each source and to all. One
more ends that which has been there longest: of the same source, else of the source that has most,
so that idle ones never keep somebody out.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio

    from watcher.names.counts import Counts
    from watcher.names.transport.streams import Connection, Listener

PATIENCE: Final = 10.0
"""Seconds that a connection may be idle, or slow (RFC 7766, section 6.2.3)."""
PER_SOURCE: Final = 16
"""Connections of one source."""
MOST: Final = 512
"""Connections of all."""
SLICE: Final = 0.001
"""Seconds for which connections have their turns before others than these are looked at again."""

_SWEEPS: Final = 5
"""So often within :data:`PATIENCE`, it is looked who is idle."""


class Connections:
    """All connections, of all listeners.

    Args:
        patience: as :data:`PATIENCE`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, counts: Counts, patience: float = PATIENCE
    ) -> None:
        self._loop = loop
        self._patience = patience
        self._counts = counts
        self._by_source: dict[str, dict[Connection, None]] = {}
        self._sweep: asyncio.TimerHandle | None = None
        self._count = 0
        self._due: dict[Connection, None] = {}
        self._at_work = False

    def add(self, connection: Connection) -> None:
        """One more; if that is one too many, another one ends."""
        of_source = self._by_source.setdefault(connection.source, {})
        if len(of_source) >= PER_SOURCE:
            next(iter(of_source)).end()
        elif self._count >= MOST:
            most = max(self._by_source, key=lambda source: len(self._by_source[source]))
            next(iter(self._by_source[most])).end()
        of_source = self._by_source.setdefault(connection.source, of_source)
        of_source[connection] = None
        self._count += 1
        self._counts.connected()
        if self._sweep is None:
            self._sweep = self._loop.call_later(self._patience / _SWEEPS, self._end_idle)

    def remove(self, connection: Connection) -> None:
        """It has ended; nothing if that is known."""
        of_source = self._by_source.get(connection.source, {})
        if connection in of_source:
            del of_source[connection]
            self._count -= 1
            self._counts.disconnected()
            if not of_source:
                del self._by_source[connection.source]
            self._due.pop(connection, None)

    def due(self, connection: Connection) -> None:
        """It has something to do; all that have take turns."""
        self._due[connection] = None
        if not self._at_work:
            self._at_work = True
            self._loop.call_soon(self._work)

    def _work(self) -> None:
        end = perf_counter() + SLICE
        try:
            while self._due:
                connection = next(iter(self._due))
                del self._due[connection]
                connection.work()
                if perf_counter() >= end:
                    break
        finally:
            self._at_work = bool(self._due)
            if self._due:
                self._loop.call_soon(self._work)

    def end(self, of: Listener | None = None) -> None:
        """End all of them, or those that a listener has accepted."""
        for connection in self._all():
            if of is None or connection.listener is of:
                connection.end()

    def _all(self) -> list[Connection]:
        return [one for of_source in self._by_source.values() for one in of_source]

    def _end_idle(self) -> None:
        before = self._loop.time() - self._patience
        for connection in self._all():
            if connection.since < before:
                connection.end()
        self._sweep = None
        if self._count:
            self._sweep = self._loop.call_later(self._patience / _SWEEPS, self._end_idle)
