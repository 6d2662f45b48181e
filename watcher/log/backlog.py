"""Lines on their way to stderr, whether or not anybody reads there.

A pipe that nobody empties and a journal that stalls hold up who writes to them, for ever. Here that
is a thread of its own; whoever puts a line never waits. What does not fit any more is dropped and
counted, and the count is told as soon as there is room again.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 1 << 20
"""Bytes that wait at the most."""

_AT_ONCE: Final = 1 << 12
"""Bytes of one write(2): what a pipe takes whole or not at all (PIPE_BUF, pipe(7))."""


class Backlog:
    """Lines that a thread writes to a descriptor, in their order.

    Args:
        descriptor: where to write to.
        limit: bytes that wait at the most.
    """

    def __init__(self, descriptor: int, *, limit: int = LIMIT) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes, those that are just written as well
        self._dropped = 0
        self._tell: Callable[[int], object] | None = None
        self._change = threading.Condition()
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def tell_dropped(self, tell: Callable[[int], object]) -> None:
        """Have `tell` log, by :meth:`put`, how many lines were dropped. From any thread."""
        self._tell = tell

    def put(self, line: str) -> None:
        """Leave a line, without its end, to be written. From any thread; it never waits."""
        content = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._change:
            fits = self._waiting + len(content) <= self._limit
            dropped = self._dropped if fits else 0
            self._dropped -= dropped
            if not fits:
                self._dropped += 1
        if dropped and self._tell is not None:
            self._tell(dropped)  # where they would have been
        if fits:
            with self._change:
                self._lines.append(content)
                self._waiting += len(content)
                self._change.notify()

    def drain(self, seconds: float) -> bool:
        """Wait until all is written, and no longer than `seconds`; whether it is."""
        end = time.monotonic() + seconds
        while True:
            with self._change:
                if not self._change.wait_for(
                    lambda: not self._waiting, max(0.0, end - time.monotonic())
                ):
                    return False
                dropped, self._dropped = self._dropped, 0
            if not dropped or self._tell is None:
                return True
            self._tell(dropped)

    def _run(self) -> None:
        descriptors.have_own([self._descriptor])
        while True:
            with self._change:
                self._change.wait_for(lambda: self._lines)
                content = self._lines.popleft()
                while self._lines and len(content) + len(self._lines[0]) <= _AT_ONCE:
                    content += self._lines.popleft()
            self._write(content)
            with self._change:
                self._waiting -= len(content)
                dropped = self._dropped if not self._waiting else 0
                self._dropped -= dropped
                self._change.notify_all()
            if dropped and self._tell is not None:
                self._tell(dropped)

    def _write(self, content: bytes) -> None:
        while content:
            try:
                content = content[os.write(self._descriptor, content) :]
            except BlockingIOError:  # somebody has made it so: it is not this program's alone
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:  # nobody will ever read it
                return
