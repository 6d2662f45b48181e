"""Processes that a test has started: their children, and their end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

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
