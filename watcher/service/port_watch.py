"""Has reconcile look now and then whether a process of the host took a published port.

There is no event for that. The looks begin when something is published, and end when nothing is, so
an idle service that publishes nothing is not woken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, message_with_remedy

if TYPE_CHECKING:
    import asyncio

    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.log.logger import Log
    from watcher.reconcile.taken_watch import TakenPorts

EVERY: Final = 30.0
"""Seconds between two looks. What two looks have to agree on is told within a minute."""

_SHARE: Final = 1000
"""The pause after a look is at least this many times as long as the look."""


class PortWatch:
    """Looks every :data:`EVERY` seconds while any port is published.

    Args:
        loop: the event loop in whose thread reconcile is used.
        taken: does the looking.
        gate: answers first.
        log: gets errors, once until a look succeeds.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, taken: TakenPorts, gate: Gatekeeper, log: Log
    ) -> None:
        self._loop = loop
        self._taken = taken
        self._gate = gate
        self._log = log
        self._timer: asyncio.TimerHandle | None = None
        self._problem = ""
        """Why the last look did not see everything, if it did not."""

    def begin(self) -> None:
        """Look after a while if any port is published. Call it some time after work."""
        if self._timer is None and self._any():
            self._timer = self._loop.call_later(EVERY, self.look)

    def _any(self) -> bool:
        try:
            return self._taken.any()
        except WatcherError:  # the look tells
            return True

    def look(self) -> None:
        """Look now, and from now on regularly if any port is published."""
        self.stop()
        self._gate.answer_first()
        began, published, problem = self._loop.time(), True, ""
        try:
            published = self._taken.look()
            if published and not self._taken.complete:
                problem = "there are too many sockets to look at all; see `watcher check`"
        except (WatcherError, OSError) as error:
            problem = message_with_remedy(error)
        if problem and problem != self._problem:
            self._log.error("cannot tell whether published ports are taken", reason=problem)
        self._problem = problem
        if published:
            now = self._loop.time()
            self._timer = self._loop.call_at(now + max(EVERY, _SHARE * (now - began)), self.look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
