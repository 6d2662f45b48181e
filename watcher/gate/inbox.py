"""Calls that one thread leaves for another, which waits for a descriptor. Source: eventfd(2).

An event loop has the same (`call_soon_threadsafe`), but by a socket pair of its own that nobody
else can name. The gate's thread has a descriptor table of its own, and has to name what it keeps.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable


class Inbox:
    """Calls for the thread that waits until :meth:`fileno` is readable, and then has them run.

    Neither :meth:`put` nor :meth:`run` ever waits.
    """

    __slots__ = ("_calls", "_descriptor")

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Its descriptor, readable while calls wait."""
        return self._descriptor

    def put[*A](self, call: Callable[[*A], object], *args: *A) -> None:
        """Leave `call(*args)` for the other thread. From any thread that has the descriptor."""
        self._calls.append((call, args))
        os.eventfd_write(self._descriptor, 1)

    def run(self) -> None:
        """Run what was left until now, in its order.

        What a call raises is raised; those behind it stay, and the descriptor readable.
        """
        os.eventfd_read(self._descriptor)
        try:
            for _ in range(len(self._calls)):
                call, args = self._calls.popleft()
                call(*args)
        finally:
            if self._calls:
                os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Close the descriptor; nobody may :meth:`put` any more."""
        os.close(self._descriptor)
