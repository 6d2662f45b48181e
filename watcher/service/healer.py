"""Self-healing: looks at everything that drift suspects, and repairs it if necessary.

If another program keeps undoing a repair, the pauses between looks grow up to a minute, and the log
says so. Each link and each thing of the host has its own pause, so that repeated changes of one do
not delay the repair of another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from watcher.events.drift import Drift
from watcher.events.hosts import HostsWatch
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.model.naming import HOST_NAME
from watcher.model.repair import Repair

if TYPE_CHECKING:
    from watcher.log.logger import Log
    from watcher.model.network import Network
    from watcher.reconcile.reconciler import Reconciler

PAUSES: Final = (0.05, 60.0)
"""Seconds from a suspicion to the look at it: first and maximum."""

VAIN: Final = 5.0
"""The maximum if the look found nothing wrong."""

SWEPT: Final = 0.5
"""The maximum if events of sandboxes were lost, so that all of them are suspects."""

_SHARE: Final = 10
"""The pause after a look at all sandboxes is at least this many times as long as the look."""

_BATCH: Final = 0.005
"""Seconds of looking at sandboxes before other work gets its turn."""

_PINS_AT_ONCE: Final = 100
"""Pins to look at before other work gets its turn."""

_QUIET: Final = 10
"""After this many pauses without a suspicion, the first pause applies again."""

_SOON: Final = 0.5
"""A look at a link waits for a look at the host that is due within so many seconds."""

ROUTES: Final = "routes"
"""The suspicion that a network overlaps with the host, or no longer does."""

HOSTS: Final = "other hosts"
"""The suspicion that packets to other hosts of the cluster do not get there."""

_SANDBOXES: Final = "all sandboxes"
_PINS: Final = "all pins"


class Healer:
    """Collects suspicions for a moment, and then has reconcile look at the suspects.

    Args:
        loop: the event loop in whose thread reconcile is used.
        reconciler: repairs one sandbox.
        sync: repairs everything; returns the differences.
        log: names repairs.
        moved: called if other hosts have to reach this one by another address.
        failed: called with the error that ended the listening.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        sync: Callable[[], list[Repair]],
        log: Log,
        *,
        moved: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._moved = moved
        self._failed = failed
        self._loop = loop
        self._reconciler = reconciler
        self._present = reconciler.present
        self._sync = sync
        self._log = log
        self._drift: Drift | None = None
        self._hosts: HostsWatch | None = None
        """Only with a clustered network."""
        self._pins: Iterator[bool] = iter(())
        self._swept: list[str] = []
        """The links still to look at after events were lost."""
        self._sweep_cost = 0.0
        self._mending: Generator[None, None, tuple[list[Repair], bool]] | None = None
        """What is left of putting right the ways to other hosts."""
        self._mending_cost = 0.0
        self._next: asyncio.Handle | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pauses: dict[str, tuple[float, float, float]] = {}
        """By thing looked at lately: the grown pause, the pause to wait, and when both expire."""

    @property
    def listens(self) -> bool:
        """Whether it receives events."""
        deaf = self._hosts is not None and not self._hosts.alive
        return self._drift is not None and self._drift.alive and not deaf

    def start(self, networks: Collection[Network]) -> None:
        """Listen, or listen anew, for changes of `networks` and their sandboxes."""
        self._close()
        bridges = {network.bridge for network in networks}
        local = {n.bridge for n in networks if n.managed and not n.internal and n.subnet_of(4)}
        subnets = [subnet for network in networks for subnet in network.subnets]
        self._reconciler.repairs.retry = self.suspect
        self._drift = Drift(
            self._loop, bridges, local, subnets,
            overlapping=self._present.overlapping_links, routes=lambda: self.suspect(ROUTES),
            link=self.suspect, host=self.suspect, lost=lambda: self.suspect(_SANDBOXES),
            failed=self._failed,
        )  # fmt: skip
        if any(network.cluster for network in networks):
            self._hosts = HostsWatch(
                self._loop, self._present.is_wrong, self._present.links_to_hosts,
                lambda: self.suspect(HOSTS), self._reconciler.suspect_ways, self._failed,
            )  # fmt: skip

    def _close(self) -> None:
        if self._drift is not None:
            self._drift.close()
        if self._hosts is not None:
            self._hosts.close()
            self._hosts = None

    def stop(self) -> None:
        """Stop listening."""
        self._close()
        for timer in self._timers.values():
            timer.cancel()
        if self._next is not None:
            self._next.cancel()

    def suspect(self, what: str) -> None:
        """Look soon at `what`: a host end, or a part of the host, which means all of it."""
        if what not in self._timers:
            _, pause, until = self._pauses.get(what, (0.0, PAUSES[0], 0.0))
            if until <= self._loop.time():
                pause = PAUSES[0]
            self._timers[what] = self._loop.call_later(pause, self._look, what)

    def pin_gone(self, name: str) -> None:
        """Check whether a name that was removed from `netns_dir` is needed."""
        if self._present.has_pin(name):
            self.suspect(_PINS)

    def pins_may_be_gone(self) -> None:
        """Check for unmounted pins after a change of the mount table."""
        self._pins = self._present.lacks_pins()
        self._look_at_pins()

    def _look_at_pins(self) -> None:
        """Look at some pins, and let other work run in between."""
        some = list(islice(self._pins, _PINS_AT_ONCE))
        if any(some):
            self.suspect(_PINS)
        elif some:
            self._loop.call_soon(self._look_at_pins)

    def _look(self, what: str) -> None:
        del self._timers[what]
        if what == _SANDBOXES:
            self._begin_sweep()
            return
        if what == ROUTES:
            self._look_at_routes()
            return
        if what == HOSTS:
            self._look_at_hosts()
            return
        if HOST_NAME.fullmatch(what):
            if self._host_is_due():  # first repair what links need, such as a bridge
                self.suspect(what)
                return
            began = self._loop.time()
            repairs = self._reconciler.mend(what)
            least = _SHARE * (self._loop.time() - began)
        else:
            # The sync also finds differences of links, which must not delay the host's next look.
            repairs, least = [r for r in self._sync() if not r.link], 0.0
        found = {f"{r.what}: {r.why}" for r in repairs}
        self._count(what, found, PAUSES[1] if found else VAIN, least)

    def _look_at_routes(self) -> None:
        """Look for overlaps; where one has passed, containers may get their networks."""
        began = self._loop.time()
        passed = self._reconciler.look_for_overlaps()
        least = _SHARE * (self._loop.time() - began)
        if passed:
            self.prepare(())
            self._sync()
        self._count(ROUTES, (), VAIN, least)

    def _look_at_hosts(self) -> None:
        """Put right how other hosts are reached, in steps; what failed is tried again.

        If something is suspected meanwhile, that has its turn behind it.
        """
        if self._mending is not None:
            self.suspect(HOSTS)
            return
        self._mending, self._mending_cost = self._reconciler.mend_ways(), 0.0
        self._mend_some()

    def _mend_some(self) -> None:
        assert self._mending is not None
        began = now = self._loop.time()
        try:
            while now - began < _BATCH:
                next(self._mending)
                now = self._loop.time()
        except StopIteration as end:
            self._mending = None
            repairs, moved = end.value
            self._mended(repairs, self._mending_cost + self._loop.time() - began, moved=moved)
        except BaseException:
            self._mending = None
            raise
        else:
            self._mending_cost += now - began
            self._next = self._loop.call_soon(self._mend_some)

        if self._hosts is not None:
            self._hosts.refresh()

    def _mended(self, repairs: list[Repair], cost: float, *, moved: bool) -> None:
        found = {f"{r.what}: {r.why}" for r in repairs if not r.error}
        self._count(HOSTS, found, PAUSES[1] if repairs else VAIN, _SHARE * cost)
        self.retry()
        if moved:
            self._moved()

    def retry(self) -> None:
        """Look at other hosts again, if something about them could not be put right."""
        if self._hosts is not None and self._present.ways_are_wrong:
            self.suspect(HOSTS)

    def prepare(self, networks: Iterable[str]) -> None:
        """Make the bridges of `networks`, so that others see their subnets as taken."""
        for name, error in self._reconciler.prepare(networks):
            self._log.warning(
                "a network cannot be prepared", network=name, reason=message_with_remedy(error)
            )

    def _host_is_due(self) -> bool:
        """Whether a look at the host is due soon."""
        soon = self._loop.time() + _SOON
        return any(
            timer.when() < soon
            for what, timer in self._timers.items()
            if what not in (_SANDBOXES, ROUTES, HOSTS) and not HOST_NAME.fullmatch(what)
        )

    def _begin_sweep(self) -> None:
        """Look at all sandboxes, a few at a time."""
        if not self._swept:
            try:
                self._swept = self._present.links()
            except WatcherError as error:
                self._log.error("cannot be put right", reason=message_with_remedy(error))
                return
        self._sweep_cost = 0.0
        self._sweep()

    def _sweep(self) -> None:
        began = now = self._loop.time()
        while self._swept and now - began < _BATCH:
            self._reconciler.mend(self._swept.pop())
            now = self._loop.time()
        self._sweep_cost += now - began
        if self._swept:
            self._loop.call_soon(self._sweep)
        else:
            self._count(_SANDBOXES, (), SWEPT, _SHARE * self._sweep_cost)

    def _count(self, what: str, found: Collection[str], most: float, least: float) -> None:
        """Lengthen the pause before the next look at `what` if the last look was recent."""
        now = self._loop.time()
        if len(self._pauses) > _MANY:
            self._pauses = {key: entry for key, entry in self._pauses.items() if entry[2] > now}
        before, _, until = self._pauses.get(what, (0.0, 0.0, now))
        earned = min(before * 2, most) if until > now else PAUSES[0]
        pause = min(max(earned, least), PAUSES[1])
        self._pauses[what] = (earned, pause, now + _QUIET * pause)
        if earned >= 1:
            for thing in sorted(found):
                self._log.warning(
                    "something keeps undoing this", what=thing, pause=pause,
                    remedy="find out what, e.g. with `nft monitor` and `ip monitor`",
                )  # fmt: skip


_MANY: Final = 1000
"""The number of expired pauses that may be kept."""
