"""How reconcile takes the host-wide lock: a service waits only briefly for another writer.

The contexts are classes, because each attach and each look enters them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.locks.lock import Busy

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.locks.lock import Lock

SERVED_PATIENCE: Final = 0.05
"""Seconds that the service's thread waits for another writer; most need milliseconds."""


class Turn:
    """Takes the host-wide lock as a context, and remembers who refused it.

    After Busy, a service gets Busy at once until `blocked` finds the lock free.
    """

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

    def __enter__(self) -> None:
        if self._busy is not None:
            raise self._busy
        try:
            self._lock.acquire()
        except Busy as busy:
            if self._on_busy is not None:
                self._busy = busy
                self._on_busy()
            raise

    def __exit__(self, *_: object) -> None:
        self._lock.release()


class PreparedTurn:
    """A `turn` that begins with `prepare`; an error of that ends it."""

    def __init__(self, turn: Turn, prepare: Callable[[], object]) -> None:
        self._turn = turn
        self._prepare = prepare

    def __enter__(self) -> None:
        self._turn.__enter__()
        try:
            self._prepare()
        except BaseException:
            self._turn.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._turn.__exit__()
