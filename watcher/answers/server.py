"""Serves answers.sock: what is ready is judged and opened together, and then acknowledged.

Nothing that arrives there may cost much: the connections, what waits, and what one turn does are
bounded, and who does not read its replies loses its connection.
"""

from __future__ import annotations

import socket
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from watcher.answers.peers import may_tell
from watcher.answers.protocol import LONGEST, Reply, decode, encode
from watcher.feed.listener import Listener
from watcher.feed.names import ANSWERS
from watcher.locks.lock import Busy
from watcher.model.errors import WatcherError, message_of, message_with_remedy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from watcher.answers.opener import Opener
    from watcher.answers.protocol import Told
    from watcher.log.logger import Log
    from watcher.reconcile.reconciler import Reconciler

MOST_PEERS: Final = 8
"""The name service needs one connection, and another while it is started anew."""

MOST_WAITING: Final = 1024
"""The most answers that wait; after that, nothing is read until they are done."""

TOGETHER: Final = 100
ADDRESSES: Final = 512
"""The most answers of one transaction, and with how many addresses no more are taken: some 10 ms.

Other work of the loop comes in between.
"""

_AT_ONCE: Final = 32
"""The most packets that are read of one connection before others have their turn."""

_AGAIN: Final = 0.05
"""Seconds until the next try, if another process has the lock."""

_PATIENCE: Final = 2.0
"""Seconds that an answer waits for the lock; who has asked waits no longer."""


class _Waiting(NamedTuple):
    """An answer, or a refused question, that waits."""

    peer: _Peer
    told: Told
    until: float


class Answers:
    """Serves the name service.

    Nothing of it is needed for a container's network: what fails is logged, and tried again.

    Args:
        loop: the event loop in whose thread it is used.
        reconciler: has the lock, the store and the host.
        opener: judges answers and opens; it is closed with this.
        first: answers who is more urgent.
        log: the log.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        opener: Opener,
        first: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._first = first
        self._log = log
        self._run_dir = reconciler.run_dir
        self._opener = opener
        self._listener = Listener(
            Path(self._run_dir, ANSWERS), socket.SOCK_SEQPACKET, self._accept, loop, log,
            group=True,
        )  # fmt: skip
        self._peers: set[_Peer] = set()
        self._waiting: deque[_Waiting] = deque()
        self._paused = False
        self._turn: asyncio.Handle | None = None
        self._problem = ""

    def begin(self) -> None:
        """Read what an earlier service has opened, which from then on comes back if it is lost."""
        self._opener.tidy()

    def check(self) -> None:
        """Make the socket anew if its name is gone; `run_dir` is open to all, for events.sock."""
        try:
            if self._listener.check():
                self._problem = ""
        except OSError as error:
            self._say(message_with_remedy(error))

    def close(self) -> None:
        """Serve no more; the socket keeps its name, and what is open stays open."""
        if self._turn is not None:
            self._turn.cancel()
        for peer in list(self._peers):
            self._drop(peer)
        self._listener.close()
        self._opener.close()

    def _say(self, problem: str) -> None:
        if problem != self._problem:
            self._log.error("names open nothing", reason=problem)
        self._problem = problem

    def _accept(self, connection: socket.socket) -> None:
        if len(self._peers) >= MOST_PEERS or not may_tell(connection, self._run_dir):
            connection.close()
            return
        peer = _Peer(connection)
        self._peers.add(peer)
        self._loop.add_reader(connection, self._hear, peer)

    def _hear(self, peer: _Peer) -> None:
        """Take what a peer says; garbage ends the connection."""
        self._take(peer)
        if len(self._waiting) >= MOST_WAITING:
            self._paused = True
            for one in self._peers:
                self._loop.remove_reader(one.socket)
        if self._waiting and self._turn is None:
            self._turn = self._loop.call_soon(self._work)

    def _take(self, peer: _Peer) -> None:
        until = self._loop.time() + _PATIENCE
        for _ in range(_AT_ONCE):
            try:
                data, _, flags, _ = peer.socket.recvmsg(LONGEST)
            except BlockingIOError:
                break
            except OSError:
                self._drop(peer)
                return
            told = _understood(data) if not flags & socket.MSG_TRUNC else None
            if told is None:
                if data:
                    self._log.warning(
                        "the name service has told something that is not understood",
                        remedy="restart it, e.g. `systemctl restart watcher-names`",
                    )
                self._drop(peer)
                return
            self._waiting.append(_Waiting(peer, told, until))

    def _work(self) -> None:
        """Judge and open what waits, as much as one transaction should have."""
        self._turn = None
        self._first()
        some = self._next()
        try:
            with self._reconciler.changing() as (context, _):
                replies = self._opener.open(context, [one.told for one in some])
            self._problem = ""
        except Busy as busy:
            self._wait(some, busy.what)
            return
        except (WatcherError, OSError) as error:
            replies = [message_of(error)] * len(some)
            self._say(message_with_remedy(error))
        for one, refused in zip(some, replies, strict=True):
            self._reply(one, refused)
        if self._waiting:
            self._turn = self._loop.call_soon(self._work)
        self._go_on()

    def _next(self) -> list[_Waiting]:
        """What is done together."""
        some: list[_Waiting] = []
        addresses = 0
        while self._waiting and len(some) < TOGETHER and addresses < ADDRESSES:
            some.append(self._waiting.popleft())
            addresses += len(some[-1].told.addresses)
        return some

    def _wait(self, some: Sequence[_Waiting], why: str) -> None:
        """Try again, for as long as somebody waits for the answers."""
        now = self._loop.time()
        for one in reversed(some):
            if one.until > now:
                self._waiting.appendleft(one)
            else:
                self._reply(one, why)
        if self._waiting:
            self._turn = self._loop.call_later(_AGAIN, self._work)
        self._go_on()

    def _go_on(self) -> None:
        """Read again, if there is room again."""
        if self._paused and len(self._waiting) < MOST_WAITING:
            self._paused = False
            for peer in self._peers:
                self._loop.add_reader(peer.socket, self._hear, peer)

    def _reply(self, one: _Waiting, refused: str) -> None:
        if one.told.number is None or one.told.rejected or one.peer not in self._peers:
            return
        try:
            one.peer.socket.send(encode(Reply(one.told.number, refused)))
        except OSError:  # it has gone, or does not read
            self._drop(one.peer)

    def _drop(self, peer: _Peer) -> None:
        self._peers.discard(peer)
        self._loop.remove_reader(peer.socket)
        peer.socket.close()


class _Peer:
    """A connection."""

    __slots__ = ("socket",)

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection


def _understood(data: bytes) -> Told | None:
    """What a packet says; `None` if it is none, or the end."""
    try:
        return decode(data)
    except (msgspec.DecodeError, RecursionError):
        return None
