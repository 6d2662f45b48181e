"""How many questions servers are asked in a second, and for whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable

EACH: Final = 1000
"""Of one who asks, while all have asked less than twice as many."""
EACH_WHEN_BUSY: Final = 100


class Rate:
    """Counts questions to servers, second by second.

    Such a question costs as much as ten answers of ours. Whoever asks a server of their own, which
    answers at once, never has many under way, but would have the name service do nothing else.
    """

    def __init__(self) -> None:
        self._second = self._all = 0
        self._of: dict[Hashable, int] = {}

    def take(self, asker: Hashable, now: float) -> bool:
        """Whether servers may be asked once more for `asker`, `now`; if so, it is counted."""
        if int(now) != self._second:
            self._second, self._all = int(now), 0
            self._of.clear()
        own = self._of.get(asker, 0)
        if own >= (EACH_WHEN_BUSY if self._all >= 2 * EACH else EACH):
            return False
        self._of[asker] = own + 1
        self._all += 1
        return True
