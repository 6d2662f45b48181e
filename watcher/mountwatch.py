"""Watching the mount table: a mount makes no event in the directory that it hides or uncovers.

The kernel tells of any change of this mount namespace's table by an exceptional condition on
`/proc/self/mountinfo` (proc_pid_mountinfo(5)). The file can always be read as well, so it is asked
for that condition alone, by an epoll of its own (epoll(7)).
"""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

QUIET: Final = 1.0
"""Seconds without another change until the pins are looked at: our own make changes, too."""


class MountWatch:
    """Tells which root became another directory, and when pins may have been unmounted.

    Args:
        loop: the event loop in whose thread it watches.
        roots: the paths of the roots.
        anew: called with a root that is another directory than before.
        changed: called when the table was changed, and then not for a while.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        roots: Iterable[str],
        *,
        anew: Callable[[str], object],
        changed: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._anew = anew
        self._changed = changed
        self._known = {root: _identity(root) for root in roots}
        self._timer: asyncio.TimerHandle | None = None
        self._table = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._table, select.EPOLLPRI)
        loop.add_reader(self._epoll.fileno(), self._tell)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()
        os.close(self._table)

    def settled(self, root: str) -> None:
        """What `root` is now is what is watched."""
        self._known[root] = _identity(root)

    def _tell(self) -> None:
        self._epoll.poll(0)
        for root, known in list(self._known.items()):
            if _identity(root) != known:
                self._known[root] = _identity(root)
                self._anew(root)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(QUIET, self._quiet)

    def _quiet(self) -> None:
        self._timer = None
        self._changed()


def _identity(path: str) -> tuple[int, int, int] | None:
    """What tells one mounted directory from another: device, inode and mount."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as info:  # noqa: PTH123
                mount = int(info.read().partition("mnt_id:")[2].split(maxsplit=1)[0])
            return status.st_dev, status.st_ino, mount
        finally:
            os.close(descriptor)
    return None
