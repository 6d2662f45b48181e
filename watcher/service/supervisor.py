"""Supervises the parts of the service: threads and readers of kernel events.

The supervisor logs the end of a part as an error, starts the part again, and causes a sync for what
it may have missed. While a part cannot be started, the service does not feed the watchdog.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from watcher.model.errors import WatcherError, message_with_remedy

if TYPE_CHECKING:
    from watcher.log.logger import Log

PAUSES: Final = (1.0, 60.0)
"""Seconds until a part is started again: first, and the maximum while starts fail."""


@dataclass(slots=True)
class _Part:
    lives: Callable[[], bool]
    renew: Callable[[], object]
    until: float = float("-inf")
    """The earliest time of the next start, on the loop's clock."""
    pause: float = PAUSES[0]


class Supervisor:
    """Keeps parts alive, in the loop's thread.

    Args:
        loop: the event loop.
        lost: called when events may have been missed.
        log: names parts that have ended.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, lost: Callable[[], object], log: Log
    ) -> None:
        self._loop = loop
        self._lost = lost
        self._log = log
        self._parts: dict[str, _Part] = {}

    def add(self, name: str, lives: Callable[[], bool], renew: Callable[[], object]) -> None:
        """Supervise the part `name` from now on.

        Args:
            name: its name in the log.
            lives: says whether it is alive.
            renew: starts it again; raises `WatcherError` or `OSError` if that fails.
        """
        self._parts[name] = _Part(lives, renew)

    def ended(self, name: str, error: BaseException | None = None) -> None:
        """Start the part `name` again, which `error` has ended, unless that was tried just now."""
        if name not in self._parts:
            return  # the service is starting or stopping
        part, now = self._parts[name], self._loop.time()
        if now < part.until:
            return  # a later check starts it
        reason = (
            message_with_remedy(error)
            if isinstance(error, (OSError, WatcherError))
            else repr(error or "")
        )
        self._log.error("a part has ended, and is started anew", part=name, reason=reason)
        try:
            part.renew()
        except (OSError, WatcherError) as again:
            self._log.error(
                "a part cannot be started", part=name, reason=message_with_remedy(again)
            )
            part.until, part.pause = now + part.pause, min(part.pause * 2, PAUSES[1])
            return
        part.until, part.pause = now + PAUSES[0], PAUSES[0]
        self._lost()

    def check(self) -> bool:
        """Start every ended part again; returns whether all parts are alive."""
        for name, part in self._parts.items():
            if not part.lives():
                self.ended(name)
        return all(part.lives() for part in self._parts.values())

    def clear(self) -> None:
        """Stop supervising."""
        self._parts.clear()
