"""Deletes links, many at a time, in the background, and does before what would wait for that.

The kernel takes some 20 ms to delete a link, and hardly longer for two hundred at a time: nearly
all of it is a wait until no other code can use the link (`netdev_run_todo` in `net/core/dev.c`). So
a link is first cut off, which takes no time: set down, taken off its bridge, and put into the group
DOOMED. A thread then deletes that group. If the process is killed in between, the group marks the
link for the next sync.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError


class Reaper:
    """Deletes the links of the group :data:`handlers.kernel.rtnl.DOOMED`, in its own thread.

    Make it in the host's network namespace, where the links are.
    """

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._change = threading.Condition()
        self._asked = self._done = 0
        self._doomed = False
        self._closing = False
        self._error: OSError | None = None
        self._was_lost = False
        self._first: Callable[[], object] = lambda: None
        self._thread = self._started()

    def precede(self, call: Callable[[], object]) -> None:
        """Have the thread call `call` each time before it deletes links."""
        self._first = call

    @property
    def alive(self) -> bool:
        """Whether its thread lives, and none was lost since :meth:`renew`."""
        return self._thread.is_alive() and not self._was_lost

    def renew(self) -> None:
        """Start the thread anew if it has ended; it first finishes what was requested."""
        self._revive()
        self._was_lost = False

    def doom(self, netlink: Netlink, index: int) -> None:
        """Cut off the link `index` for :meth:`reap`; `netlink` is the caller's socket."""
        self._doomed = True
        try:
            netlink.send([rtnl.doomed(index)])
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def stir(self) -> None:
        """Have the next :meth:`reap` wake the thread, even if no link is doomed."""
        self._doomed = True

    def reap(self) -> None:
        """Have the thread delete the doomed links, if any."""
        if not self._doomed:
            return
        self._doomed = False
        with self._change:
            self._asked += 1
            self._change.notify_all()

    def wait(self) -> None:
        """Wait until all links doomed before the last :meth:`reap` are deleted.

        Raises:
            OSError: the kernel refused; the links exist, and may be reaped again.
        """
        while True:
            with self._change:
                self._change.wait_for(lambda: self._done == self._asked or self._ended)
                if self._done == self._asked:
                    error, self._error = self._error, None
                    break
            self._revive()
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for the requested deletions, and end the thread."""
        with self._change:
            self._closing = True
            self._change.notify_all()
        self._thread.join()
        self._netlink.close()

    def _started(self) -> threading.Thread:
        self._ended = False
        thread = threading.Thread(target=self._run, name="reaper", daemon=True)
        thread.start()
        return thread

    def _revive(self) -> None:
        """Start the thread anew if it has ended, so that nothing waits for it in vain."""
        if self._ended:
            self._thread.join()
            self._was_lost = True
            self._thread = self._started()

    def _run(self) -> None:
        try:
            self._work()
        finally:
            with self._change:
                self._ended = True
                self._change.notify_all()

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._closing or self._done < self._asked)
                if self._done == self._asked:
                    return
                asked = self._asked
            self._first()
            error = self._delete()
            with self._change:
                self._done = asked
                self._error = error or self._error
                self._change.notify_all()

    def _delete(self) -> OSError | None:
        try:
            self._netlink.send([rtnl.group_gone(rtnl.DOOMED)])
        except NetlinkError as error:
            if error.errno != errno.ENODEV:  # the group is empty
                return error
        return None
