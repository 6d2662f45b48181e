"""Messages to the service manager. Source: sd_notify(3), sd_watchdog_enabled(3).

Our own code, because the maintained libraries bind libsystemd or cannot report a stop.
"""

from __future__ import annotations

import os
import socket


def notify(state: str, *, wait: bool = True) -> None:
    """Send `state`, e.g. `READY=1`, to the manager that started this process, if there is one.

    Raises:
        OSError: the manager has gone, or its socket is full and `wait` is false.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.setblocking(wait)
            manager.connect("\0" + address[1:] if address[0] == "@" else address)
            manager.send(state.encode())


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`, half the limit; `None` if there is no watchdog."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(allowed) / 2e6 if allowed.isdigit() and int(allowed) and for_us else None
