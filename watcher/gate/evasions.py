"""Evasions: containers that started without being held, though their root was held by then."""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from watcher.containers import proc

if TYPE_CHECKING:
    from watcher.gate.hold import Hold
    from watcher.model.container import Process

_REMEMBERED: Final = 4096
"""Recently held containers to remember: each is looked up when it is first seen, a moment later."""

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_STARTING: Final = 0.1
"""Seconds by which an init must be younger than its root's mark; start times are in clock ticks."""


class Evasions:
    """Remembers which containers were held, and since when each root is."""

    def __init__(self) -> None:
        self._since: dict[str, float] = {}
        """When each root was marked, on CLOCK_BOOTTIME, the clock of process start times."""
        self._held: deque[tuple[str, str, Process]] = deque(maxlen=_REMEMBERED)

    def begin(self, root: str) -> None:
        """Expect every container of `root` that starts from now on to be held."""
        self._since[root] = time.clock_gettime(time.CLOCK_BOOTTIME)

    def end(self, root: str) -> None:
        """Expect it of `root` no more."""
        self._since.pop(root, None)

    def remember(self, hold: Hold) -> None:
        """Remember that this container was held. From any thread."""
        self._held.append((hold.root, hold.id, hold.init))

    def is_one(self, root: str, id_: str, init: Process) -> bool:
        """Whether a container was not held, though its root was when its init started.

        An init older than the mark may come from another service, or from a time without one.
        """
        since = self._since.get(root)
        if since is None or (root, id_, init) in self._held:
            return False
        return init.start > (since + _STARTING) * _TICKS and proc.netns_of(init.pid) not in (
            None,
            proc.own_netns(),
        )
