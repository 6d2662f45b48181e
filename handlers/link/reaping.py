"""Has links deleted after their sandbox was taken back."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.context import Context
from handlers.handler import Handler
from watcher.model.sandbox import Member, Sandbox


class ReapingHandler(Handler):
    """Starts the reaper after everything else: an unmount would wait for it in the kernel."""

    def __init__(self, context: Context) -> None:
        self._reaper = context.reaper

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:  # noqa: ARG002
        """Have the reaper delete the links that were cut off, if any, in its own thread."""
        self._reaper.reap()
