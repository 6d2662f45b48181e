"""The process that a service has started for the readers of its events."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Service

_NAME: Final = b"watcher.observe.broker"
"""In its command line."""


def broker(service: Service) -> int:
    """The pid of the broker, once there is one.

    Before its execve(2) it is none yet: who stops it then stops a thread of the service as well,
    which waits for that without hearing signals (vfork(2)).
    """
    return eventually(lambda: _brokers(service.pid), what="a broker")[0]


def _brokers(pid: int) -> list[int]:
    children = children_of_all_threads(pid)
    return [one for one in children if _NAME in Path(f"/proc/{one}/cmdline").read_bytes()]


@contextmanager
def stopped_broker(service: Service) -> Iterator[int]:
    """The broker reads and sends nothing meanwhile."""
    pid = broker(service)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def children_of_all_threads(pid: int) -> list[int]:
    """The pids of all children, whichever thread has started them."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found += map(int, (task / "children").read_text().split())
    return found
