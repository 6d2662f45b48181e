"""The parts of the service that have to live: threads, and what reads the kernel's news.

One that ends is an error in the log and is started anew, and what it may have missed is looked for.
As long as one of them cannot be started, the service is not well, and its manager is to know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, told

if TYPE_CHECKING:
    from watcher.log.logger import Log

PAUSES: Final = (1.0, 60.0)
"""Seconds until the same part is started again: at first, and at the most while it cannot be."""


@dataclass(slots=True)
class _Part:
    lives: Callable[[], bool]
    renew: Callable[[], object]
    until: float = float("-inf")
    """When it may be started again, on the loop's clock."""
    pause: float = PAUSES[0]


class Supervisor:
    """Sees that parts live, in the loop's thread.

    Args:
        loop: the event loop.
        lost: called when something may have been missed.
        log: where ends are told.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lost: Callable[[], object], log: Log
    ) -> None:
        self._loop = loop
        self._lost = lost
        self._log = log
        self._parts: dict[str, _Part] = {}

    def add(self, name: str, lives: Callable[[], bool], renew: Callable[[], object]) -> None:
        """See to the part `name` from now on.

        Args:
            name: what it is called in the log.
            lives: whether it does.
            renew: starts it anew; raises `WatcherError` or `OSError` if it cannot.
        """
        self._parts[name] = _Part(lives, renew)

    def ended(self, name: str, error: BaseException | None = None) -> None:
        """The part `name` has ended by `error`: start it anew, unless it was only just now."""
        if name not in self._parts:
            return  # the service is not up yet, or is going down
        part, now = self._parts[name], self._loop.time()
        if now < part.until:
            return  # a later check does it
        reason = told(error) if isinstance(error, (OSError, WatcherError)) else repr(error or "")
        self._log.error("a part has ended, and is started anew", part=name, reason=reason)
        try:
            part.renew()
        except (OSError, WatcherError) as again:
            self._log.error("a part cannot be started", part=name, reason=told(again))
            part.until, part.pause = now + part.pause, min(part.pause * 2, PAUSES[1])
            return
        part.until, part.pause = now + PAUSES[0], PAUSES[0]
        self._lost()

    def check(self) -> bool:
        """Start anew what has ended; whether all parts live."""
        for name, part in self._parts.items():
            if not part.lives():
                self.ended(name)
        return all(part.lives() for part in self._parts.values())

    def clear(self) -> None:
        """See to nothing any more."""
        self._parts.clear()
