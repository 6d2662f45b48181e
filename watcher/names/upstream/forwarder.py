"""All questions that are not ours: who may ask how much, and what is known already."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct

from watcher.names.upstream.cache import Cache
from watcher.names.upstream.health import Health
from watcher.names.upstream.hosts_servers import HostsServers
from watcher.names.upstream.inquiry import Inquiry, Means, Times
from watcher.names.upstream.messages import folded, make_reply
from watcher.names.upstream.rate import Rate
from watcher.names.upstream.servers import Choice, Server, make_choice
from watcher.names.wire.numbers import SERVFAIL, TCP_AT_MOST
from watcher.names.wire.query import Query
from watcher.names.wire.reply import failure

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Hashable

    from watcher.log.logger import Log
    from watcher.names.counts import Counts
    from watcher.names.upstream.messages import Answer

ALL_AT_MOST: Final = 2048
"""Questions under way at the same time, of all who ask."""
EACH_AT_MOST: Final = 64
"""Of one who asks, while less than half of :data:`ALL_AT_MOST` are under way."""
EACH_AT_MOST_WHEN_BUSY: Final = 8
TCP_ALL_AT_MOST: Final = 256
TCP_EACH_AT_MOST: Final = 16
TCP_EACH_AT_MOST_WHEN_BUSY: Final = 2
"""Connections to servers; the last while half of all are taken."""

_CHOICES_AT_MOST: Final = 1024

type Reply = Callable[[bytes], None]


class Forward(Protocol):
    """Who has other questions answered."""

    def ask(self, query: Query, servers: tuple[str, ...], asker: Hashable, reply: Reply) -> None:
        """Have a question answered.

        Args:
            query: the question.
            servers: the addresses of those to ask; none: those of the configuration or the host.
            asker: for whom; each may have so many questions under way.
            reply: gets the whole message for who asked, once, at once or within five seconds.
        """


class _Waiter(Struct, frozen=True):
    query: Query
    asker: Hashable
    reply: Reply
    since: float


type _Key = tuple[tuple[str, ...], bytes, int]


class _Pending(Struct):
    """A question under way, and those who wait for its answer."""

    waiters: list[_Waiter]
    inquiry: Inquiry | None = None


class Forwarder(Forward):
    """Has questions answered by servers, and keeps their answers.

    Answers with private addresses, or with those of our networks, are passed on as they are: names
    of a company's own have such. (DNS rebinding is for the server of a web page to be aware of.)

    Args:
        servers: those of the configuration (`[names] servers`); none: the host's.
        is_ours: whether we listen at an address. Such a server is left out, since it would ask us.
        hosts: what the host's file says.
        times: how long servers are waited for, and some answers are kept.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        counts: Counts,
        log: Log,
        *,
        servers: tuple[str, ...] = (),
        is_ours: Callable[[str], bool] = lambda _: False,
        hosts: HostsServers | None = None,
        times: Times | None = None,
    ) -> None:
        self._counts = counts
        self._log = log
        self._is_ours = is_ours
        self._hosts = hosts or HostsServers()
        self._cache = Cache(counts)
        times = times or Times()
        self._health = Health(loop, counts, log, times.each)
        self._means = Means(loop, counts, self._health, times, self._choose_again, self._left_out)
        self._choices: dict[tuple[str, ...], Choice] = {}
        self._pending: dict[tuple[_Key, bool], _Pending] = {}
        self._all = 0
        self._under_way: dict[Hashable, int] = {}
        self._connections: dict[Hashable, int] = {}
        self._connections_all = 0
        self._rate = Rate()
        self._told: set[str] = set()
        self.servers = servers

    def close(self) -> None:
        """End all that is under way; who waits for it gets nothing."""
        for pending in self._pending.values():
            if pending.inquiry is not None:
                pending.inquiry.close()
        self._pending.clear()
        self._health.close()

    def ask(self, query: Query, servers: tuple[str, ...], asker: Hashable, reply: Reply) -> None:
        """As of :class:`Forward`."""
        choice = self._choose(servers or self.servers)
        key = choice.names, folded(query.question), _bits(query)
        tcp = query.most == TCP_AT_MOST
        known = self._cache.get(key)
        self._counts.cache(hit=known is not None)
        if known is not None:
            self._counts.answered("forwarded", tcp=tcp)
            reply(make_reply(query, *known))
        elif self._may_ask(asker):
            self._wait(key, choice, _Waiter(query, asker, reply, time.monotonic()), tcp=tcp)
        else:
            self._overloaded(query, reply)

    def _overloaded(self, query: Query, reply: Reply) -> None:
        self._counts.answered("overload", tcp=query.most == TCP_AT_MOST)
        reply(failure(query, SERVFAIL))

    def _may_ask(self, asker: Hashable) -> bool:
        each = EACH_AT_MOST if self._all < ALL_AT_MOST // 2 else EACH_AT_MOST_WHEN_BUSY
        return self._all < ALL_AT_MOST and self._under_way.get(asker, 0) < each

    def _wait(self, key: _Key, choice: Choice, waiter: _Waiter, *, tcp: bool) -> None:
        """Wait with those who wait for the same answer, or ask servers for it."""
        pending = self._pending.get((key, tcp))
        if pending is None:
            if not self._rate.take(waiter.asker, waiter.since) or (
                tcp and not self._may_connect(waiter.asker)
            ):
                self._overloaded(waiter.query, waiter.reply)
                return
            pending = self._pending[key, tcp] = _Pending([])

        pending.waiters.append(waiter)
        self._all += 1
        self._counts.under_way = self._all
        self._under_way[waiter.asker] = self._under_way.get(waiter.asker, 0) + 1
        if pending.inquiry is None:

            def done(answer: Answer | None) -> None:
                self._done(key, answer, tcp=tcp)

            pending.inquiry = Inquiry(self._means, waiter.query, choice, done, tcp=tcp)
            pending.inquiry.begin()

    def _may_connect(self, asker: Hashable) -> bool:
        """Whether one more connection may be made for `asker`, and if so, count it."""
        own = self._connections.get(asker, 0)
        busy = self._connections_all >= TCP_ALL_AT_MOST // 2
        each = TCP_EACH_AT_MOST_WHEN_BUSY if busy else TCP_EACH_AT_MOST
        if self._connections_all >= TCP_ALL_AT_MOST or own >= each:
            return False
        self._connections_all += 1
        self._connections[asker] = own + 1
        return True

    def _done(self, key: _Key, answer: Answer | None, *, tcp: bool) -> None:
        pending = self._pending.pop((key, tcp))
        if tcp:
            self._connections_all -= 1
            _less(self._connections, pending.waiters[0].asker)
        assert pending.inquiry is not None
        choice = pending.inquiry.choice
        if answer is not None and choice.names == key[0]:  # not what others say of it by now
            local = any(server.local for server in choice.servers)
            most = self._means.times.local if local else answer.life
            self._cache.put(key, answer, min(answer.life, most))
        now = time.monotonic()
        self._all -= len(pending.waiters)
        self._counts.under_way = self._all
        for waiter in pending.waiters:
            _less(self._under_way, waiter.asker)
            self._counts.took(now - waiter.since)
            self._counts.answered("failed" if answer is None else "forwarded", tcp=tcp)
        for waiter in pending.waiters:
            if answer is None:
                waiter.reply(failure(waiter.query, SERVFAIL))
            else:
                waiter.reply(make_reply(waiter.query, answer))

    # --- servers -------------------------------------------------------------------------------

    def _choose(self, servers: tuple[str, ...]) -> Choice:
        if not servers:
            return self._hosts.choice()
        choice = self._choices.get(servers)
        if choice is None:
            if len(self._choices) >= _CHOICES_AT_MOST:
                self._choices.clear()
            choice = self._choices[servers] = make_choice(servers)
        return choice

    def _choose_again(self, choice: Choice) -> Choice:
        return self._hosts.choice(at_once=True) if choice.of_host else choice

    def _left_out(self, server: Server) -> bool:
        if not self._is_ours(server.name):
            return False
        if server.name not in self._told:
            if len(self._told) >= _CHOICES_AT_MOST:
                self._told.clear()
            self._told.add(server.name)
            self._log.warning("name server is the name service itself", server=server.name)
        return True


def _less(counts: dict[Hashable, int], key: Hashable) -> None:
    """Count one less, and forget who has none."""
    if counts[key] == 1:
        del counts[key]
    else:
        counts[key] -= 1


def _bits(query: Query) -> int:
    """What of a question changes the answer of a server, beside its name, type and class."""
    return (
        query.recursion | query.authentic << 1 | query.checked << 2 | query.edns << 3
        | query.dnssec << 4
    )  # fmt: skip
