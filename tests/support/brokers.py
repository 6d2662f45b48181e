"""The process that a service has started for the readers of its events."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Service


def broker(service: Service) -> int:
    """The pid of the broker, once there is one."""
    return eventually(lambda: children_of_all_threads(service.pid), what="a broker")[0]


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
