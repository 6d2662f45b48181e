"""Telling the service manager how it goes. Source: sd_notify(3), sd_watchdog_enabled(3).

Fifteen lines, because the kept libraries either bind libsystemd or cannot tell of a stop.
"""

from __future__ import annotations

import os
import socket


def notify(state: str, *, wait: bool = True) -> None:
    """Send `state`, e.g. `READY=1`, to the manager that started this process, if one did.

    Raises:
        OSError: the manager has gone, or takes no more for now and is not to be waited for.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.setblocking(wait)
            manager.connect("\0" + address[1:] if address[0] == "@" else address)
            manager.send(state.encode())


def watchdog_interval() -> float | None:
    """Seconds between two `WATCHDOG=1`, half of what is allowed; `None` if nobody waits for it."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(allowed) / 2e6 if allowed.isdigit() and int(allowed) and for_us else None
