"""Self-healing: what drift suspects is looked at, and put right if need be.

One who keeps undoing it is not fought: the pauses between repairs grow, up to a minute, and it is
said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from watcher.drift import Drift
from watcher.errors import WatcherError, told
from watcher.log import tell_repairs

if TYPE_CHECKING:
    from watcher.config import Network
    from watcher.log import Log
    from watcher.model import Repair
    from watcher.reconcile import Reconciler

PAUSES: Final = (0.05, 60.0)
"""Seconds from a suspicion to the look that it causes: at first, and at the most."""

_AT_ONCE: Final = 100
"""Pins that are looked at in one go."""

_QUIET: Final = 10
"""After so many pauses without a repair, the next one is as quick as the first."""


class Healer:
    """Collects suspicions for a moment, and has reconcile look at what they name.

    Args:
        loop: the event loop in whose thread reconcile is used.
        reconciler: what puts right one sandbox.
        sync: puts right everything; what was different.
        log: where repairs are told.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        sync: Callable[[], list[Repair]],
        log: Log,
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._sync = sync
        self._log = log
        self._drift: Drift | None = None
        self._pins: Iterator[bool] = iter(())
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._pauses: dict[str, tuple[float, float]] = {}
        """Of each thing that was put right lately: the pause that it has earned, and until when."""

    def start(self, networks: Collection[Network]) -> None:
        """Listen from now on to what becomes of `networks` and their sandboxes."""
        bridges = {network.bridge for network in networks}
        versions = {subnet.version for network in networks for subnet in network.subnets}
        self._drift = Drift(self._loop, bridges, versions, self.suspect)

    def stop(self) -> None:
        """Listen no more."""
        if self._drift is not None:
            self._drift.close()
        for timer in self._timers.values():
            timer.cancel()

    def suspect(self, host_name: str) -> None:
        """Look soon at the link `host_name`; empty: at everything."""
        if host_name not in self._timers:
            pause = self._pause(host_name)
            self._timers[host_name] = self._loop.call_later(pause, self._look, host_name)

    def pin_gone(self, name: str) -> None:
        """A name was removed from `netns_dir`: see whether it should be there."""
        if self._reconciler.has_pin(name):
            self.suspect("")

    def pins_may_be_gone(self) -> None:
        """The mount table was changed: see whether a pin was unmounted."""
        self._pins = self._reconciler.lacks_pins()
        self._look_at_pins()

    def _look_at_pins(self) -> None:
        """Look at some: whoever comes in between does not have to wait for all of them."""
        some = list(islice(self._pins, _AT_ONCE))
        if any(some):
            self.suspect("")
        elif some:
            self._loop.call_soon(self._look_at_pins)

    def _pause(self, host_name: str) -> float:
        """How long to wait: as long as what was put right there lately has earned."""
        now = self._loop.time()
        self._pauses = {what: entry for what, entry in self._pauses.items() if entry[1] > now}
        earned = (pause for what, (pause, _) in self._pauses.items() if host_name in what)
        return max(earned, default=PAUSES[0])

    def _look(self, host_name: str) -> None:
        del self._timers[host_name]
        if not host_name:
            self._count(self._sync())
            return
        if "" in self._timers:
            return  # everything is looked at soon, and this with it
        try:
            repairs = self._reconciler.mend(host_name)
        except (WatcherError, OSError) as error:
            self._log.error("cannot be put right", link=host_name, reason=told(error))
            return
        tell_repairs(self._log, repairs)
        self._count(repairs)

    def _count(self, repairs: list[Repair]) -> None:
        """Wait longer before the next look if the same was put right only a moment ago."""
        now = self._loop.time()
        for what in {f"{repair.what}: {repair.why}" for repair in repairs}:
            before, until = self._pauses.get(what, (0.0, now))
            pause = min(before * 2, PAUSES[1]) if until > now else PAUSES[0]
            self._pauses[what] = (pause, now + _QUIET * pause)
            if pause >= 1:
                self._log.warning(
                    "something keeps undoing this", what=what, pause=pause,
                    remedy="find out what, e.g. with `nft monitor` and `ip monitor`",
                )  # fmt: skip
