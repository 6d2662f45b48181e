"""Removes pins in the reaper's thread, so that nothing else waits for an unmount.

An unmount waits until no other code can use the mount (`namespace_unlock` in `fs/namespace.c`):
mostly 1 ms, and longer while links are deleted. So the reaper unmounts first, and then deletes
links. If the process is killed in between, the file below a pin shows the next sync whose it is
(:mod:`handlers.pin`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from handlers.kernel.reaper import Reaper


class Unpinning:
    """The pins that are to be removed, each with the inode number of its namespace.

    Only the thread of :meth:`begin` and :meth:`finish` makes pins; the reaper's only removes them.

    Args:
        reaper: removes them before the next links.
        remove: removes a name, if it still leads to that namespace.
    """

    def __init__(self, reaper: Reaper, remove: Callable[[str, int], object]) -> None:
        self._reaper = reaper
        self._remove = remove
        self._change = threading.Condition()
        self._due: dict[str, int] = {}
        self._now = ""
        """The name that the reaper's thread removes just now."""
        reaper.precede(self._work)

    def begin(self, name: str, netns: int) -> None:
        """Have `name` removed at the reaper's next turn."""
        with self._change:
            self._due[name] = netns
        self._reaper.stir()

    def finish(self, name: str) -> None:
        """Have `name` removed by now, if it is due: it is to lead elsewhere.

        Raises:
            OSError: the kernel refused.
        """
        # What the reaper begins to remove is `_now` before it is no longer `_due`.
        if name not in self._due and self._now != name:
            return
        with self._change:
            while self._now == name:
                self._change.wait()
            netns = self._due.pop(name, None)
        if netns is not None:
            self._remove(name, netns)

    def finish_all(self) -> None:
        """Have all names removed by now that are due.

        Raises:
            OSError: the kernel refused.
        """
        for name in list(self._due):
            self.finish(name)
        with self._change:
            self._change.wait_for(lambda: not self._now)

    def _work(self) -> None:
        """Remove all names that are due; in the reaper's thread."""
        while True:
            with self._change:
                if not self._due:
                    return
                self._now = next(iter(self._due))
                netns = self._due.pop(self._now)
            try:
                self._remove(self._now, netns)
            except OSError:
                pass  # it stays; a sync finds it, and says why it cannot be removed
            finally:
                with self._change:
                    self._now = ""
                    self._change.notify_all()
