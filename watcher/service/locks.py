"""The service's locks: another process has one, or their files were removed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from watcher.locks.lock import Busy
from watcher.locks.names import PATIENCE
from watcher.model.errors import WatcherError, message_with_remedy
from watcher.service.mainthread import Stopped

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.events.roots import RootWatch
    from watcher.locks.lock import Lock
    from watcher.log.logger import Log
    from watcher.reconcile.reconciler import Reconciler

ASK_AGAIN: Final = (0.05, 0.2)
"""Seconds until the next try if another process has the lock: first and maximum."""


class Blockade:
    """Tries again for a lock that another process has, and logs that after a while.

    Args:
        loop: runs the attempts.
        reconciler: needs the lock.
        over: called when the lock is free again.
        log: names the holder.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        over: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._over = over
        self._log = log

    def begin(self) -> None:
        """Start; the lock was just refused."""
        self._ask_again(self._loop.time() + PATIENCE, ASK_AGAIN[0])

    def _ask_again(self, tell_at: float, pause: float) -> None:
        self._loop.call_later(pause, self._ask, tell_at, pause)

    def _ask(self, tell_at: float, pause: float) -> None:
        busy = self._reconciler.blocked()
        if busy is not None:
            if self._loop.time() >= tell_at:
                self._log.error(
                    "another process has the lock, and no network can change", why=busy.what,
                    remedy=busy.remedy,
                )  # fmt: skip
                tell_at = math.inf
            self._ask_again(tell_at, min(pause * 2, ASK_AGAIN[1]))
            return
        if tell_at == math.inf:
            self._log.warning("the lock is free again")
        self._over()


class LockFiles:
    """Checks that the lock files are still those that other processes find.

    Args:
        own: the lock of the host's service, which this process has.
        writers: the writers' lock.
        run_dir: the directory of both.
        watch: reports changes in it.
        lost: called with the reason if another service has the host by now.
        checked: called after each check while this service has the host, for other files there.
        log: reports locks that were made anew.
    """

    def __init__(
        self,
        own: Lock,
        writers: Lock,
        run_dir: str,
        watch: RootWatch,
        lost: Callable[[str], object],
        checked: Callable[[], object],
        log: Log,
    ) -> None:
        self._own = own
        self._writers = writers
        self._run_dir = run_dir
        self._watch = watch
        self._lost = lost
        self._checked = checked
        self._log = log

    def watch(self) -> None:
        """Check them at each change of their directory; `OSError` if it cannot be watched."""
        self._watch.watch_names(self._run_dir, lambda _: self.check())

    def check(self) -> None:
        """Make the locks anew if other processes would find other files in their place."""
        if self._has_host():
            self._checked()

    def _has_host(self) -> bool:
        """Whether this service has the host, and its locks are those that others find."""
        locks = (self._own, self._writers)
        if not any(lock.lost() for lock in locks):
            return True
        try:
            for lock in locks:
                if lock.lost():
                    lock.renew()
            self.watch()
            self._own.wait_and_take()  # a command may have it for an instant, to see if it is free
        except Busy as busy:
            self._lost(
                f"{self._run_dir} was removed, and another `watcher run` has this host by now:"
                f" {busy.who}"
            )
            return False
        except Stopped:  # by a signal
            return False
        except (WatcherError, OSError) as error:
            self._log.error("the locks cannot be made anew", reason=message_with_remedy(error))
            return False
        self._log.warning("made the locks anew, which were removed", run_dir=self._run_dir)
        return True
