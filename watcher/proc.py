"""What `/proc` tells of a process: whether it runs, since when, and in which namespace.

Source: proc(5), pid_namespaces(7), and `fs/nsfs.c` for the inode numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache

from watcher.model import Process

_STATE = 0
_START_TIME = 19
"""Indices behind the command's name in `/proc/<pid>/stat`: fields 3 and 22."""


def start_time(pid: int) -> int | None:
    """When process `pid` was started, in clock ticks since boot; `None` if it has ended.

    A zombie has ended: it has no namespaces any more.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as stat:  # noqa: PTH123 (hot path)
            text = stat.read(1024)
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name is in parentheses and may hold parentheses and spaces itself.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[_STATE] in (b"Z", b"X") else int(fields[_START_TIME])


def runs(process: Process) -> bool:
    """Whether `process` itself, and not another with its pid, still runs."""
    return start_time(process.pid) == process.start


def netns_of(pid: int) -> int | None:
    """The inode number of the network namespace of process `pid`; `None` if it has ended."""
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino  # noqa: PTH116 (hot path)
    except (FileNotFoundError, ProcessLookupError):
        return None


@cache
def own_netns() -> int:
    """The inode number of this process's network namespace: the host's."""
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116


def children(pid: int) -> Iterator[int]:
    """The processes whose parent is process `pid`, by any of its threads; none if it has ended."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")  # noqa: PTH208 (hot path)
    except (FileNotFoundError, ProcessLookupError):
        return
    for task in tasks:
        try:
            descriptor = os.open(f"/proc/{pid}/task/{task}/children", os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            continue  # a thread may end meanwhile
        try:
            text = b""
            while more := os.read(descriptor, 1 << 16):
                text += more
        except ProcessLookupError:
            continue
        finally:
            os.close(descriptor)
        yield from map(int, text.split())
