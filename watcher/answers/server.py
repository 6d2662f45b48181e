"""Serves answers.sock: what is ready is judged and opened together, and then acknowledged.

Nothing that arrives there may cost much: the connections, what waits, and what one turn does are
bounded, and who does not read its replies loses its connection.
"""

from __future__ import annotations

import socket
from collections import deque
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from handlers.kernel.netlink import Netlink
from watcher.answers.judge import HOST_NAME, Judge, Verdict
from watcher.answers.peers import may_tell
from watcher.answers.protocol import LONGEST, Reply, decode, encode
from watcher.facts.kinds import Opened
from watcher.feed.listener import Listener
from watcher.feed.names import ANSWERS
from watcher.locks.lock import Busy
from watcher.model.errors import WatcherError, message_of, message_with_remedy
from watcher.model.seldom import Seldom

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from handlers.host import Host
    from watcher.answers.protocol import Told
    from watcher.facts.publisher import Publisher
    from watcher.log.logger import Log
    from watcher.model.policy.opening import Opening
    from watcher.reconcile.context import Context
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

_TIDY: Final = 30.0
"""Seconds between two looks at what is open no more."""

_OPENED_AGAIN, _OPENED_OF_EACH, _OPENED_AT_MOST = 60.0, 60, 1 << 18
"""Seconds until the same opening is told again; events of one sandbox and of all in that time."""


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
        facts: is told what was opened.
        rejected: is told who has asked for a name in none of its lists, and for which.
        first: answers who is more urgent.
        log: the log.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        facts: Publisher,
        rejected: Callable[[bytes, str], object],
        first: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._facts = facts
        self._rejected = rejected
        self._first = first
        self._log = log
        self._run_dir = reconciler.run_dir
        self._netlink = Netlink()
        self._listener = Listener(
            Path(self._run_dir, ANSWERS), socket.SOCK_SEQPACKET, self._accept, loop, log,
            group=True,
        )  # fmt: skip
        self._peers: set[_Peer] = set()
        self._waiting: deque[_Waiting] = deque()
        self._paused = False
        self._turn: asyncio.Handle | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._opened = Seldom(_OPENED_AGAIN, _OPENED_OF_EACH, _OPENED_AT_MOST)
        self._problem = ""
        self._judged_in: Context | None = None
        self._judge: Judge

    def begin(self) -> None:
        """Read what an earlier service has opened, which from then on comes back if it is lost."""
        self._tidy()

    def check(self) -> None:
        """Make the socket anew if its name is gone; `run_dir` is open to all, for events.sock."""
        try:
            if self._listener.check():
                self._problem = ""
        except OSError as error:
            self._say(message_with_remedy(error))

    def close(self) -> None:
        """Serve no more; the socket keeps its name, and what is open stays open."""
        for handle in (self._turn, self._tidying):
            if handle is not None:
                handle.cancel()
        for peer in list(self._peers):
            self._drop(peer)
        self._listener.close()
        self._netlink.close()

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
                replies = self._done(context, some)
            self._problem = ""
        except Busy as busy:
            self._wait(some, busy.what)
            return
        except (WatcherError, OSError) as error:
            replies = [(one, message_of(error)) for one in some]
            self._say(message_with_remedy(error))
        for one, refused in replies:
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

    def _done(self, context: Context, some: Sequence[_Waiting]) -> list[tuple[_Waiting, str]]:
        """Do it; returns why each must not leave, or nothing."""
        if context is not self._judged_in:
            self._judged_in, self._judge = context, Judge(context, self._netlink)
        judged = []
        for one in some:
            if one.told.rejected:
                self._reject(one.told)
            elif one.told.number is not None:
                judged.append((one, self._judge.judge(one.told)))
        refused = self._open(context.host, judged)
        return [(one, why) for (one, _), why in zip(judged, refused, strict=True)]

    def _open(self, host: Host, judged: Sequence[tuple[_Waiting, Verdict]]) -> list[str]:
        """Open it together; if that fails, each answer on its own. Returns why each failed."""
        openings = [one for _, verdict in judged for one in verdict.openings]
        if openings and self._tidying is None:
            self._tidying = self._loop.call_later(_TIDY, self._tidy)
        try:
            new = host.firewall.open(openings) if openings else []
        except OSError as error:
            if len(judged) > 1:
                return [refused for one in judged for refused in self._open(host, [one])]
            return [message_of(error)]
        self._tell(judged, new)
        return [verdict.refused for _, verdict in judged]

    def _tell(self, judged: Sequence[tuple[_Waiting, Verdict]], new: Sequence[Opening]) -> None:
        """Publish what is open that was not before."""
        if not new:
            return
        fresh = {(one.number, one.name, one.address) for one in new}
        for _, verdict in judged:
            mine = [o for o in verdict.openings if (o.number, o.name, o.address) in fresh]
            fresh.difference_update((o.number, o.name, o.address) for o in mine)
            sandbox = verdict.sandbox
            if mine and sandbox is not None:
                texts = tuple(str(one.address) for one in mine)
                entry = f"{mine[0].name} {' '.join(texts)}"
                if self._opened.passes(sandbox.key, entry, self._loop.time()):
                    self._facts.publish(Opened(sandbox, mine[0].name, texts))

    def _reject(self, told: Told) -> None:
        """Have it told that a question was rejected."""
        if self._judge.sandbox(told) is not None and HOST_NAME.fullmatch(told.rejected):
            self._rejected(ip_address(told.sender).packed, told.rejected)

    def _reply(self, one: _Waiting, refused: str) -> None:
        if one.told.number is None or one.peer not in self._peers:
            return
        try:
            one.peer.socket.send(encode(Reply(one.told.number, refused)))
        except OSError:  # it has gone, or does not read
            self._drop(one.peer)

    def _drop(self, peer: _Peer) -> None:
        self._peers.discard(peer)
        self._loop.remove_reader(peer.socket)
        peer.socket.close()

    def _tidy(self) -> None:
        """Have the firewall forget what is open no more."""
        self._tidying = None
        try:
            with self._reconciler.changing() as (context, _):
                context.host.firewall.opened.read()
                left = context.host.firewall.opened.tidy()
        except (WatcherError, OSError):
            left = True
        if left:
            self._tidying = self._loop.call_later(_TIDY, self._tidy)


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
