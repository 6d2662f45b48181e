"""Questions by TCP (RFC 7766): several at once on a connection, answered in any order.

Nobody who connects is trusted. A connection ends if no whole question comes, or no answer is read,
in :data:`PATIENCE`; it holds a bounded number of questions, and there is a bound to the connections
of each source and to all. One more ends that which has been there longest: of the same source, else
of the source that has most, so that idle ones never keep somebody out.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from watcher.names.answers import Answers
    from watcher.names.counts import Counts

PATIENCE: Final = 10.0
"""Seconds that a connection may be idle, or slow (RFC 7766, section 6.2.3)."""
PER_SOURCE: Final = 16
"""Connections of one source."""
MOST: Final = 512
"""Connections of all."""
UNDER_WAY: Final = 64
"""Questions of a connection that are not answered yet; more are not read."""
TURN: Final = 16
"""Questions of a connection between two looks at the others; new connections of a listener, too."""
SLICE: Final = 0.001
"""Seconds for which connections have their turns before others than these are looked at again."""

_SWEEPS: Final = 5
"""So often within that time, it is looked who is idle."""
_PART: Final = 4096
UNREAD: Final = 64 << 10
"""Bytes of answers that are not sent yet; until some are, no more questions are read."""
UNREAD_AT_MOST: Final = 256 << 10
"""Bytes at which the connection ends: of what is under way, answers of 64 KiB may come."""
_PAUSE: Final = 0.2
"""Seconds until the next try after the kernel could not accept a connection."""


class Clients:
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


class Listener:
    """Accepts connections.

    Args:
        bound: a socket that listens.
        network: the network whose gateway it is bound to.
        after: called after each turn.
    """

    def __init__(
        self,
        bound: socket.socket,
        network: str,
        answers: Answers,
        clients: Clients,
        loop: asyncio.AbstractEventLoop,
        after: Callable[[], object],
    ) -> None:
        self.network = network
        self.answers = answers
        self.clients = clients
        self.loop = loop
        self.after = after
        self._socket = bound
        self._tasks: set[asyncio.Task[Any]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._listen()

    def pause(self) -> None:
        """Accept no more."""
        if self._again is not None:
            self._again.cancel()
        self.loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Accept no more, and end what was accepted; whoever made the socket closes it."""
        self.pause()
        for task in self._tasks:
            task.cancel()
        self.clients.end(self)

    def _listen(self) -> None:
        self.loop.add_reader(self._socket.fileno(), self._readable)

    def _readable(self) -> None:
        for _ in range(TURN):
            try:
                accepted, peer = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                break
            except OSError:  # no descriptors or no memory left; accept(2)
                self.pause()
                self._again = self.loop.call_later(_PAUSE, self._listen)
                break
            accepted.setblocking(False)
            task = self.loop.create_task(self._connect(accepted, peer[0]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        self.after()

    async def _connect(self, accepted: socket.socket, source: str) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: Connection(self, source), accepted)
        except OSError:  # it has gone by now
            accepted.close()


class Connection(asyncio.BufferedProtocol):
    """One connection.

    Attributes:
        listener: what has accepted it.
        source: the address that it is from.
        since: when the last whole question came or the last answer went.
    """

    def __init__(self, listener: Listener, source: str) -> None:
        self.listener = listener
        self.source = source
        self.since = listener.loop.time()
        self._transport: asyncio.Transport | None = None
        self._part = bytearray(_PART)
        self._rest = bytearray()
        self._under_way = 0
        self._blocked = self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(UNREAD)
        self.listener.clients.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's)
        """Called by asyncio."""
        self._transport = None
        self.listener.clients.remove(self)

    def end(self) -> None:
        """End it now."""
        self.listener.clients.remove(self)
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 (asyncio's)
        """Called by asyncio."""
        return self._part

    def buffer_updated(self, nbytes: int) -> None:
        """Called by asyncio."""
        self._rest += memoryview(self._part)[:nbytes]
        if self._whole():
            if self._transport is not None:
                self._transport.pause_reading()
            self._later()

    def eof_received(self) -> bool:
        """Called by asyncio: no more questions; those that came are answered first."""
        self._ended = True
        self._end_if_done()
        return True

    def pause_writing(self) -> None:
        """Called by asyncio: the answers are not read."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Called by asyncio."""
        self._blocked = False
        self._later()

    def _later(self) -> None:
        self.listener.clients.due(self)

    def work(self) -> None:
        """Answer what has come, in turns; read no more while there is enough to do."""
        transport, listener = self._transport, self.listener
        if transport is None:
            return
        for _ in range(TURN):
            if self._blocked or self._under_way >= UNDER_WAY:
                break
            message = self._next()
            if message is None:
                break
            self.since = listener.loop.time()
            self._under_way += 1
            whole = listener.answers.answer(
                message, self.source, listener.network, self._reply, tcp=True
            )
            if whole is not None:
                self._reply(whole)
        else:
            self._later()
        listener.after()
        with suppress(RuntimeError):  # it ends already
            if self._whole():
                transport.pause_reading()
            elif not self._ended:
                transport.resume_reading()
        self._end_if_done()

    def _next(self) -> bytes | None:
        """The next whole question."""
        if not self._whole():
            return None
        end = 2 + int.from_bytes(self._rest[:2])
        message = bytes(self._rest[2:end])
        del self._rest[:end]
        return message

    def _whole(self) -> bool:
        """Whether there is a whole question."""
        return (
            len(self._rest) >= 2 + int.from_bytes(self._rest[:2]) if len(self._rest) > 1 else False
        )

    def _reply(self, whole: bytes) -> None:
        self._under_way -= 1
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size() > UNREAD_AT_MOST:
            self.end()
            return
        self.since = self.listener.loop.time()
        self._transport.write(len(whole).to_bytes(2) + whole)
        if self._whole():
            self._later()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if (
            self._ended
            and not self._under_way
            and not self._whole()
            and self._transport is not None
        ):
            self._transport.close()
