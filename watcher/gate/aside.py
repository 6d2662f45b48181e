"""Calls that may never return, each in a thread that no other thread waits for."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    type _Call = tuple[Callable[[], object], str]

MOST: Final = 16
"""The most threads."""

HANGS_AFTER: Final = 1.0
"""Seconds after which a call counts as hanging."""


class Aside:
    """Runs each call in one of `most` threads, which start when they are needed.

    Args:
        keep: descriptors that the calls need. The threads have descriptor tables of their own, so
            that a hanging call keeps nothing else open when the process is killed.
        most: the most threads. Half of them at the most have calls for one and the same.
    """

    def __init__(self, keep: Collection[int], most: int = MOST) -> None:
        self._keep = keep
        self._most = most
        self._share = max(most // 2, 1)
        self._calls: deque[_Call] = deque()
        self._change = threading.Condition()
        self._threads = self._idle = 0
        self._under_way: dict[int, tuple[float, str]] = {}
        """By thread: the start of its call, and whom that is for."""

    def run(self, run: Callable[[], object], of: str = "") -> bool:
        """Run `run`, which must not raise, in a thread; false if all hang, or none can start.

        Args:
            run: the call.
            of: whom it is for, if calls for one may not take all threads.
        """
        call = run, of
        with self._change:
            if self._hang(self._most, self._under_way.values()) or self._hang(
                self._share, [one for one in self._under_way.values() if of and one[1] == of]
            ):
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
                self._under_way.pop(me, None)
                self._idle += 1
                call = self._change.wait_for(self._next)
                self._idle -= 1
                assert call is not None
                run, of = call
                self._calls.remove(call)
                self._under_way[me] = time.monotonic(), of
            run()

    def _next(self) -> _Call | None:
        """The first call of somebody who has not their share of threads already."""
        busy = Counter(of for _, of in self._under_way.values())
        return next((one for one in self._calls if not one[1] or busy[one[1]] < self._share), None)

    @staticmethod
    def _hang(count: int, under_way: Collection[tuple[float, str]]) -> bool:
        """Whether `count` calls are under way, and all hang."""
        late = time.monotonic() - HANGS_AFTER
        return len(under_way) >= count and all(at < late for at, _ in under_way)
