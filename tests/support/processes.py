"""Processes that a test has started: their children, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

from tests.support.waiting import eventually

type Done = subprocess.CompletedProcess[str]


def end(process: subprocess.Popen[str]) -> None:
    """Kills a command of :meth:`Host.popen`, if it runs, and waits for its end.

    `nsenter` is left to reap what it has started: it is the only one that does so at once.
    """
    while process.poll() is None:
        with contextlib.suppress(OSError):
            for pid in children(process.pid):
                os.kill(pid, signal.SIGKILL)
            os.kill(process.pid, signal.SIGCONT)  # it stops with what it has started
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)


def children(pid: int) -> list[int]:
    """The pids of a process's children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def descriptors(pid: int) -> int:
    """How many descriptors a process has, but for those that it opens for a moment."""
    return min(len(list(Path(f"/proc/{pid}/fd").iterdir())) for _ in range(100))


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


class Entered:
    """What a command of :meth:`Host.popen` has started: `nsenter` waits for it.

    It is used as :class:`tests.support.warm.Started` is.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """Its pid, as this process sees it."""
        return children(self._process.pid)[0]

    def poll(self) -> int | None:
        """How it has ended, if it has."""
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; its exit status, as subprocess has it.

        Raises:
            subprocess.TimeoutExpired: it runs after `timeout` seconds.
        """
        return self._process.wait(timeout)

    def signal(self, number: signal.Signals) -> None:
        """Sends it a signal; with SIGSTOP, waits until all of its threads have stopped.

        `nsenter` stops with what it has started. With SIGCONT it is the one that has that go on: a
        stop that came before would be undone.
        """
        if number == signal.SIGCONT:
            os.kill(self._process.pid, number)
            eventually(lambda: not _is_stopped(self.pid), what=f"{self.pid} goes on")
            return
        os.kill(self.pid, number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def end(self) -> None:
        """Kills it, if it runs, and waits for its end."""
        end(self._process)
