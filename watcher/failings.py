"""What went wrong with which container: told once in the log, and kept for `ls` and a retry."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from watcher.errors import InvalidRequest, WatcherError, quoted, told
from watcher.leases import Failure

if TYPE_CHECKING:
    from watcher.leases import LeaseStore
    from watcher.log import Log
    from watcher.model import Process


class Failings:
    """The failures of containers.

    Args:
        store: where they are kept; while it cannot be written, they are kept here.
        log: where each is told, once.
    """

    def __init__(self, store: LeaseStore, log: Log) -> None:
        self._store = store
        self._log = log
        self._unsaved: dict[tuple[str, str], Failure] = {}

    def note(
        self, root: str, id_: str, init: Process | None, error: Exception, *, refused: bool = False
    ) -> None:
        """Keep and log why a container has no network; `refused`: its start was denied."""
        reason = _reason(id_, error)
        known = any(
            (f.root, f.id, f.init, f.reason) == (root, id_, init, reason) for f in self.all()
        )
        if known and not refused:
            return  # told already; it is tried again and again
        self._log.error("refused" if refused else "failed", container=id_, root=root, reason=reason)
        key, value = (error.key, error.value) if isinstance(error, InvalidRequest) else ("", "")
        failure = Failure(root, id_, init, key, value, reason, refused, time.time())
        try:
            self._store.fail(failure)
        except WatcherError:  # the store itself may be what went wrong
            self._unsaved[root, id_] = failure

    def forget(self, root: str, id_: str, *, refused: bool) -> None:
        """Forget what went wrong with a container; what was `refused`, only if that is true.

        Raises:
            WatcherError: the store cannot be written.
        """
        self._unsaved.pop((root, id_), None)
        self._store.forget_failure(root, id_, refused=refused)

    def all(self) -> list[Failure]:
        """Every failure that is kept.

        Raises:
            WatcherError: the store cannot be read.
        """
        return [*self._store.failures(), *self._unsaved.values()]

    def living(self) -> list[Failure]:
        """The failures of containers that may live, and may be looked at again."""
        return [failure for failure in self.all() if failure.id and not failure.refused]


def _reason(id_: str, error: Exception) -> str:
    if isinstance(error, WatcherError):
        return str(error)
    return f"container {quoted(id_)}: {told(error)}"
