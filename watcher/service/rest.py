"""What can wait until nobody waits: garbage, the journal of the store, what nftables reads.

All would happen in the midst of whatever allocates, commits or attaches next, which is mostly a
start that waits at the gate. So the first two happen after a while of idleness, and under constant
load right after work that nobody waits for. The last has to follow each change of the ruleset, and
happens a moment after the first of several.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, message_with_remedy
from watcher.service.collector import Collector
from watcher.store.errors import StoreDamaged

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.gate.gatekeeper import Gatekeeper
    from watcher.log.logger import Log
    from watcher.reconcile.reconciler import Reconciler

AFTER: Final = 2.0
"""Seconds of idleness until all of it is done."""

SOON: Final = 0.05
"""Seconds after work until nftables is read ahead, once for all work in them."""


class Rest:
    """Does after work what can wait. One thread, that of the loop, uses it.

    Args:
        loop: the event loop.
        reconciler: has the lease store.
        gate: must not borrow descriptors while the journal is moved.
        sync: called if the lease store is damaged; makes it anew.
        log: gets errors of the lease store.
        rested: called a moment after work, even if there is more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        gate: Gatekeeper,
        sync: Callable[[], object],
        log: Log,
        *,
        rested: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._gate = gate
        self._sync = sync
        self._log = log
        self._rested = rested
        self._collector = Collector()
        self._timer: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None
        self._moving = False
        self._worked = 0.0
        """The time of the last work, on the loop's clock."""

    def begin(self) -> None:
        """Collect garbage only here from now on."""
        self._collector.begin()

    def ready(self) -> None:
        """The service has made what it keeps."""
        self._collector.settle()

    def stop(self) -> None:
        """Let Python collect by itself again."""
        self._collector.stop()
        for timer in (self._timer, self._reading):
            if timer is not None:
                timer.cancel()

    def worked(self) -> None:
        """Do what is overdue, and the rest after a while of idleness. Call it after work."""
        self._worked = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._worked + AFTER, self._rest)
        if self._reading is None:
            self._reading = self._loop.call_later(SOON, self._read_ahead)
        self._collector.collect_due()
        if self._reconciler.journal_is_long:
            self._begin_checkpoint()

    def _read_ahead(self) -> None:
        self._reading = None
        self._gate.answer_first()  # what it changes would have to be read once more
        self._reconciler.read_ahead()

    def _rest(self) -> None:
        self._rested()
        idle_at = self._worked + AFTER
        if idle_at > self._loop.time():
            self._timer = self._loop.call_at(idle_at, self._rest)
            self._tidy(idle=False)
            return
        self._timer = None
        self._reconciler.rest()
        self._tidy(idle=True)
        self._begin_checkpoint()
        self._collector.collect_all()

    def _tidy(self, *, idle: bool) -> None:
        try:
            self._reconciler.tidy(idle=idle)
        except (WatcherError, OSError) as error:
            self._log.error("lists in the firewall", reason=message_with_remedy(error))

    def _begin_checkpoint(self) -> None:
        """Move the journal in a thread. The loop goes on, and with it the gate."""
        if self._moving:
            return
        self._gate.borrow(allowed=False)
        self._moving = self._reconciler.begin_checkpoint(self._ended)
        self._gate.borrow(allowed=not self._moving)

    def _ended(self) -> None:
        """Called by the thread of the checkpoint."""
        try:
            self._loop.call_soon_threadsafe(self._end_checkpoint)
        except RuntimeError:  # the loop is closed: the service ends
            return

    def _end_checkpoint(self) -> None:
        self._moving = False
        self._gate.answer_first()  # it may wait for the disk a little
        try:
            self._reconciler.end_checkpoint()
        except StoreDamaged:
            self._sync()  # which makes the store anew, and logs it
        except WatcherError as error:
            self._log.error("lease store", reason=message_with_remedy(error))
        finally:
            self._gate.borrow(allowed=True)
