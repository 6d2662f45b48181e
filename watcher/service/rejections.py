"""Makes facts of what was rejected, few enough that nobody can flood the log and the history.

Bounds are for each address of a sandbox. The same is told once a minute. Of different things, a
sandbox may have :data:`BURST` told at once, and then one in :data:`PAUSE` seconds. All together
have a bound as well, but a sandbox of which nothing was told lately is told of in any case: so one
that floods hides nothing of another.
"""

from __future__ import annotations

import time
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final

from watcher.facts import kinds
from watcher.model.errors import WatcherError
from watcher.model.policy.needed import entry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers.kernel.nflog import Logged
    from watcher.facts.kinds import Fact
    from watcher.model.address import Address
    from watcher.model.sandbox import Sandbox

SAME: Final = 60.0
"""Seconds until the same is told again."""

BURST, PAUSE = 60, 10.0
"""How much of one sandbox is told at once, and seconds until there may be more."""

ALL_BURST, ALL_PAUSE = 600, 0.5
"""The same for all sandboxes together."""

NEW_BURST, NEW_PAUSE = 1000, 0.1
"""The same for sandboxes of which nothing was told lately."""

_PORTED: Final = {6: "tcp", 17: "udp", 132: "sctp"}
_MOST: Final = 20_000
"""The most addresses to keep something about."""

_CONNECTIONS: Final = "connections"
_DIRECTIONS: Final = frozenset(("egress", "ingress", _CONNECTIONS))


class Bucket:
    """Lets `burst` pass at once, and then one in `pause` seconds."""

    __slots__ = ("_at", "_burst", "_left", "_pause")

    def __init__(self, burst: int, pause: float) -> None:
        self._burst, self._pause = burst, pause
        self._left = float(burst)
        self._at = 0.0

    def full(self, now: float) -> bool:
        """Whether nothing has passed lately."""
        self._fill(now)
        return self._left >= self._burst

    def take(self, now: float) -> bool:
        """Let one pass, if it may."""
        self._fill(now)
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def _fill(self, now: float) -> None:
        self._left = min(self._burst, self._left + (now - self._at) / self._pause)
        self._at = now


class _Told:
    """What was told of an address of a sandbox."""

    __slots__ = ("bucket", "until")

    def __init__(self) -> None:
        self.bucket = Bucket(BURST, PAUSE)
        self.until: dict[tuple[str, str], float] = {}
        """When it may be told again, by direction and entry; at most :data:`BURST` and a few."""


class Rejections:
    """Hears of rejected packets and names, and publishes some, in the thread of the loop.

    Args:
        find: returns the sandbox with an address.
        publish: gets the facts.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        find: Callable[[Address], Sandbox | None],
        publish: Callable[[Fact], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._publish = publish
        self._clock = clock
        self._told: dict[bytes, _Told] = {}
        self._all = Bucket(ALL_BURST, ALL_PAUSE)
        self._new = Bucket(NEW_BURST, NEW_PAUSE)

    def note(self, fact: Fact) -> None:
        """Take a fact; a subscriber: who gets an address next is another sandbox."""
        if isinstance(fact, kinds.Detached | kinds.Disconnected) and self._told:
            for address in fact.sandbox.leased:
                self._told.pop(address.packed, None)

    def heard(self, packet: Logged) -> None:
        """Take a packet that was rejected."""
        direction, *more = packet.prefix.split() or ("",)
        if direction not in _DIRECTIONS:  # a rule of somebody else
            return
        own, other = packet.source, packet.destination
        if "daddr" in more:
            own, other = other, own
        if direction == _CONNECTIONS:
            self.reject(own, (direction, ""), kinds.ConnectionsFull)
            return
        whom = "host" if "host" in more else other
        entry = entry_of(whom, packet.protocol, packet.port)

        def rejected(sandbox: Sandbox) -> Fact:
            if "mapped" not in more:
                return kinds.Rejected(sandbox, direction, entry)
            port = _published(sandbox, packet)
            return kinds.Rejected(sandbox, direction, entry_of(whom, packet.protocol, port))

        self.reject(own, (direction, entry), rejected)

    def asked(self, own: bytes, name: str) -> None:
        """Take a name in no list, for which the sandbox with the address `own` has asked."""
        self.reject(own, ("egress", name), lambda sandbox: kinds.Rejected(sandbox, "egress", name))

    def reject(self, own: bytes, what: tuple[str, str], fact: Callable[[Sandbox], Fact]) -> None:
        """Publish the fact of the sandbox with the address `own`, if it may be told.

        Args:
            own: the 4 or 16 bytes of the address.
            what: by what the same is recognised.
            fact: makes the fact.
        """
        now = self._clock()
        told = self._told.get(own)
        if told is None:
            if len(self._told) >= _MOST:
                self._forget(now)
            told = self._told[own] = _Told()
        if now < told.until.get(what, 0.0):
            return
        common = self._new if told.bucket.full(now) else self._all
        if not told.bucket.take(now) or not common.take(now):
            return
        if len(told.until) > BURST:
            told.until = {one: until for one, until in told.until.items() if until > now}
        told.until[what] = now + SAME
        address = IPv4Address(own) if len(own) == 4 else IPv6Address(own)
        with suppress(WatcherError):  # a sync makes the store anew
            sandbox = self._find(address)
            if sandbox is not None:
                self._publish(fact(sandbox))

    def _forget(self, now: float) -> None:
        """Keep what matters still; if that is too much, nothing."""
        self._told = {own: t for own, t in self._told.items() if not t.bucket.full(now)}
        if len(self._told) >= _MOST:
            self._told.clear()


def _published(sandbox: Sandbox, packet: Logged) -> int | None:
    """The host's port that leads to where `packet` goes; of several, the first."""
    inside, protocol = packet.port, _PORTED.get(packet.protocol)
    if inside is None:
        return None
    for port in sandbox.ports:
        if port.protocol == protocol and 0 <= inside - port.port < port.length:
            return port.host_port + inside - port.port
    return inside
