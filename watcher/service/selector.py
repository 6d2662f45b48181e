"""The selector of the service's event loop, which shows the main thread whether the loop works."""

from __future__ import annotations

import selectors
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Selector(selectors.EpollSelector):
    """A selector that counts, and says when the loop goes to work.

    Attributes:
        rounds: how often the loop has gone to work.
        waits: whether the loop waits for something to happen.
        works: called in the loop's thread each time it goes to work.
    """

    def __init__(self, works: Callable[[], object]) -> None:
        super().__init__()
        self.rounds = 0
        self.waits = False
        self.works = works

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Called by the loop."""
        self.waits = True
        ready = super().select(timeout)
        self.waits = False
        self.rounds += 1
        self.works()
        return ready
