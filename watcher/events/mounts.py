"""Watches the mount table, since a mount causes no inotify event in the directory that it covers.

The kernel signals each change of this mount namespace's table by an exceptional condition on
`/proc/self/mountinfo` (proc_pid_mountinfo(5)). The file is always readable as well, so an epoll of
its own (epoll(7)) waits for that condition alone.
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

from handlers.kernel import mounts, rootpath

QUIET: Final = 1.0
"""Seconds without another change until the pins are looked at: our own pins cause changes too."""


class MountWatch:
    """Reports a root that became another directory, and pins that may have been unmounted.

    Attributes:
        alive: whether it still watches.

    Args:
        loop: the event loop in whose thread it watches.
        roots: the paths of the roots now.
        anew: called with a root whose path leads to another directory than before.
        changed: called when the table has changed, once it has not changed for a while.
        failed: called with the error that ended it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roots: Callable[[], Iterable[str]],
        *,
        anew: Callable[[str], object],
        changed: Callable[[], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._loop = loop
        self._anew = anew
        self._changed = changed
        self._failed = failed
        self.alive = True
        self._roots = roots
        self._known = {root: _identity(root) for root in roots()}
        self._timer: asyncio.TimerHandle | None = None
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._table, select.EPOLLPRI)
        loop.add_reader(self._epoll.fileno(), self._tell)

    def close(self) -> None:
        """Stop watching; a second call does nothing."""
        if not self.alive:
            return
        self.alive = False
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._table)

    def _tell(self) -> None:
        try:
            self._epoll.poll(0)
            known, self._known = self._known, {root: _identity(root) for root in self._roots()}
            for root, identity in self._known.items():
                if known.get(root, identity) != identity:
                    self._anew(root)
        except Exception as error:  # noqa: BLE001 (whatever it is, this has seen its last change)
            self.close()
            self._failed(error)
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIET, self._quiet)

    def _quiet(self) -> None:
        self._timer = None
        self._changed()


def _identity(path: str) -> tuple[int, int, int] | None:
    """The identity of a mounted directory: device, inode and mount."""
    with suppress(OSError), rootpath.opened(path) as directory:
        return *rootpath.identity(directory), mounts.mount_id(directory)
    return None
