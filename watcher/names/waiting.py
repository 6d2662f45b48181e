"""Questions from addresses that nobody has told of yet: they wait, for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.names.zone.views import Asker

    type Cancel = Callable[[], None]
    type Later = Callable[[float, Callable[[], None]], Cancel]
    """Calls something after so many seconds, unless it is cancelled."""

    type Where = tuple[str, str]
    """A network, and an address in it."""

PATIENCE: Final = 0.5
"""Seconds that a question waits.

A sandbox is told of within a few milliseconds, and later where three processes wait for their turn.
"""

AT_MOST: Final = 1024
"""Questions that wait at once."""

OF_ONE: Final = 8
"""Questions of one address that wait at once."""


class _Waiter:
    """A question that waits; `known` gets who asks, `unknown` is called when it was not told."""

    __slots__ = ("cancel", "known", "unknown")

    def __init__(self, known: Callable[[Asker], None], unknown: Callable[[], None]) -> None:
        self.known = known
        self.unknown = unknown
        self.cancel: Cancel = lambda: None


class Waiting:
    """Questions that wait until it is known who asks.

    Args:
        later: calls something after some seconds.

    Attributes:
        count: how many there are.
    """

    def __init__(self, later: Later) -> None:
        self.count = 0
        self._later = later
        self._waiters: dict[Where, list[_Waiter]] = {}

    def add(
        self, where: Where, known: Callable[[Asker], None], unknown: Callable[[], None]
    ) -> bool:
        """Let a question wait; returns whether there was room."""
        waiters = self._waiters.setdefault(where, [])
        if self.count >= AT_MOST or len(waiters) >= OF_ONE:
            if not waiters:
                del self._waiters[where]
            return False
        waiter = _Waiter(known, unknown)
        waiters.append(waiter)
        self.count += 1
        waiter.cancel = self._later(PATIENCE, lambda: self._give_up(where, waiter))
        return True

    def look(self, asker_at: Callable[[Where], Asker | None]) -> None:
        """Go on with those for whom `asker_at` knows by now who asks."""
        if not self._waiters:
            return
        for where in tuple(self._waiters):
            if asker := asker_at(where):
                for waiter in self._waiters.pop(where):
                    self.count -= 1
                    waiter.cancel()
                    waiter.known(asker)

    def _give_up(self, where: Where, waiter: _Waiter) -> None:
        waiters = self._waiters.get(where, [])
        if waiter not in waiters:
            return
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[where]
        self.count -= 1
        waiter.unknown()
