"""Questions by UDP."""

from __future__ import annotations

import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Final

from handlers.kernel import datagrams
from watcher.names.transport.send_queue import SendQueue

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from handlers.kernel.datagrams import Peer
    from watcher.names.answers import Answers
    from watcher.names.counts import Counts

TURN: Final = 32
"""Questions of one socket between two looks at the others: about a millisecond if all are new."""
_MOST: Final = 4096
"""Bytes of a question, and of an answer by UDP; none has as many."""
_SOURCES: Final = 8192
"""Addresses that are remembered as text."""
_PORT: Final = slice(2, 4)
_ADDRESS4: Final = slice(4, 8)
_ADDRESS6: Final = slice(8, 24)
_LINK6: Final = slice(24, 28)
"""Where the port, an address, and the link of one that counts there alone, stand in a `Peer`."""


class Datagrams:
    """Reads questions from a socket and sends the answers, each to who has asked.

    Args:
        network: the network whose gateway it is bound to.
        after: called after each turn.
    """

    _memory: Final = datagrams.Datagrams(TURN, _MOST)

    def __init__(
        self,
        bound: socket.socket,
        network: str,
        answers: Answers,
        counts: Counts,
        loop: asyncio.AbstractEventLoop,
        after: Callable[[], object],
    ) -> None:
        self.network = network
        self._socket = bound
        self._queue = SendQueue(bound)
        self._address = _ADDRESS4 if bound.family == socket.AF_INET else _ADDRESS6
        self._sources: dict[bytes, str] = {}
        self._answers = answers
        self._counts = counts
        self._loop = loop
        self._after = after
        loop.add_reader(bound.fileno(), self._readable)

    def pause(self) -> None:
        """Read no more; what is still to be answered can be sent."""
        self._loop.remove_reader(self._socket.fileno())

    def close(self) -> None:
        """Read no more; whoever made the socket closes it."""
        self.pause()

    def _readable(self) -> None:
        # To look once more costs less than to wait for it by way of the loop.
        taken = 0
        while taken < TURN and (received := self._memory.receive(self._socket.fileno())):
            taken += len(received)
            self._answer(received)
        self._after()

    def _answer(self, received: list[tuple[bytes, Peer]]) -> None:
        address, sources, network = self._address, self._sources, self.network
        ready, answer, careful = self._answers.ready, self._answers.answer, self._queue.careful
        found, cached = [], 0
        for message, peer in received:
            source = sources.get(peer[address]) or self._source(peer)
            whole = ready(message, source, network)
            if whole is not None:
                cached += 1
            else:
                whole = answer(message, source, network, partial(self._send, peer), tcp=False)
            if whole is None:
                continue
            if careful:
                self._send(peer, whole)
            else:
                found.append((whole, peer))
        self._counts.cached(cached)
        for _ in range(self._memory.send(self._socket.fileno(), found)):
            self._counts.answered("dropped")
        self._queue.look()

    def _source(self, peer: Peer) -> str:
        """The address of `peer` as text, which is remembered."""
        address = peer[self._address]
        if self._address is _ADDRESS4:
            text = socket.inet_ntop(socket.AF_INET, address)
        else:
            text = socket.inet_ntop(socket.AF_INET6, address)
            if any(peer[_LINK6]):  # fe80::/10: it is another one on each link
                return f"{text}%{int.from_bytes(peer[_LINK6], sys.byteorder)}"
        if len(self._sources) >= _SOURCES:
            self._sources.clear()
        self._sources[address] = text
        return text

    def _send(self, peer: Peer, whole: bytes) -> None:
        """Send an answer that is late, or while others wait; the socket may be closed by now."""
        source = self._sources.get(peer[self._address]) or self._source(peer)
        try:
            sent = self._queue.send(whole, (source, int.from_bytes(peer[_PORT])))
        except OSError:
            sent = False
        if not sent:
            self._counts.answered("dropped")
