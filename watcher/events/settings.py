"""Reports changes of a bridge's setting that netlink does not report.

That is `route_localnet`: `devinet_conf_proc` in `net/ipv4/devinet.c` sends no RTM_NEWNETCONF. A
write(2) to a file of `/proc/sys` is an event of inotify(7) like any other, if it goes through the
same mount of `/proc`. The watch is on the directory of one bridge under its name: a new bridge, or
a renamed one, has another directory.

Containers without a user namespace have their queues and watches of inotify from the same user as
the service, and may leave none. Then a change is only found by the next sync.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from msgspec import Struct

from handlers.kernel import sysctl
from watcher.events.inotify import WRITTEN, Inotify, Watch

_SETTING: Final = "route_localnet"


class _Watched(Struct, frozen=True):
    """A watched directory; the descriptor keeps the kernel from forgetting which one it was."""

    watch: Watch
    descriptor: int


class SettingsWatch:
    """Watches the settings of bridges, in the loop's thread.

    Args:
        loop: the event loop in whose thread it listens.
        changed: called with a bridge whose `route_localnet` somebody has turned off.
        lost: called if the kernel dropped events.
        failed: called with the error after which it reports nothing more.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[str], object],
        lost: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._watched: dict[str, _Watched] = {}
        self._failed = failed
        self._inotify: Inotify | None = None
        with suppress(OSError):
            self._inotify = Inotify(lost)
            loop.add_reader(self._inotify, self._read)

    def close(self) -> None:
        """Stop watching."""
        for bridge in list(self._watched):
            self.forget(bridge)
        if self._inotify is not None:
            self._loop.remove_reader(self._inotify)
            self._inotify.close()

    def watch(self, bridge: str) -> None:
        """Watch a bridge that has appeared, if possible; does nothing if it is watched."""
        if bridge in self._watched or self._inotify is None:
            return
        path = f"/proc/sys/net/ipv4/conf/{bridge}"

        def tell(_: int, name: str) -> None:
            if name == _SETTING and sysctl.get(f"ipv4/conf/{bridge}/{_SETTING}") == "0":
                self._changed(bridge)

        with suppress(FileNotFoundError):  # it has gone meanwhile
            descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                watch = self._inotify.add(f"/proc/self/fd/{descriptor}", WRITTEN, tell, follow=True)
            except OSError:
                os.close(descriptor)
                return
            self._watched[bridge] = _Watched(watch, descriptor)
            tell(0, _SETTING)  # it may have been turned off before

    def _read(self) -> None:
        assert self._inotify is not None
        try:
            self._inotify.read()
        except Exception as error:  # noqa: BLE001 (whatever it is, what else was heard is lost)
            self._failed(error)

    def forget(self, bridge: str) -> None:
        """Stop watching a bridge that has gone or has lost its name."""
        watched = self._watched.pop(bridge, None)
        if watched is not None and self._inotify is not None:
            self._inotify.remove(watched.watch)
            os.close(watched.descriptor)
