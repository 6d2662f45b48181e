"""What a container has mounted that shows one network namespace, whoever looks.

`/proc/net` and `/proc/sys/net` show that of the process that looks, so they follow a move. A sysfs
shows the one in which it was mounted (`sysfs_init_fs_context` in `fs/sysfs/mount.c`), in
`class/net` and in `devices/virtual/net`. There it is covered by those two directories of a new one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Self

from handlers.kernel import mounts
from handlers.kernel.mounts import Mount
from handlers.moving.errors import CannotMove
from watcher.model.errors import quoted

OF_NETWORK: Final = ("class/net", "devices/virtual/net")
"""The directories of a sysfs that show a network namespace."""

_MOST_BYTES: Final = 1 << 20
"""Bytes of the longest mount table that is read. A container of Kubernetes has some 10,000."""

_READ: Final = 1 << 16

_HARMLESS: Final = re.compile(
    r"/(?!class(/|$)|devices(/|$))"  # neither of these,
    r"|/class/(?!net(/|$))|/devices/(system|virtual/(?!net(/|$)).)"  # nor what has those of links
)
"""Parts of a sysfs in which there are no links."""

_BOUND: Final = re.compile(r"/((self|thread-self|\d+)/(task/\d+/)?net|sys/net)/")
"""How paths in a procfs begin that lead into the present network namespace for ever."""

_OF_ONE_NAMESPACE: Final = frozenset(("rpc_pipefs", "nfsd"))
"""Other file systems that show the network namespace in which they were mounted."""

_MOST_SYSFS: Final = 8
"""The most mounts of a sysfs, each of which takes some work."""


class Table:
    """The mounts of a process, as it sees them.

    Args:
        mounts: all of them, in the kernel's order.
    """

    def __init__(self, mounts: Sequence[Mount]) -> None:
        self._mounts = mounts
        self._by_id = {mount.id: mount for mount in mounts}
        self._on: dict[int, list[Mount]] = {}
        for mount in mounts:
            self._on.setdefault(mount.parent, []).append(mount)

    @classmethod
    def of(cls, pid: int) -> Self:
        """That of process `pid`.

        Raises:
            CannotMove: it is too long.
        """
        text = b""
        with open(f"/proc/{pid}/mountinfo", "rb", buffering=0) as file:  # noqa: PTH123
            while more := file.read(_READ):
                text += more
                if len(text) > _MOST_BYTES:
                    raise CannotMove("it has too many mounts", "mount fewer")
        return cls([mounts.parse(line) for line in text.splitlines()])

    @property
    def has_sysfs(self) -> bool:
        """Whether there is any sysfs."""
        return any(mount.type == "sysfs" for mount in self._mounts)

    def refuse_bound(self, netns: int) -> None:
        """Refuse mounts that would show the network namespace `netns` for ever.

        Raises:
            CannotMove: there is one.
        """
        for mount in self._mounts:
            on = self._by_id.get(mount.parent)
            if (
                (mount.type == "nsfs" and mount.root == f"net:[{netns}]")
                or mount.type in _OF_ONE_NAMESPACE
                or (mount.type == "proc" and _BOUND.match(mount.root))
                or (on is not None and on.type == "proc" and _BOUND.match(_within(on, mount.point)))
            ):
                raise _cannot(mount)

    def sysfs(self, device: str) -> list[Mount]:
        """The mounts of the sysfs `device` to which a path leads, and that may show links.

        Raises:
            CannotMove: one of them is a part of it, or there are too many.
        """
        found = [mount for mount in self._mounts if mount.device == device]
        if self._root is None:
            raise CannotMove("its root directory is no mount", "give it a root of its own")
        if len(found) > _MOST_SYSFS:
            raise CannotMove("it has too many mounts of a sysfs", "mount fewer")
        found = [mount for mount in found if self._leads_to(mount)]
        for mount in found:
            if mount.root != "/" and not _HARMLESS.match(mount.root):
                raise _cannot(mount)
        return [mount for mount in found if mount.root == "/"]

    def to_cover(self, sysfs: Mount) -> list[str]:
        """The directories of a whole `sysfs` to cover, so that it shows another namespace.

        Where the container has a mount of its own at one of them or above it, that stays: this is
        what it would have if it had joined by path.

        Raises:
            CannotMove: it has a mount below one of them.
        """
        due = []
        for directory in OF_NETWORK:
            path = f"{sysfs.point.rstrip('/')}/{directory}"
            on_it = self._on.get(sysfs.id, [])
            if any(_is_in(path, mount.point) for mount in on_it):
                continue
            below = next((mount for mount in on_it if _is_in(mount.point, path)), None)
            if below is not None:
                raise _cannot(below)
            due.append(directory)
        return due

    def _leads_to(self, mount: Mount) -> bool:
        """Whether the path of `mount` leads to it, and not to another that covers it."""
        here = self._root
        while here is not None and here is not mount:
            here = self._next(here, mount.point)
        return here is mount and self._next(mount, mount.point) is None

    @property
    def _root(self) -> Mount | None:
        """The lowest mount at the root directory, whose parent cannot be seen."""
        at_root = (mount for mount in self._mounts if mount.point == "/")
        return next((m for m in at_root if m.parent == m.id or m.parent not in self._by_id), None)

    def _next(self, here: Mount, path: str) -> Mount | None:
        """The first mount on the mount `here` that a look-up of `path` comes to."""
        on_the_way = (
            m for m in self._on.get(here.id, []) if m is not here and _is_in(path, m.point)
        )
        return min(on_the_way, key=lambda mount: len(mount.point), default=None)


def _is_in(path: str, directory: str) -> bool:
    """Whether `path` is `directory`, or below it."""
    return f"{path}/".startswith(f"{directory.rstrip('/')}/")


def _within(mount: Mount, path: str) -> str:
    """The path in a file system of what `path` on the `mount` of it leads to."""
    return mount.root.rstrip("/") + path[len(mount.point.rstrip("/")) :]


def _cannot(mount: Mount) -> CannotMove:
    what = f"its mount at {quoted(mount.point)} shows the network namespace that it was made in"
    return CannotMove(what, "leave that mount out")
