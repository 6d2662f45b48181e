"""Notices at once that the events socket is served again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.events.inotify import CREATED, Inotify
from watcher.feed.names import EVENTS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class SocketWatch:
    """Calls `appeared` whenever the socket gets its name, which it does once it can be used.

    It may see nothing, where `run_dir` is missing or the user has no queue of inotify left: so
    somebody has to look now and then all the same.
    """

    def __init__(
        self, run_dir: str, loop: asyncio.AbstractEventLoop, appeared: Callable[[], object]
    ) -> None:
        self._run_dir = run_dir
        self._loop = loop
        self._appeared = appeared
        self._inotify: Inotify | None = None

    def begin(self) -> None:
        """Watch from now on."""
        if self._inotify is not None:
            return
        try:
            inotify = Inotify(self._appeared)
        except OSError:
            return
        try:
            inotify.add(self._run_dir, CREATED, self._changed, follow=True)
        except OSError:
            inotify.close()
            return
        self._inotify = inotify
        self._loop.add_reader(inotify.fileno(), inotify.read)

    def end(self) -> None:
        """Watch no more."""
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _changed(self, _: int, name: str) -> None:
        if name == EVENTS:
            self._appeared()
