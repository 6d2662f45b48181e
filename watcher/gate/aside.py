"""Calls that may never return, each in a thread that no other thread waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MOST: Final = 16
"""The most threads."""

HANGS_AFTER: Final = 1.0
"""Seconds after which a call counts as hanging."""


class Aside:
    """Runs each call in one of `most` threads, which start when they are needed.

    Args:
        keep: descriptors that the calls need. The threads have descriptor tables of their own, so
            that a hanging call keeps nothing else open when the process is killed.
        most: the most threads.
    """

    def __init__(self, keep: Collection[int], most: int = MOST) -> None:
        self._keep = keep
        self._most = most
        self._calls: deque[Callable[[], object]] = deque()
        self._change = threading.Condition()
        self._threads = self._idle = 0
        self._since: dict[int, float] = {}  # by thread: the start of its call

    def run(self, call: Callable[[], object]) -> bool:
        """Run `call`, which must not raise, in a thread; false if all hang, or none can start."""
        with self._change:
            late = time.monotonic() - HANGS_AFTER
            if len(self._since) == self._most and all(at < late for at in self._since.values()):
                return False
            self._calls.append(call)
            if self._idle >= len(self._calls) or self._threads == self._most:
                self._change.notify()
                return True
            self._threads += 1
            name = f"aside-{self._threads}"
        try:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        except RuntimeError:  # there are as many as may be (pthread_create(3), EAGAIN)
            with self._change:
                self._threads -= 1
                if call in self._calls:
                    self._calls.remove(call)
                    return False
        return True

    def _run(self) -> None:
        descriptors.have_own(self._keep)
        me = threading.get_ident()
        while True:
            with self._change:
                self._since.pop(me, None)
                self._idle += 1
                self._change.wait_for(lambda: self._calls)
                self._idle -= 1
                call = self._calls.popleft()
                self._since[me] = time.monotonic()
            call()
