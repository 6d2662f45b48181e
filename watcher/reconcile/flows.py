"""Ends connections (flows), many at a time.

They are those of released addresses and ports, and those that began while rules were missing.

A pass through the kernel's table takes long and serves many. So a thread makes one as soon as
anything is due, but at most one per :data:`PAUSE`, or per :data:`SHORT` if clients wait for it:
five hundred containers that end together cost one or two passes. No held runc waits for a pass. The
lease store keeps a released address as stale until a pass has ended its flows, so a kill in between
loses nothing. If a new sandbox needs such an address earlier, as when a container restarts at once,
the address gets a pass of its own first.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from watcher.facts.kinds import Attached, Detached, Failed
from watcher.model.errors import WatcherError, message_with_remedy

if TYPE_CHECKING:
    from collections.abc import Callable

    from handlers.host import ConntrackHandler
    from watcher.facts.kinds import Fact
    from watcher.log.logger import Log
    from watcher.model.address import Address
    from watcher.model.sandbox import Sandbox
    from watcher.store.leases import LeaseStore

PAUSE: Final = 2.0
"""Seconds from the end of one pass to the next, which serves everything due in between.

A pass takes some 12 ms of a processor, whatever is due: the kernel walks all of its hash table.
"""

SHORT: Final = 0.05
"""The same, if a UDP port is another sandbox's by now, or rules were missing."""

SHARE: Final = 10
"""The least pause after a pass, as a multiple of its processor time: a full table costs at most a
tenth of a processor."""

REST: Final = 10
"""The same after a stretch of a pass, some 0.1 ms, so that a full table delays no held runc."""

AFTER_FAILURE: Final = 60.0
"""Seconds until a failed pass is tried again."""


class Flows:
    """Ends the flows of removed sandboxes. One thread does everything except the passes.

    Args:
        store: has the stale addresses.
        conntrack: ends flows.
        log: gets the failures.
    """

    def __init__(self, store: LeaseStore, conntrack: ConntrackHandler, log: Log) -> None:
        self._store = store
        self._conntrack = conntrack
        self._log = log
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = self._asked = self._urgent = False
        self._ended: set[Address] = set()
        self._rested = 0.0
        """The thread's processor time at the end of its last rest."""

    def resume(self) -> None:
        """Continue the work of a killed process.

        Raises:
            WatcherError: the lease store cannot be read.
        """
        self._conntrack.give_back(self._store.stale())

    def close(self) -> None:
        """Make the pass that is due, and end the thread."""
        if self._thread is not None:
            with self._change:
                self._closing = True
                self._change.notify_all()
            self._thread.join()
        while self._conntrack.due and self._end_due():
            if self._conntrack.urgent:
                time.sleep(SHORT)
        self._try_to_forget_ended()

    def heard(self, fact: Fact) -> None:
        """Request a pass if `fact` may have made one due; a subscriber of facts."""
        if isinstance(fact, Attached | Detached | Failed):
            self.soon()

    def soon(self) -> None:
        """Request a pass if one is due, without waiting for it."""
        self._try_to_forget_ended()
        if not self._conntrack.due:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="flows", daemon=True)
            self._thread.start()
        urgent = self._conntrack.urgent
        if not self._asked or (urgent and not self._urgent):  # otherwise it is awake already
            with self._change:
                self._asked = True
                self._urgent |= urgent
                self._change.notify_all()

    def end_before(self, sandbox: Sandbox) -> None:
        """End the flows that former holders of a new `sandbox`'s addresses may have left.

        Raises:
            OSError: the kernel refused.
            WatcherError: the lease store cannot be read or written.
        """
        mine = self._store.stale_of(sandbox.key)
        if not mine:
            return
        with self._change:
            left = mine - self._ended
            self._ended -= mine
        if left:
            self._conntrack.end_of(left)
        self._store.forget_stale(mine)

    def _forget_ended(self) -> None:
        """Let the store forget the addresses whose flows have ended."""
        if not self._ended:
            return
        with self._change:
            ended, self._ended = self._ended, set()
        self._store.forget_stale(ended)

    def _try_to_forget_ended(self) -> None:
        """Like `_forget_ended`; if it fails, a later pass includes these addresses again."""
        try:
            self._forget_ended()
        except WatcherError as error:
            self._log.error("lease store", reason=message_with_remedy(error))

    def _run(self) -> None:
        least = most = 0.0
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing, least)
                self._change.wait_for(lambda: self._closing or self._urgent, most - least)
                self._change.wait_for(lambda: self._closing or self._asked)
                self._asked = self._urgent = False
                if self._closing:
                    return
            begin = self._rested = time.thread_time()
            if self._end_due(self._rest):
                share = SHARE * (time.thread_time() - begin)
                least, most = max(SHORT, share), max(PAUSE, share)
            else:
                least = most = AFTER_FAILURE

    def _rest(self) -> None:
        """Let other threads run for a while, in the midst of a pass."""
        with self._change:
            used = time.thread_time() - self._rested
            self._change.wait_for(lambda: self._closing, REST * used)
        self._rested = time.thread_time()

    def _end_due(self, rest: Callable[[], object] = lambda: None) -> bool:
        """Make one pass; false if it failed."""
        begin = time.monotonic()
        try:
            ended = self._conntrack.end_due(rest)
        except OSError as error:
            self._log.error(
                "flows of containers that have ended cannot be ended",
                reason=message_with_remedy(error),
                remedy="see that conntrack is there: `watcher check`",
            )  # fmt: skip
            with self._change:
                self._asked = True
            return False
        with self._change:
            self._ended |= ended
            self._asked |= self._conntrack.due
            self._urgent |= self._conntrack.urgent
        self._log.debug("ended flows", addresses=len(ended), seconds=time.monotonic() - begin)
        return True
