"""One question to several servers, one after the other, until one of them has an answer."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.names.upstream.exchange import Exchange, TcpExchange
from watcher.names.upstream.messages import folded, make_question
from watcher.names.wire.numbers import FORMERR, NOERROR, NXDOMAIN, YXDOMAIN

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable

    from watcher.names.counts import Counts
    from watcher.names.upstream.health import Health
    from watcher.names.upstream.messages import Answer
    from watcher.names.upstream.servers import Choice, Server
    from watcher.names.wire.query import Query

_FINAL: Final = (NOERROR, NXDOMAIN, YXDOMAIN)
_OURS: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN)
"""Errors that say something of us, and nothing of the server."""
_OPEN_AT_MOST: Final = 3
"""Servers that are waited for at the same time."""
_PAUSE: Final = 0.5
"""Seconds between two rounds if no server could be reached: one on this host may be restarting."""


class Times(Struct, frozen=True):
    """How long servers are waited for, and how long answers are kept, in seconds.

    Attributes:
        each: after which the next one is asked.
        all: after which there is no answer. glibc and musl wait for 5 (`RES_TIMEOUT` of glibc's
            resolv.h, `__get_resolv_conf` of musl's src/network/resolvconf.c).
        local: for which an answer of a server on this host is kept at most. It has a cache of its
            own, and it alone knows when that is out of date, as a VPN comes or goes.
    """

    each: float = 2.0
    all: float = 4.5
    local: float = 2.0


class Means(Struct, frozen=True):
    """What all inquiries use.

    Attributes:
        choose: the choice of servers anew: the host's file may say others by now.
        left_out: whether a server may not be asked.
    """

    loop: AbstractEventLoop
    counts: Counts
    health: Health
    times: Times
    choose: Callable[[Choice], Choice]
    left_out: Callable[[Server], bool]


class Inquiry:
    """A question under way.

    A server that has not answered in time is not given up: the next one is asked beside it, and the
    first answer counts. SERVFAIL, REFUSED and the like are told only if no server says more.

    Args:
        query: the question.
        choice: who is asked.
        done: called once, with the answer, or with `None` if there is none.
    """

    def __init__(
        self,
        means: Means,
        query: Query,
        choice: Choice,
        done: Callable[[Answer | None], None],
        *,
        tcp: bool,
    ) -> None:
        self._means = means
        self._query = query
        self._choice = choice
        self._done = done
        self._kind = TcpExchange if tcp else Exchange
        self._question = folded(query.question)
        self._message = make_question(query, edns=query.edns)
        self._rounds = choice.rounds
        self._queue: list[Server] = []
        self._open: list[Exchange] = []
        self._refused: set[str] = set()
        self._unreached: set[str] = set()
        self._worst: Answer | None = None
        self._next: TimerHandle | None = None
        self._round_began = -_PAUSE
        self._deadline = means.loop.call_later(means.times.all, self._finish, None)

    @property
    def choice(self) -> Choice:
        """The servers that are asked now."""
        return self._choice

    def begin(self) -> None:
        """Ask the first server."""
        self._ask_next()

    def close(self) -> None:
        """End it; nobody is told."""
        self._deadline.cancel()
        if self._next is not None:
            self._next.cancel()
        for exchange in self._open:
            if exchange.late:
                self._means.counts.upstream("timeout")
            exchange.close()
        self._open.clear()

    def _finish(self, answer: Answer | None) -> None:
        if answer is None:
            for exchange in self._open:
                exchange.late = True
        self.close()
        self._done(answer or self._worst)

    def _ask_next(self) -> None:
        """Ask the next server that can be reached, or end if there is none left to hope for."""
        self._next = None
        while True:
            if not self._queue:
                if not self._new_round():
                    if not self._open:
                        self._finish(None)
                    return
                pause = self._round_began + _PAUSE - self._means.loop.time()
                self._round_began = self._means.loop.time()
                again = all(server.name in self._unreached for server in self._queue)
                if pause > 0 and again and not self._open:
                    self._next = self._means.loop.call_later(pause, self._ask_next)
                    return
            if self._ask(self._queue.pop(0), self._message):
                return

    def _new_round(self) -> bool:
        """Line up the servers once more; whether there are any."""
        if not self._rounds:
            return False
        self._rounds -= 1
        means = self._means
        self._choice = means.choose(self._choice)
        self._queue = [
            server
            for server in means.health.order(self._choice)
            if server.name not in self._refused and not means.left_out(server)
        ]
        return bool(self._queue)

    def _ask(self, server: Server, message: bytes) -> bool:
        """Ask a server; whether that could be done."""
        means = self._means
        try:
            exchange = self._kind(
                means.loop, means.counts, server, message, self._question, self._heard
            )
        except OSError as error:
            if error.errno in _OURS:
                return False
            self._cannot_reach(server)
            return False
        self._unreached.discard(server.name)
        self._stop_waiting()
        if len(self._open) >= _OPEN_AT_MOST:
            means.counts.upstream("timeout")
            self._open.pop(0).close()
        self._open.append(exchange)
        times = means.times
        patience = min(
            self._choice.timeout or times.each, times.all / max(2, len(self._choice.servers))
        )
        self._next = means.loop.call_later(patience, self._late, exchange)
        return True

    def _late(self, exchange: Exchange) -> None:
        exchange.late = True
        self._means.health.suspect(exchange.server)
        self._ask_next()

    def _cannot_reach(self, server: Server) -> None:
        self._means.counts.upstream("unreachable")
        self._unreached.add(server.name)
        if self._kind is Exchange:  # a server may have UDP alone
            self._means.health.unreachable(server)

    def _heard(self, exchange: Exchange, answer: Answer | None) -> None:
        """An exchange has ended."""
        self._open.remove(exchange)
        server = exchange.server
        if answer is None:
            if exchange.flooded:
                self._means.counts.upstream("timeout")
                self._means.health.suspect(server)
            else:
                self._cannot_reach(server)
        else:
            self._means.health.answered(server)
            if answer.code in _FINAL and not answer.lame:
                self._means.counts.upstream("answered")
                self._finish(answer)
                return
            self._means.counts.upstream("refused")
            plain = answer.code == FORMERR and exchange.edns  # RFC 6891, section 7
            if plain and self._ask(server, make_question(self._query, edns=False)):
                return
            self._worst = answer
            self._refused.add(server.name)
            self._queue = [other for other in self._queue if other.name != server.name]
        if not exchange.late:
            self._stop_waiting()
            self._ask_next()
        elif not self._open and self._next is None:
            self._ask_next()

    def _stop_waiting(self) -> None:
        """Another server is asked before the one that was asked last is late."""
        if self._next is not None:
            self._next.cancel()
            self._next = None
        for exchange in self._open:
            exchange.late = True
