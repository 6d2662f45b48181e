"""Notices at once that a socket is served again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.events.inotify import CREATED, Inotify

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class SocketWatch:
    """Calls `appeared` whenever the socket gets its name, which it does once it can be used.

    It may see nothing, where `directory` is missing or the user has no queue of inotify left: so
    somebody has to look now and then all the same.

    Args:
        directory, name: where the socket is.
        loop: in whose thread `appeared` is called.
        appeared: see above.
    """

    def __init__(
        self,
        directory: str,
        name: str,
        loop: asyncio.AbstractEventLoop,
        appeared: Callable[[], object],
    ) -> None:
        self._directory = directory
        self._name = name
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
            inotify.add(self._directory, CREATED, self._changed, follow=True)
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
        if name == self._name:
            self._appeared()
