"""Calls that may never return, each in a thread that no other thread waits for."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

MOST: Final = 16
"""The most threads."""

HANGS_AFTER: Final = 1.0
"""Seconds after which a call counts as hanging, unless it says itself when."""


@dataclass(slots=True, eq=False)
class _Call:
    """A call, whom it is for, and from when on it counts as hanging."""

    run: Callable[[], object]
    of: str
    hangs_from: float


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
        self._lock = threading.Lock()
        self._waiting: deque[_Call] = deque()
        self._under_way: set[_Call] = set()
        self._given: SimpleQueue[_Call] = SimpleQueue()
        """Those under way that no thread has taken yet; each idle thread waits for one."""
        self._threads = self._idle = 0

    def run(self, run: Callable[[], object], of: str = "", until: float = 0.0) -> bool:
        """Run `run`, which must not raise, in a thread; false if all hang, or none can start.

        Args:
            run: the call.
            of: whom it is for, if calls for one may not take all threads.
            until: when somebody else gives it up, on the clock of `time.monotonic`. It is only
                slow so long, such as one that waits for another thread.
        """
        call = _Call(run, of, until)
        with self._lock:
            if self._hang(of):
                return False
            if not self._may_begin(call) or (self._threads == self._most and not self._idle):
                self._waiting.append(call)
                return True
            self._begin(call)
            if self._idle:
                self._idle -= 1
                self._given.put(call)
                return True
            self._threads += 1
            name = f"aside-{self._threads}"
        try:
            threading.Thread(target=self._run, args=(call,), name=name, daemon=True).start()
        except RuntimeError:  # there are as many as may be (pthread_create(3), EAGAIN)
            with self._lock:
                self._threads -= 1
                self._under_way.discard(call)
            return False
        return True

    def _run(self, call: _Call) -> None:
        descriptors.have_own(self._keep)
        while True:
            call.run()
            call = self._next(call) or self._given.get()

    def _next(self, ended: _Call) -> _Call | None:
        """The first that waits and may begin; `None`: the calling thread is idle."""
        with self._lock:
            self._under_way.discard(ended)
            for call in self._waiting:
                if self._may_begin(call):
                    self._waiting.remove(call)
                    self._begin(call)
                    return call
            self._idle += 1
            return None

    def _begin(self, call: _Call) -> None:
        call.hangs_from = call.hangs_from or time.monotonic() + HANGS_AFTER
        self._under_way.add(call)

    def _may_begin(self, call: _Call) -> bool:
        """Whether it is for somebody who has not their share of threads already."""
        if not call.of or len(self._under_way) < self._share:
            return True
        return sum([one.of == call.of for one in self._under_way]) < self._share

    def _hang(self, of: str) -> bool:
        """Whether all threads hang, or all that calls for `of` may take."""
        if len(self._under_way) < self._share:
            return False
        now = time.monotonic()
        hanging = [call for call in self._under_way if call.hangs_from < now]
        if len(hanging) >= self._most:
            return True
        return bool(of) and sum([call.of == of for call in hanging]) >= self._share
