"""The queue of log lines for stderr, which never makes the service wait.

A full pipe without a reader and a stalled journal block a writer for ever. So a thread of its own
writes, and the thread that logs never waits. Lines that do not fit are dropped and counted, and the
count is logged as soon as there is room again.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from handlers.kernel import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 1 << 20
"""The most bytes that may wait."""

_AT_ONCE: Final = 1 << 12
"""Bytes of one write(2): a pipe takes so many at once or none (PIPE_BUF, pipe(7))."""


class Backlog:
    """Lines that a thread writes to a descriptor, in their order.

    Args:
        descriptor: where to write to.
        limit: the most bytes that may wait.
    """

    def __init__(self, descriptor: int, *, limit: int = LIMIT) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes, with those that are being written
        self._dropped = 0
        self._tell: Callable[[int], object] | None = None
        self._change = threading.Condition()
        self._start()

    def _start(self) -> None:
        """Start the thread, and have no signal interrupt it.

        The kernel gives a signal to any thread that takes it. Python runs the handler in the main
        thread, and if another thread got the signal, only once the main thread wakes by itself.
        systemd stops a service by two signals, SIGTERM and SIGCONT: the stop took five seconds.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        threading.Thread(target=self._run, name="log", daemon=True).start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def tell_dropped(self, tell: Callable[[int], object]) -> None:
        """Use `tell` to log the number of dropped lines by :meth:`put`. From any thread."""
        self._tell = tell

    def put(self, line: str) -> None:
        """Queue a line, without its newline. From any thread; it never waits."""
        content = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._change:
            fits = self._waiting + len(content) <= self._limit
            dropped = self._dropped if fits else 0
            self._dropped -= dropped
            if not fits:
                self._dropped += 1
        if dropped and self._tell is not None:
            self._tell(dropped)  # at the place of the dropped lines
        if fits:
            with self._change:
                self._lines.append(content)
                self._waiting += len(content)
                self._change.notify()

    def drain(self, seconds: float) -> bool:
        """Wait at most `seconds` until all lines are written; whether they are."""
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
            except BlockingIOError:  # another process that shares it made it so
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:  # it has no reader any more
                return
