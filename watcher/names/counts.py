"""Counts of what the name service has done, for its status socket.

Who answers counts: `Answers` what it answers itself, with :meth:`Counts.answered`; the forwarder
what it was given, with the same, and what it asks servers. A question is counted once. The methods
on the way of an answer cost an increment in a dictionary; an answer given at once is not timed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final, Literal, get_args

from watcher.feed.totals import Durations
from watcher.observe.name_service import NameTotals, OfHosts

Outcome = Literal[
    "cached", "local", "nodata", "nxdomain", "refused", "malformed",
    "forwarded", "failed", "overload", "dropped",
]  # fmt: skip
"""How a question ended.

- `cached`: a whole answer of ours was ready, whatever it says.
- `local`, `nodata`, `nxdomain`: such an answer of ours was made.
- `refused`: who asks is nobody, or may not ask this.
- `malformed`: the message is no question that is understood; FORMERR, NOTIMP or the like.
- `forwarded`: the answer is that of a server, asked now or earlier.
- `failed`: SERVFAIL, because no server gave an answer.
- `overload`: SERVFAIL, because too many questions are under way.
- `dropped`: no answer: the message is none that may be answered, or the answer could not be sent.
"""

ServerOutcome = Literal["answered", "refused", "timeout", "unreachable", "mismatch"]
"""How a question to a server ended.

- `answered`: an answer to it, also NXDOMAIN.
- `refused`: SERVFAIL, REFUSED, NOTIMP or FORMERR.
- `timeout`: nothing came.
- `unreachable`: the kernel said so: no route, port closed, connection reset.
- `mismatch`: a message that is no answer to it, and was ignored. It comes beside one of the others.
"""

Waited = Literal["answered", "refused"]
"""How the wait of an unknown asker ended: it became known in time, or not."""

Opening = Literal["opened", "open", "refused", "unanswered", "overload"]
"""What became of the addresses in an answer to who has names in a list of `egress`.

- `opened`: the service has opened them.
- `open`: they were open already.
- `refused`: the service has not opened them.
- `unanswered`: the service has not replied in time.
- `overload`: too many answers wait for it.

After the last three, the answer was SERVFAIL.
"""

OUTCOMES: Final[tuple[str, ...]] = get_args(Outcome)
SERVER_OUTCOMES: Final[tuple[str, ...]] = get_args(ServerOutcome)
WAITED: Final[tuple[str, ...]] = get_args(Waited)
OPENINGS: Final[tuple[str, ...]] = get_args(Opening)


class Counts:
    """Counts since its making.

    Attributes:
        waiting: askers that wait now until they are heard of.
        under_way: questions that servers have not answered yet.
        connections: clients that are connected by TCP.
        cache_entries, cache_bytes: what is in the cache of servers' answers.

    These are for who has the things to set or to change.
    """

    __slots__ = (
        "_cache_hits", "_cache_misses", "_connections_total", "_latency", "_openings", "_since",
        "_tcp", "_udp", "_upstream", "_waited", "cache_bytes", "cache_entries", "connections",
        "under_way", "waiting",
    )  # fmt: skip

    def __init__(self) -> None:
        self._since = time.time()
        self._udp = dict.fromkeys(OUTCOMES, 0)
        self._tcp = dict.fromkeys(OUTCOMES, 0)
        self._upstream = dict.fromkeys(SERVER_OUTCOMES, 0)
        self._waited = dict.fromkeys(WAITED, 0)
        self._openings = dict.fromkeys(OPENINGS, 0)
        self._latency = Durations()
        self._cache_hits = self._cache_misses = self._connections_total = 0
        self.waiting = self.under_way = self.connections = 0
        self.cache_entries = self.cache_bytes = 0

    def answered(self, outcome: Outcome, *, tcp: bool = False) -> None:
        """A question has ended. The forwarder knows `tcp` by `query.most` (`TCP_AT_MOST`)."""
        if tcp:
            self._tcp[outcome] += 1
        else:
            self._udp[outcome] += 1

    def cached(self, count: int) -> None:
        """So many questions by UDP have ended, all as `cached`."""
        self._udp["cached"] += count

    def took(self, seconds: float) -> None:
        """A question was answered by a server, or failed, after `seconds`; not from the cache."""
        self._latency.add(seconds)

    def upstream(self, outcome: ServerOutcome) -> None:
        """A question to one server has ended."""
        self._upstream[outcome] += 1

    def cache(self, *, hit: bool) -> None:
        """The cache was looked at for a question."""
        if hit:
            self._cache_hits += 1
        else:
            self._cache_misses += 1

    def waited(self, outcome: Waited) -> None:
        """The wait of an unknown asker has ended; `waiting` is for who lets it wait to change."""
        self._waited[outcome] += 1

    def opening(self, outcome: Opening) -> None:
        """The addresses of an answer were opened in one network of a sandbox, or were not."""
        self._openings[outcome] += 1

    def connected(self) -> None:
        """A client has connected by TCP."""
        self.connections += 1
        self._connections_total += 1

    def disconnected(self) -> None:
        """A client's connection has ended."""
        self.connections -= 1

    def totals(
        self,
        *,
        connected: datetime | None,
        domain: str,
        networks: tuple[str, ...],
        sandboxes: int,
        names: int,
        views: int,
        others: OfHosts | None = None,
    ) -> NameTotals:
        """All counts, with what only others know, as they are told."""
        return NameTotals(
            since=datetime.fromtimestamp(self._since, UTC), connected=connected, domain=domain,
            networks=networks, sandboxes=sandboxes, names=names, views=views,
            udp=dict(self._udp), tcp=dict(self._tcp),
            connections=self.connections, connections_total=self._connections_total,
            waiting=self.waiting, waited=dict(self._waited),
            openings=dict(self._openings), others=others,
            under_way=self.under_way, upstream=dict(self._upstream),
            latency=self._latency.histogram(),
            cache_hits=self._cache_hits, cache_misses=self._cache_misses,
            cache_entries=self.cache_entries, cache_bytes=self.cache_bytes,
        )  # fmt: skip
