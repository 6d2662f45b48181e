"""Questions by TCP (RFC 7766): several at once on a connection, answered in any order.

A connection ends if no whole question comes, or no answer is read, for a while; it holds a bounded
number of questions. :mod:`watcher.names.transport.connections` bounds how many there are.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from watcher.names.answers import Answers
    from watcher.names.transport.connections import Connections

UNDER_WAY: Final = 64
"""Questions of a connection that are not answered yet; more are not read."""
TURN: Final = 16
"""Questions of a connection between two looks at the others; new connections of a listener, too."""

_PART: Final = 4096
UNREAD: Final = 64 << 10
"""Bytes of answers that are not sent yet; until some are, no more questions are read."""
UNREAD_AT_MOST: Final = 256 << 10
"""Bytes at which the connection ends: of what is under way, answers of 64 KiB may come."""
_PAUSE: Final = 0.2
"""Seconds until the next try after the kernel could not accept a connection."""


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
        connections: Connections,
        loop: asyncio.AbstractEventLoop,
        after: Callable[[], object],
    ) -> None:
        self.network = network
        self.answers = answers
        self.connections = connections
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
        self.connections.end(self)

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
        self.listener.connections.add(self)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 (asyncio's)
        """Called by asyncio."""
        self._transport = None
        self.listener.connections.remove(self)

    def end(self) -> None:
        """End it now."""
        self.listener.connections.remove(self)
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
        self.listener.connections.due(self)

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
