"""Has the reaper delete doomed links after everything else of their sandbox was removed."""

from __future__ import annotations

from handlers.context import Context
from handlers.handler import Handler
from watcher.model.sandbox import Sandbox


class ReapingHandler(Handler):
    """Starts the reaper last: an unmount would wait in the kernel for the deletions."""

    def __init__(self, context: Context) -> None:
        self._reaper = context.reaper

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:  # noqa: ARG002
        """Have the reaper delete the doomed links, if any, in its own thread."""
        self._reaper.reap()
