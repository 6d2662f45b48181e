"""Logs uncaught exceptions, each cause once and in one line."""

from __future__ import annotations

from traceback import extract_tb
from typing import TYPE_CHECKING, Any, Final

from watcher.model.errors import WatcherError, message_with_remedy, shortened

if TYPE_CHECKING:
    import asyncio

    from watcher.log.logger import Log

_MOST: Final = 1000
"""The most causes to remember."""


class Unhandled:
    """Handles exceptions that callbacks of the event loop raised."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._told: set[tuple[str, str]] = set()

    def __call__(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Called by asyncio (`loop.set_exception_handler`)."""
        error = context.get("exception")
        if isinstance(error, WatcherError | OSError):
            reason = message_with_remedy(error)
        elif error is not None:
            reason = f"{type(error).__name__}: {shortened(error)}; please report it"
        else:
            reason = shortened(context.get("message", ""))
        frames = [] if error is None else extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        cause = reason, where
        if cause in self._told:
            return
        if len(self._told) < _MOST:
            self._told.add(cause)
        self._log.error("unexpected error", reason=reason, where=where)
