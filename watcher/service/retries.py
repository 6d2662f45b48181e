"""Looks at failed containers again, after growing pauses, as long as there are any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, message_with_remedy

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from watcher.log.logger import Log
    from watcher.reconcile.reconciler import Reconciler

RETRY_AFTER: Final = (1.0, 60.0)
"""Seconds until the next attempt at a failed container: first and maximum."""

RETRY_BATCH: Final = 0.005
"""Seconds of retries before other work gets its turn."""


class Later:
    """Calls `call` once after a while, however often that was planned meanwhile.

    If each of many failures planned a repetition of its own, which fails as well, these would add
    up for ever. The pauses grow until :meth:`done`; `pauses` are the first and the maximum.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], object],
        pauses: tuple[float, float] = RETRY_AFTER,
    ) -> None:
        self._loop = loop
        self._call = call
        self._pauses = pauses
        self._timer: asyncio.TimerHandle | None = None
        self._pause = pauses[0]

    @property
    def planned(self) -> bool:
        """Whether it is to be called."""
        return self._timer is not None

    def plan(self) -> None:
        """Call it after a pause, unless that is planned."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause, self._due)
            self._pause = min(self._pause * 2, self._pauses[1])

    def done(self) -> None:
        """What was to be done is done: the pauses are short again, and nothing is planned."""
        self._pause = self._pauses[0]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._timer = None
        self._call()


class Retries:
    """Looks at failed containers again.

    Args:
        loop: runs the attempts.
        reconciler: knows which containers failed.
        look: looks at one of them, by root and id.
        sync: repairs everything after the lease store could not be read.
        log: where an error of the lease store goes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        reconciler: Reconciler,
        look: Callable[[str, str], object],
        sync: Callable[[], object],
        log: Log,
    ) -> None:
        self._loop = loop
        self._reconciler = reconciler
        self._look = look
        self._sync = sync
        self._log = log
        self._pause = RETRY_AFTER[0]
        self._timer: asyncio.TimerHandle | None = None
        self._left: list[tuple[str, str]] = []

    def plan(self) -> None:
        """Plan the next attempt, if any container failed and none is planned."""
        try:
            if self._timer is None and self._reconciler.present.any_failed():
                self._timer = self._loop.call_later(self._pause, self._retry)
        except WatcherError as error:
            self._store_fails(error)

    def soon(self) -> None:
        """Make the pauses short again: a failed container may have waited for what has vanished."""
        self._pause = RETRY_AFTER[0]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _retry(self) -> None:
        self._timer = None
        self._pause = min(self._pause * 2, RETRY_AFTER[1])
        try:
            self._left = self._reconciler.present.failed()
        except WatcherError as error:
            self._store_fails(error)
            return
        self._retry_some()

    def _retry_some(self) -> None:
        """Retry a few, and let other work run in between."""
        self._timer = None
        began = self._loop.time()
        while self._left and self._loop.time() - began < RETRY_BATCH:
            self._look(*self._left.pop())
        if self._left:
            self._timer = self._loop.call_later(0, self._retry_some)
        else:
            self.plan()

    def _store_fails(self, error: WatcherError) -> None:
        """Log an error of the store, and sync after a while."""
        self._log.error("lease store", reason=message_with_remedy(error))
        if self._timer is None:
            self._timer = self._loop.call_later(RETRY_AFTER[1], self._sync_again)

    def _sync_again(self) -> None:
        self._timer = None
        self._sync()
