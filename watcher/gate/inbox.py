"""A queue of calls for another thread, which waits for a descriptor. Source: eventfd(2).

An event loop has the same (`call_soon_threadsafe`), but with a private socket pair. The gate's
thread has a descriptor table of its own, and must list each descriptor that it keeps.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress


class Inbox:
    """Calls for the thread that waits until :meth:`fileno` is readable and then calls :meth:`run`.

    Neither :meth:`put` nor :meth:`run` ever waits.
    """

    __slots__ = ("_calls", "_descriptor")

    def __init__(self) -> None:
        self._calls: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self._descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Its descriptor, readable while calls wait."""
        return self._descriptor

    @property
    def waiting(self) -> bool:
        """Whether a call waits."""
        return bool(self._calls)

    def put[*A](self, call: Callable[[*A], object], *args: *A) -> None:
        """Queue `call(*args)` for the other thread. From any thread that has the descriptor."""
        self._calls.append((call, args))
        os.eventfd_write(self._descriptor, 1)

    def run(self) -> None:
        """Run the queued calls in their order.

        If a call raises, the exception passes on; later calls stay queued, and the descriptor
        stays readable.

        Raises:
            BlockingIOError: no call waits.
        """
        os.eventfd_read(self._descriptor)
        self._run()

    def run_any(self) -> None:
        """Like :meth:`run`, but do nothing if no call waits."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._descriptor)
        self._run()

    def _run(self) -> None:
        try:
            for _ in range(len(self._calls)):
                call, args = self._calls.popleft()
                call(*args)
        finally:
            if self._calls:
                os.eventfd_write(self._descriptor, 1)

    def close(self) -> None:
        """Close the descriptor; :meth:`put` must not be called after that."""
        os.close(self._descriptor)
