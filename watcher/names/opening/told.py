"""Which rejected names are told, so that nobody floods the events with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

AGAIN: Final = 60.0
"""Seconds until the same name of the same sandbox is told again."""

OF_EACH: Final = 64
"""Names of one sandbox in as many seconds."""

AT_MOST: Final = 4096
"""Names of all sandboxes in as many seconds."""


class Told:
    """Remembers what was told."""

    def __init__(self) -> None:
        self._since = 0.0
        self._all = 0
        self._of: dict[Hashable, int] = {}
        self._last: dict[tuple[Hashable, bytes], float] = {}

    def take(self, asker: Hashable, name: bytes, now: float) -> bool:
        """Whether `name`, for which `asker` has asked, is to be told `now`; if so, it counts."""
        if now >= self._since + AGAIN:
            self._since, self._all = now, 0
            self._of.clear()
            self._last = {key: at for key, at in self._last.items() if now < at + AGAIN}
        own = self._of.get(asker, 0)
        if own >= OF_EACH or self._all >= AT_MOST:
            return False
        last = self._last.get((asker, name))
        if last is not None and now < last + AGAIN:
            return False
        self._last[asker, name] = now
        self._of[asker] = own + 1
        self._all += 1
        return True
