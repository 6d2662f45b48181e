"""Has the links deleted that were cut off as sandboxes left, behind all else."""

from __future__ import annotations

from collections.abc import Sequence

from handlers.context import Context
from handlers.handler import Handler
from watcher.model.sandbox import Member, Sandbox


class ReapingHandler(Handler):
    """Starts the deletion: whoever unmounts meanwhile would wait for it in the kernel."""

    def __init__(self, context: Context) -> None:
        self._reaper = context.reaper

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:  # noqa: ARG002
        """Have the links deleted that were cut off, if any, while the work goes on."""
        self._reaper.reap()
