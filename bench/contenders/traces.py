"""What this program's sandboxes leave to see on the host."""

from __future__ import annotations

import socket
import time
from typing import Final

_PATIENCE: Final = 60.0


def wait_until_gone(left: int = 0) -> None:
    """Wait until only so many sandboxes have a link, which is also when nothing is done any more.

    Raises:
        RuntimeError: they are not gone after a minute.
    """
    deadline = time.monotonic() + _PATIENCE
    while sum(name.startswith("netnsv") for _, name in socket.if_nameindex()) > left:
        if time.monotonic() > deadline:
            raise RuntimeError("links of containers that have ended are still there")
        time.sleep(0.005)
