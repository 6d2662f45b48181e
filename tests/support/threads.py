"""A process in network and mount namespaces of its own, whose threads come and go: the program.

It prints a line once it is there. Some of its threads wait in calls of which the kernel restarts
each in another way; others end at once, and new ones are made. It ends with its standard input, and
prints then which of the calls did not end as they should, and how many SIGUSR1 have come.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable

LONG = 1000.0
SLEEP = 2
"""Seconds."""

libc = ctypes.CDLL(None, use_errno=True)


class Waiting:
    """Threads that each wait in a call, without Python's own retries."""

    def __init__(self) -> None:
        self._wrong: list[str] = []
        self._read, self._written = os.pipe()
        self._poll, self._polled = os.pipe()
        self._lock = threading.Lock()
        self._lock.acquire()
        self._threads = [
            self._start(call) for call in (self._reads, self._polls, self._sleeps, self._locks)
        ]

    def end(self) -> list[str]:
        """Has the calls end; those that did not end as they should."""
        os.write(self._written, b".")
        os.write(self._polled, b".")
        self._lock.release()
        for thread in self._threads:
            thread.join()
        return self._wrong

    def _start(self, call: Callable[[], bool]) -> threading.Thread:
        def run() -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            if not call():
                self._wrong.append(f"{call.__name__}: {os.strerror(ctypes.get_errno())}")

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    def _reads(self) -> bool:
        return bool(libc.read(self._read, ctypes.create_string_buffer(1), 1) == 1)

    def _polls(self) -> bool:
        pollfd = ctypes.create_string_buffer(8)
        ctypes.c_int.from_buffer(pollfd).value = self._poll
        ctypes.c_short.from_buffer(pollfd, 4).value = select.POLLIN
        return bool(libc.poll(pollfd, 1, int(LONG * 1000)) == 1)

    def _sleeps(self) -> bool:
        begin, span = time.monotonic(), (ctypes.c_long * 2)(SLEEP, 0)
        return bool(libc.nanosleep(span, None) == 0) and time.monotonic() - begin >= SLEEP

    def _locks(self) -> bool:
        return self._lock.acquire(timeout=LONG)


def come_and_go(until: threading.Event) -> None:
    """Makes threads that soon end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    while not until.is_set():
        threads = [threading.Thread(target=time.sleep, args=(0.0002,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def main() -> None:
    signals: list[int] = []
    signal.signal(signal.SIGUSR1, lambda number, _: signals.append(number))
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    waiting, enough = Waiting(), threading.Event()
    makers = [threading.Thread(target=come_and_go, args=(enough,)) for _ in range(3)]
    for maker in makers:
        maker.start()
    print("there", flush=True)  # noqa: T201
    sys.stdin.read()
    enough.set()
    wrong = waiting.end()
    for maker in makers:
        maker.join()
    print("; ".join(wrong) or "right", len(signals), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
