"""What is open until when, and answers that wait until the addresses in them are.

An answer to a sandbox that has names in a list of `egress` leaves only once the service has said
that its addresses are open. As nobody tells when they are closed, each is asked for a minute more
than it has to be open, and in that minute nothing has to be asked again. While the service is away,
what is open stays so, and answers with nothing else in them leave.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Protocol

from watcher.answers.protocol import MIN_TTL, Told, decode_reply, encode
from watcher.model.seldom import Seldom
from watcher.names.opening.answered import Unreadable, read
from watcher.names.opening.link import Link
from watcher.names.wire.numbers import SERVFAIL
from watcher.names.wire.reply import failure

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Sequence

    from watcher.log.logger import Log
    from watcher.names.counts import Counts, Opening
    from watcher.names.opening.answered import Addresses
    from watcher.names.opening.limits import Place
    from watcher.names.wire.query import Query

    type Reply = Callable[[bytes], None]
    type Opened = Callable[[bool], None]
    type _Key = tuple[Place, bytes, int]
    """Where an answer opens addresses, and to which name and type."""

PATIENCE: Final = 1.5
"""Seconds that an answer waits for the service, also for one that is just being started anew."""

TTL_AT_MOST: Final = 3600
"""Seconds for which an answer holds: what it opens stays open longer, whatever its server says."""

SLACK: Final = 60
"""Seconds for which it is open beyond that, so that the next answer need not be told."""

ALL_AT_MOST: Final = 1024
"""Answers that wait, of all sandboxes; each for one network of a sandbox."""
EACH_AT_MOST: Final = 128
"""Of one sandbox: twice the questions that it may have under way."""

_KNOWN_AT_MOST: Final = 1 << 16
"""Names, each of one sandbox, of which it is known what is open."""

_UNTOLD_AT_MOST: Final = 256
"""Rejected names that wait for the service to be there."""

_REJECTED_AGAIN, _REJECTED_OF_EACH, _REJECTED_AT_MOST = 60.0, 64, 4096
"""Seconds until the same rejected name of a sandbox is told again; names of one and of all then."""

_COMPLAIN_AGAIN: Final = 60.0
"""Seconds until it is logged again that the service refuses to open anything."""


class _Waiter:
    """An answer that waits for one network of its sandbox."""

    __slots__ = ("asker", "done", "key", "packet", "timer", "until")

    def __init__(
        self, asker: Hashable, key: _Key, until: dict[str, float], packet: bytes, done: Opened
    ) -> None:
        self.asker = asker
        self.key = key
        self.until = until
        self.packet = packet
        self.done = done
        self.timer: asyncio.TimerHandle | None = None


class Opener(Protocol):
    """Who has the addresses in answers opened."""

    def before(
        self, reply: Reply, query: Query, name: bytes, places: Sequence[Place], asker: Hashable
    ) -> Reply:
        """What is to be done with the answer to `query`: have it open its addresses, then `reply`.

        Args:
            reply: gets the answer once they are open, or SERVFAIL if they cannot be opened.
            query: asks for addresses.
            name: of what, as in lists.
            places: where they are to be open.
            asker: for whom; each may have so many answers wait.
        """

    def reject(self, name: bytes, place: Place, asker: Hashable) -> None:
        """Tell the service that the sandbox may not ask for `name`, unless that was told lately."""


class Openings(Opener):
    """See the module's docstring.

    Args:
        run_dir: where the service's socket is.
        loop: in whose thread all of this happens.
        counts: told what becomes of each answer.
        log: the log.
    """

    def __init__(
        self, run_dir: str, loop: asyncio.AbstractEventLoop, counts: Counts, log: Log
    ) -> None:
        self._loop = loop
        self._counts = counts
        self._log = log
        self._link = Link(run_dir, loop, log, self)
        self._number = 0
        self._waiting: dict[int, _Waiter] = {}
        self._of_each: dict[Hashable, int] = {}
        self._open: OrderedDict[_Key, dict[str, float]] = OrderedDict()
        """Until when each address is."""
        self._rejected = Seldom(_REJECTED_AGAIN, _REJECTED_OF_EACH, _REJECTED_AT_MOST)
        self._untold: deque[bytes] = deque(maxlen=_UNTOLD_AT_MOST)
        self._complained = -_COMPLAIN_AGAIN

    @property
    def waiting(self) -> int:
        """How many answers wait."""
        return len(self._waiting)

    def forget(self) -> None:
        """Have all that is open told anew with the next answer: the lists may be others by now."""
        self._open.clear()

    def close(self) -> None:
        """End it; the answers that wait do not leave."""
        for waiter in self._waiting.values():
            if waiter.timer is not None:
                waiter.timer.cancel()
        self._waiting.clear()
        self._link.close()

    def before(
        self, reply: Reply, query: Query, name: bytes, places: Sequence[Place], asker: Hashable
    ) -> Reply:
        """As of :class:`Opener`."""

        def answered(message: bytes) -> None:
            try:
                message, addresses = read(message, query, TTL_AT_MOST)
            except Unreadable:
                reply(failure(query, SERVFAIL))
                return
            self._open_all(
                [(place, name, query.type) for place in places], addresses, asker,
                lambda opened: reply(message if opened else failure(query, SERVFAIL)),
            )  # fmt: skip

        return answered

    def reject(self, name: bytes, place: Place, asker: Hashable) -> None:
        """As of :class:`Opener`."""
        if not self._rejected.passes(asker, name, self._loop.time()):
            return
        packet = encode(Told(place.source, place.network, rejected=name.decode()))
        if not self._link.send(packet):
            self._untold.append(packet)
            self._link.want()

    # Of the connection:

    def connected(self) -> None:
        """Send what waits; what was open, a service that was started anew may not know."""
        self.forget()
        for waiter in tuple(self._waiting.values()):
            self._link.send(waiter.packet)
        while self._untold and self._link.send(self._untold[0]):
            self._untold.popleft()

    def heard(self, packet: bytes) -> None:
        """The service has replied."""
        said = decode_reply(packet)
        waiter = self._waiting.get(said.number)
        if waiter is None:  # it was not waited for so long
            return
        if said.refused:
            self._complain(said.refused)
        else:
            self._remember(waiter)
        self._end(said.number, "refused" if said.refused else "opened")

    def waits(self) -> bool:
        """Whether the service has to be told anything."""
        return bool(self._waiting or self._untold)

    def _open_all(
        self, keys: Sequence[_Key], addresses: Addresses, asker: Hashable, done: Opened
    ) -> None:
        """Have `addresses` be open for all `keys`; `done` gets whether they are, now or later."""
        now = _now()
        missing = [key for key in keys if not self._is_open(key, addresses, now)]
        if not missing:
            self._counts.opening("open")
            done(True)
            return
        of_each = self._of_each.get(asker, 0) + len(missing)
        if len(self._waiting) + len(missing) > ALL_AT_MOST or of_each > EACH_AT_MOST:
            self._counts.opening("overload")
            done(False)
            return
        self._of_each[asker] = of_each
        together = _Together(len(missing), done)
        asked = tuple([(address, max(ttl, MIN_TTL) + SLACK) for address, ttl in addresses])
        until = {address: now + seconds for address, seconds in asked}
        for key in missing:
            place, name, _ = key
            self._number = number = self._number + 1
            packet = encode(Told(place.source, place.network, number, name.decode(), asked))
            waiter = _Waiter(asker, key, until, packet, together.ended)
            self._waiting[number] = waiter
            waiter.timer = self._loop.call_later(PATIENCE, self._give_up, number)
            self._link.send(packet)
        self._link.want()

    def _give_up(self, number: int) -> None:
        self._end(number, "unanswered")

    def _end(self, number: int, outcome: Opening) -> None:
        waiter = self._waiting.pop(number)
        self._counts.opening(outcome)
        if waiter.timer is not None:
            waiter.timer.cancel()
        if self._of_each[waiter.asker] == 1:
            del self._of_each[waiter.asker]
        else:
            self._of_each[waiter.asker] -= 1
        waiter.done(outcome == "opened")

    def _is_open(self, key: _Key, addresses: Addresses, now: float) -> bool:
        """Whether all `addresses` stay open for as long as they have to from `now` on."""
        until = self._open.get(key, {})
        return all(now + max(ttl, MIN_TTL) <= until.get(address, 0.0) for address, ttl in addresses)

    def _remember(self, waiter: _Waiter) -> None:
        self._open.pop(waiter.key, None)
        self._open[waiter.key] = waiter.until
        if len(self._open) > _KNOWN_AT_MOST:
            self._open.popitem(last=False)

    def _complain(self, reason: str) -> None:
        now = self._loop.time()
        if now >= self._complained + _COMPLAIN_AGAIN:
            self._complained = now
            self._log.warning("the service does not open an answer's addresses", reason=reason)


class _Together:
    """The ends of one answer's waits for all networks of its sandbox."""

    __slots__ = ("_done", "_left", "_opened")

    def __init__(self, count: int, done: Opened) -> None:
        self._left = count
        self._opened = True
        self._done = done

    def ended(self, opened: bool) -> None:
        """One of them has ended; the last one tells whether all were opened."""
        self._left -= 1
        self._opened = self._opened and opened
        if not self._left:
            self._done(self._opened)


def _now() -> float:
    """Seconds that also pass while the host is suspended, as what is open closes meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
