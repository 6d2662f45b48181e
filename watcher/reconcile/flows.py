"""Ending the flows of addresses and ports that were given back: beside the work, many at a time.

A pass over the kernel's table takes long and serves many, so a thread makes it, as soon as anything
is due, and one at the most every :data:`PAUSE`, or :data:`SHORT` where UDP ports are among it: five
hundred containers that end together cost a pass or two. Nobody at the gate waits for it. The lease
store knows which addresses have been given back and not been gone through yet; they are forgotten
behind the pass, so that whoever is killed in between leaves it to the next. An address that is to
be somebody's again before its pass, as that of a container which is started anew at once, gets one
of its own first.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from watcher.facts.kinds import Attached, Detached, Failed
from watcher.model.errors import WatcherError, told

if TYPE_CHECKING:
    from handlers.host import ConntrackHandler
    from watcher.facts.kinds import Fact
    from watcher.log.logger import Log
    from watcher.model.address import Address
    from watcher.model.sandbox import Sandbox
    from watcher.store.leases import LeaseStore

PAUSE: Final = 0.5
"""Seconds from the end of a pass to the next: what comes meanwhile is gone through together."""

SHORT: Final = 0.05
"""The same where a UDP port leads to somebody else by now."""

SHARE: Final = 10
"""How many times the processor time of a pass is waited for at the least: whoever fills the table
takes no more than a tenth of a processor so."""

AFTER_FAILURE: Final = 60.0
"""Seconds until what has failed is tried again."""


class Flows:
    """Has the flows of the dead ended. All of it but the passes is done in one thread.

    Args:
        store: knows the addresses that were given back.
        conntrack: ends flows.
        log: where it tells of what goes wrong.
    """

    def __init__(self, store: LeaseStore, conntrack: ConntrackHandler, log: Log) -> None:
        self._store = store
        self._conntrack = conntrack
        self._log = log
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = self._asked = self._urgent = False
        self._ended: set[Address] = set()

    def resume(self) -> None:
        """See to what a killed predecessor has left to be done.

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
        if self._conntrack.due:
            self._end_due()
        self._try_to_forget_ended()

    def heard(self, fact: Fact) -> None:
        """Have a pass made soon, if `fact` may have made one due; a subscriber of facts."""
        if isinstance(fact, Attached | Detached | Failed):
            self.soon()

    def soon(self) -> None:
        """Have a pass made if one is due; nobody waits for it."""
        self._try_to_forget_ended()
        if not self._conntrack.due:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="flows", daemon=True)
            self._thread.start()
        urgent = self._conntrack.urgent
        if not self._asked or (urgent and not self._urgent):  # else it need not be woken up
            with self._change:
                self._asked = True
                self._urgent |= urgent
                self._change.notify_all()

    def end_before(self, sandbox: Sandbox) -> None:
        """End now what may be left of those who had the addresses of a new `sandbox`.

        Raises:
            OSError: the kernel refused.
            WatcherError: the lease store cannot be read or written.
        """
        mine = self._store.stale_of(a.ip for i in sandbox.interfaces for a in i.addresses)
        if not mine:
            return
        with self._change:
            left = mine - self._ended
            self._ended -= mine
        if left:
            self._conntrack.end_of(left)
        self._store.forget_stale(mine)

    def _forget_ended(self) -> None:
        """Have the store forget the addresses that were gone through."""
        if not self._ended:
            return
        with self._change:
            ended, self._ended = self._ended, set()
        self._store.forget_stale(ended)

    def _try_to_forget_ended(self) -> None:
        """As `_forget_ended`; where that fails, a later one goes through them again."""
        try:
            self._forget_ended()
        except WatcherError as error:
            self._log.error("lease store", reason=told(error))

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
            begin = time.thread_time()
            if self._end_due():
                share = SHARE * (time.thread_time() - begin)
                least, most = max(SHORT, share), max(PAUSE, share)
            else:
                least = most = AFTER_FAILURE

    def _end_due(self) -> bool:
        """Make one pass; whether it could be made."""
        begin = time.monotonic()
        try:
            ended = self._conntrack.end_due()
        except OSError as error:
            self._log.error(
                "flows of containers that have ended cannot be ended", reason=told(error),
                remedy="see that conntrack is there: `watcher check`",
            )  # fmt: skip
            with self._change:
                self._asked = True
            return False
        with self._change:
            self._ended |= ended
        self._log.debug("ended flows", addresses=len(ended), seconds=time.monotonic() - begin)
        return True
