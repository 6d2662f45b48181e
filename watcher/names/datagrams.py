"""Questions by UDP."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from watcher.names.send_queue import SendQueue

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

    from watcher.names.answers import Answers
    from watcher.names.counts import Counts

TURN: Final = 32
"""Questions of one socket between two looks at the others: about a millisecond if all are new."""
_MOST: Final = 4096
"""Bytes that are read of a question; none is as long."""


class Datagrams:
    """Reads questions from a socket and sends the answers, each to who has asked.

    Args:
        network: the network whose gateway it is bound to.
        after: called after each turn.
    """

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
        receive, send, careful = self._socket.recvfrom, self._socket.sendto, self._queue.careful
        answer, network = self._answers.answer, self.network
        for _ in range(TURN):
            try:
                message, peer = receive(_MOST)
            except BlockingIOError:
                break
            except OSError:  # the network is down, or the like: nothing of it is for this socket
                continue
            whole = answer(message, peer[0], network, partial(self._send, peer), tcp=False)
            if whole is None:
                continue
            if careful:
                self._send(peer, whole)
                continue
            try:
                send(whole, peer)
            except OSError:
                self._counts.answered("dropped")
        self._queue.look()
        self._after()

    def _send(self, peer: Any, whole: bytes) -> None:
        """Send an answer that is late, or while others wait; the socket may be closed by now."""
        try:
            sent = self._queue.send(whole, peer)
        except OSError:
            sent = False
        if not sent:
            self._counts.answered("dropped")
