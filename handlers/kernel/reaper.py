"""Deleting links, many at a time, while the work goes on.

The kernel takes some twenty milliseconds to delete a link, nearly all of it spent waiting until
nobody can be looking at it any more (`netdev_run_todo` in `net/core/dev.c`); two hundred at a time
take hardly longer. So a link is first cut off, which takes no time: set down, off its bridge, and
into the group of the doomed. A thread then deletes that group. Who is killed in between leaves a
link that says of itself what is to become of it, and the next sync finishes.
"""

from __future__ import annotations

import errno
import threading

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError


class Reaper:
    """Deletes the links of the group :data:`handlers.kernel.rtnl.DOOMED`, in a thread of its own.

    It is made where the links are: in the host's network namespace.
    """

    def __init__(self) -> None:
        self._netlink = Netlink()
        self._change = threading.Condition()
        self._asked = self._done = 0
        self._doomed = False
        self._closing = False
        self._error: OSError | None = None
        self._was_lost = False
        self._thread = self._started()

    @property
    def alive(self) -> bool:
        """Whether its thread lives, and has not ended since :meth:`renew`."""
        return self._thread.is_alive() and not self._was_lost

    def renew(self) -> None:
        """Start the thread anew if it has ended; what it had to do is done."""
        self._revive()
        self._was_lost = False

    def doom(self, netlink: Netlink, index: int) -> None:
        """Cut off the link `index` for :meth:`reap`; `netlink` is a socket of the caller's."""
        self._doomed = True
        try:
            netlink.send([rtnl.doomed(index)])
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise

    def reap(self) -> None:
        """Have the thread delete the doomed links, if there are any."""
        if not self._doomed:
            return
        self._doomed = False
        with self._change:
            self._asked += 1
            self._change.notify_all()

    def wait(self) -> None:
        """Wait until all links are gone that were doomed before the last `reap`.

        Raises:
            OSError: the kernel refused; they are still there, and may be tried again.
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
        """Wait until what was doomed is gone, and end the thread."""
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
        """Whoever waits for what the thread does must not wait for one that has ended."""
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
            error = self._delete()
            with self._change:
                self._done = asked
                self._error = error or self._error
                self._change.notify_all()

    def _delete(self) -> OSError | None:
        try:
            self._netlink.send([rtnl.group_gone(rtnl.DOOMED)])
        except NetlinkError as error:
            if error.errno != errno.ENODEV:  # there is none
                return error
        return None
