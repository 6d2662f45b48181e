"""Kernel settings below `/proc/sys/net`, in the network namespace of the calling thread.

Source: `Documentation/networking/ip-sysctl.rst`.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def get(name: str) -> str | None:
    """The value of `name`, a path below `net`; `None` if the kernel has no such setting."""
    try:
        return Path("/proc/sys/net", name).read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def put(name: str, value: str) -> None:
    """Set `name`, a path below `net`, to `value`; a read-only `/proc/sys` may have it already.

    Raises:
        OSError: the kernel refused; EINVAL also if it took only the beginning of `value`.
    """
    try:
        descriptor = os.open(f"/proc/sys/net/{name}", os.O_WRONLY | os.O_CLOEXEC)  # hot path
    except OSError as error:
        if error.errno == errno.EROFS and get(name) == value:
            return
        raise
    try:
        content = value.encode()
        if os.write(descriptor, content) != len(content):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
    finally:
        os.close(descriptor)
