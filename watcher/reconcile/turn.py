"""How reconcile takes the host-wide lock: a service waits only briefly for another writer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from watcher.locks.lock import Busy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from watcher.locks.lock import Lock

SERVED_PATIENCE: Final = 0.05
"""Seconds that the service's thread waits for another writer; most need milliseconds."""


class Turn:
    """Takes the host-wide lock, and remembers who refused it."""

    def __init__(self, lock: Lock) -> None:
        self._lock = lock
        self._on_busy: Callable[[], object] | None = None
        self._busy: Busy | None = None

    @property
    def waits(self) -> bool:
        """Whether it waits for other writers at length, so that Busy is an error."""
        return self._on_busy is None

    def serve(self, on_busy: Callable[[], object]) -> None:
        """Wait only briefly from now on; `on_busy` is called once when another has the lock."""
        self._on_busy = on_busy
        self._lock.wait_no_longer(SERVED_PATIENCE)

    def blocked(self) -> Busy | None:
        """Who has the lock, if anybody; tries to take it again."""
        self._busy = None
        try:
            with self._lock.locked():
                return None
        except Busy as busy:
            self._busy = busy
            return busy

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take the lock. After Busy, a service gets Busy at once until `blocked` finds it free.

        Raises:
            Busy: another process has it.
        """
        if self._busy is not None:
            raise self._busy
        try:
            with self._lock.locked():
                yield
        except Busy as busy:
            if self._on_busy is not None:
                self._busy = busy
                self._on_busy()
            raise
