"""Finds the processes of sockets, by the links in `/proc/<pid>/fd` (proc_pid_fd(5))."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Final

PATIENCE: Final = 0.05
"""Seconds to look for; there may be very many processes, and each may have very many files."""


def holders(inodes: Collection[int]) -> dict[int, str]:
    """Name and pid of a process that has each of these sockets, as far as they are found in time.

    The newest processes come first: those that took a port lately are likely to be among them.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, str] = {}
    if not wanted:
        return found
    end = time.monotonic() + PATIENCE
    pids = sorted((int(name) for name in os.listdir("/proc") if name.isdecimal()), reverse=True)  # noqa: PTH208
    for pid in pids:
        with suppress(OSError):  # it has ended, or is not ours to see
            for entry in os.scandir(f"/proc/{pid}/fd"):
                if time.monotonic() > end:
                    return found
                inode = wanted.get(os.readlink(entry.path))  # noqa: PTH115
                if inode is not None and inode not in found:
                    name = Path(f"/proc/{pid}/comm").read_bytes()[:-1].decode(errors="replace")
                    found[inode] = f"{name}, pid {pid}"
                    if len(found) == len(wanted):
                        return found
    return found
