"""Opens a sandbox's network namespace reliably, and enters it for a moment."""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Self

from watcher.model.sandbox import Sandbox


class NamespaceGone(OSError):
    """The last process in the namespace has ended."""


def open_namespace(sandbox: Sandbox) -> AbstractContextManager[int]:
    """A descriptor of the namespace of `sandbox`, opened through any process in it.

    The inode number is compared, because pids are reused. The descriptor keeps the namespace alive.

    Raises:
        NamespaceGone: all of these processes have ended.
    """
    return open_by_pid((member.init.pid for member in sandbox.members), sandbox.netns)


@contextmanager
def open_by_pid(pids: Iterable[int], netns: int) -> Iterator[int]:
    """A descriptor of the namespace with inode number `netns`, opened through one of `pids`.

    Raises:
        NamespaceGone: none of these processes is in it.
    """
    _, descriptor = _opened(pids, netns)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _opened(pids: Iterable[int], netns: int) -> tuple[int, int]:
    """The one of `pids` that is in the namespace `netns`, and a descriptor of that."""
    for pid in pids:
        for path in namespace_files(pid):
            try:
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, ProcessLookupError):
                continue
            try:
                if os.fstat(descriptor).st_ino == netns:
                    return pid, descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
    raise NamespaceGone(errno.ESRCH, f"no process is in the namespace net:[{netns}] any more")


class Namespaces:
    """The network namespace of one sandbox at a time, which several need one after the other.

    Inside the `with`, it stays open until another one is asked for. As long as it is open, it stays
    alive, and no other has its number.
    """

    def __init__(self) -> None:
        self._netns: int | None = None
        self._pid = self._descriptor = -1

    def of(self, sandbox: Sandbox) -> int:
        """A descriptor of the namespace of `sandbox`, as :func:`open_namespace` opens it.

        Raises:
            NamespaceGone: all of its processes have ended.
        """
        return self.by_pid([member.init.pid for member in sandbox.members], sandbox.netns)

    def by_pid(self, pids: Collection[int], netns: int) -> int:
        """A descriptor of the namespace `netns`, as :func:`open_by_pid` opens it.

        Raises:
            NamespaceGone: none of these processes is in it.
        """
        if netns != self._netns or self._pid not in pids:
            self.close()
            self._pid, self._descriptor = _opened(pids, netns)
            self._netns = netns
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor, if there is one."""
        if self._netns is not None:
            self._netns = None
            os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def namespace_files(pid: int) -> Iterator[str]:
    """The files of the network namespaces of process `pid`: of its first thread, then of each.

    The first thread may have ended (pthread_exit(3)), and each may be elsewhere (setns(2)).
    """
    yield f"/proc/{pid}/ns/net"
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in sorted(os.listdir(f"/proc/{pid}/task"), key=int):  # noqa: PTH208 (hot path)
            yield f"/proc/{pid}/task/{task}/ns/net"


class HostNamespace:
    """The host's network namespace, which this thread is in, and returns to."""

    def __init__(self) -> None:
        self._descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def left_for(self, descriptor: int) -> AbstractContextManager[None]:
        """Enter the namespace `descriptor` for a moment (setns(2)), with this thread only."""
        return _Visit(descriptor, self._descriptor)


class _Visit:
    """In one network namespace inside the `with`, in another behind it; without a generator."""

    __slots__ = ("_home", "_there")

    def __init__(self, there: int, home: int) -> None:
        self._there = there
        self._home = home

    def __enter__(self) -> None:
        os.setns(self._there, os.CLONE_NEWNET)

    def __exit__(self, *_: object) -> None:
        os.setns(self._home, os.CLONE_NEWNET)
