"""Kernel settings under `/proc/sys/net`, changed where needed and given back.

Sources: `Documentation/networking/ip-sysctl.rst` of the kernel. What a file shows depends on the
network namespace of the thread that opens it.
"""

from __future__ import annotations

import os
from pathlib import Path


def get(name: str) -> str | None:
    """The value of `name`, with slashes and below `net`; `None` if the kernel has no such."""
    try:
        return Path("/proc/sys/net", name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def put(name: str, value: str) -> None:
    """Set `name` to `value`, whoever else sets it."""
    descriptor = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)  # hot path
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)
