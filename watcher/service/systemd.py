"""Messages to the service manager. Source: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3).

Our own code, because the maintained libraries bind libsystemd or cannot report a stop.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FIRST_PASSED: Final = 3
"""SD_LISTEN_FDS_START."""


def notify(state: str, descriptors: Sequence[int] = (), *, wait: bool = True) -> None:
    """Send `state`, e.g. `READY=1`, to the manager that started this process, if there is one.

    With `FDSTORE=1`, the manager keeps the `descriptors`.

    Raises:
        OSError: the manager has gone, or its socket is full and `wait` is false.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.setblocking(wait)
            manager.connect("\0" + address[1:] if address[0] == "@" else address)
            socket.send_fds(manager, [state.encode()], descriptors)


def notify_if_there(state: str) -> None:
    """Send `state` to the manager, if there is one that listens: nothing depends on it."""
    with suppress(OSError):
        notify(state)


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`, half the limit; `None` if there is no watchdog."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(allowed) / 2e6 if allowed.isdigit() and int(allowed) and for_us else None


def passed() -> Iterator[tuple[str, int]]:
    """The descriptors that the manager passes to this process, each with its name.

    No process that this one starts gets them.
    """
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID", "") != str(os.getpid()) or not count.isdigit():
        return
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for index in range(int(count)):
        descriptor = _FIRST_PASSED + index
        os.set_inheritable(descriptor, False)
        yield names[index] if index < len(names) else "", descriptor
