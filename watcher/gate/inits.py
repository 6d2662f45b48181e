"""Finds the init that a held runtime has made, before the runtime has saved which process it is.

It is a child of the runtime. But crun forks twice where a container has a user namespace or joins a
pid namespace (`init_container` in `src/libcrun/linux.c`): then the init has been inherited by an
ancestor of crun's, a subreaper or the first process (prctl(2), PR_SET_CHILD_SUBREAPER). What it and
crun still share is the open `exec.fifo` of the container.

Everything is read from `/proc` in a way that no file system of a container can delay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final

from handlers.kernel import processes
from watcher.containers import proc
from watcher.model.container import Process

_FIFO: Final = "exec.fifo"
_FEW: Final = 64
"""More descriptors than an init has, and more ancestors than a runtime has."""

_NEWEST: Final = 256
"""Children of an ancestor to look at: the first process may have one for each container."""

_GONE: Final = (FileNotFoundError, ProcessLookupError, PermissionError)


def child_of(runtime: int, host_netns: int) -> Process | None:
    """The child of process `runtime` that is in a network namespace other than the host's."""
    for pid in proc.children(runtime):
        if proc.netns_of(pid) not in (None, host_netns):
            start = processes.start_time(pid)
            if start is not None:
                return Process(pid, start)
    return None


def inherited_from(runtime: int, id_: str, host_netns: int) -> Process | None:
    """The init of container `id_` that process `runtime` has made, and an ancestor has inherited.

    `None` if there is none, or `runtime` has no `exec.fifo`, as `crun run` has not.
    """
    fifo = next(_opened(runtime, f"/{id_}/{_FIFO}"), None)
    since = processes.start_time(runtime)
    if fifo is None or since is None:
        return None
    for ancestor in _ancestors(runtime):
        newest = reversed(list(proc.children(ancestor)))  # it was inherited last
        for pid in islice(newest, _NEWEST):
            start = processes.start_time(pid)
            if start is None or start < since or proc.netns_of(pid) in (None, host_netns):
                continue
            if fifo in _opened(pid, f"/{_FIFO}"):
                return Process(pid, start)
    return None


def _ancestors(pid: int) -> Iterator[int]:
    """The ancestors of process `pid` that this process can see, and at last the first process."""
    for _ in range(_FEW):
        parent = processes.parent(pid)
        if not parent or parent == 1:
            break
        yield parent
        pid = parent
    yield 1


def _opened(pid: int, end: str) -> Iterator[bytes]:
    """The identity of each file that process `pid` has open by a path with that `end`.

    That is its mount and inode (proc_pid_fdinfo(5)). The same path may be another file in another
    mount namespace.
    """
    with suppress(*_GONE), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for entry in islice(descriptors, _FEW):
            with suppress(*_GONE):
                if os.readlink(entry.path).endswith(end):  # noqa: PTH115 (hot path)
                    yield _identity(f"/proc/{pid}/fdinfo/{entry.name}")


def _identity(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        lines = os.read(descriptor, 1 << 12).splitlines()
    finally:
        os.close(descriptor)
    return b" ".join(line for line in lines if line.startswith((b"mnt_id:", b"ino:")))
