"""Reads from `/proc` whether a process runs, and its namespaces.

Source: proc(5), pid_namespaces(7), ioctl_nsfs(2), and `fs/nsfs.c` for the inode numbers.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Final

from handlers.kernel.namespace import NamespaceGone, Namespaces, namespace_files, open_by_pid
from handlers.kernel.processes import start_time
from watcher.model.container import Process

_READ: Final = os.O_RDONLY | os.O_CLOEXEC

NS_GET_USERNS: Final = 0xB701
NS_GET_PARENT: Final = 0xB702
NS_GET_OWNER_UID: Final = 0xB704
"""`include/uapi/linux/nsfs.h`."""


def runs(process: Process) -> bool:
    """Whether `process` still runs; a process that reuses its pid does not count."""
    return start_time(process.pid) == process.start


def netns_of(pid: int) -> int | None:
    """The inode number of the network namespace of process `pid`; `None` if it has ended.

    If its first thread has ended, it is the namespace of the first thread that goes on.
    """
    for path in namespace_files(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            return os.stat(path).st_ino  # noqa: PTH116 (hot path)
    return None


_MADE_BY_KERNEL: Final = frozenset(
    (
        *(b"lo", b"tunl0", b"gre0", b"gretap0", b"erspan0", b"ip_vti0"),
        *(b"sit0", b"ip6tnl0", b"ip6gre0", b"ip6_vti0"),
    )
)
"""The links of a new network namespace: `lo`, and one for each kind of tunnel that is loaded
(`fb_tunnels_only_for_init_net` in `Documentation/admin-guide/sysctl/net.rst`)."""

_SOME_LINKS: Final = 4096
"""Bytes of `/proc/<pid>/net/dev` that are lines of more links than the kernel makes by itself."""

_HEADER: Final = 2
_WITH_LO_ALONE: Final = _HEADER + 1
"""Lines of that file: its header, and with that `lo`, which every namespace has."""


def link_of_others(pid: int) -> str:
    """A link in the network namespace of process `pid` that the kernel did not make by itself.

    It is empty if there is none, or the process has ended. One read tells, however many there are.
    """
    for path in namespace_files(pid):
        try:
            text = _beginning(f"{path.removesuffix('ns/net')}net/dev")
        except (FileNotFoundError, ProcessLookupError):
            continue
        return "" if text.count(b"\n") == _WITH_LO_ALONE else _other_link(text)
    return ""


def _beginning(path: str) -> bytes:
    descriptor = os.open(path, _READ)
    try:
        return os.read(descriptor, _SOME_LINKS)
    finally:
        os.close(descriptor)


def _other_link(text: bytes) -> str:
    for line in text.splitlines()[_HEADER:]:
        name, colon, _ = line.strip().partition(b":")
        if colon and name not in _MADE_BY_KERNEL:
            return os.fsdecode(name)
    return ""


@cache
def own_netns() -> int:
    """The inode number of this process's network namespace: the host's."""
    return os.stat("/proc/self/ns/net").st_ino  # noqa: PTH116


@cache
def own_userns() -> int:
    """The inode number of this process's user namespace: the host's."""
    return os.stat("/proc/self/ns/user").st_ino  # noqa: PTH116


def is_of_runtime(pid: int, netns: int, namespaces: Namespaces, *, user_namespace: bool) -> bool:
    """Whether the runtime may have made the network namespace `netns` of process `pid`.

    A network namespace that an unprivileged process made belongs to a user namespace that it made,
    too. One that the runtime made belongs to the host's user namespace or, with `user_namespace`
    (the configuration has one), to a direct child of that.
    """
    try:
        descriptor = namespaces.by_pid((pid,), netns)
    except NamespaceGone:
        return False
    return _is_near(descriptor, user_namespace=user_namespace)


def is_of_user(pid: int, netns: int, user: int) -> bool:
    """Whether the network namespace `netns` of process `pid` is of a user namespace of `user`.

    Users can make no other, and cannot make one that is of another user.
    """
    try:
        with open_by_pid((pid,), netns) as descriptor:
            return _owner(descriptor) == user
    except NamespaceGone:
        return False


def _owner(netns: int) -> int | None:
    """The user who made the user namespace of the network namespace open as `netns`."""
    try:
        userns = fcntl.ioctl(netns, NS_GET_USERNS)
    except PermissionError:
        return None
    try:
        return int.from_bytes(fcntl.ioctl(userns, NS_GET_OWNER_UID, bytes(4)), "little")
    finally:
        os.close(userns)


def _is_near(descriptor: int, *, user_namespace: bool) -> bool:
    try:
        owner = fcntl.ioctl(descriptor, NS_GET_USERNS)
    except PermissionError:  # the owner is outside of this process's user namespace
        return False
    try:
        if os.fstat(owner).st_ino == own_userns():
            return True
        return user_namespace and _parent(owner) == own_userns()
    finally:
        os.close(owner)


def _parent(userns: int) -> int | None:
    """The inode number of the parent of the user namespace open as `userns`."""
    try:
        descriptor = fcntl.ioctl(userns, NS_GET_PARENT)
    except PermissionError:
        return None
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)


def children(pid: int) -> Iterator[int]:
    """The child processes of all threads of process `pid`; none if it has ended."""
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
