"""Pins: names under `netns_dir` that lead to a sandbox's namespace, as `ip netns` makes them.

A name is an empty file on which the namespace is bind-mounted, so that runc can join it by that
path and `ip netns exec` can enter it. Source: ip-netns(8), and `ip/ipnetns.c` of iproute2.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from handlers import mounts, rtnl
from handlers.handler import Difference, Notes, closed, without
from handlers.namespace import Home, opened
from handlers.netlink import Netlink
from watcher.model import Member, Repair, Sandbox

_NOTE: Final = "netns_dir mount"
"""Under this name is noted that the directory was made a mount by us, as `ip netns` does."""


class PinHandler:
    """Owns the pins in the directory `netns_dir`."""

    def __init__(self, netns_dir: str, home: Home, notes: Notes) -> None:
        self._directory = Path(netns_dir)
        self._home = home
        self._notes = notes
        self._ready = False

    def appear(self, sandbox: Sandbox) -> None:
        """Let every name of `sandbox` lead to its namespace.

        Raises:
            FileExistsError: the name is somebody else's.
        """
        for name in sandbox.pins:
            if self._inode(name) != sandbox.netns:
                self._make(name, sandbox)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Remove the names of those `leaving`, but for one that leads elsewhere by now."""
        rest = without(sandbox, leaving)
        for name in sandbox.pins:
            if rest is not None and name in rest.pins:
                continue
            inode = self._inode(name)
            if inode is not None and (inode == sandbox.netns or self._is_unused(name)):
                self._remove(name)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the missing names, and remove those that lead to a sandbox that is no more."""
        return closed(self._differences(sandboxes), dry_run=dry_run)

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        for sandbox in sandboxes:
            wrong = [name for name in sandbox.pins if self._inode(name) != sandbox.netns]
            if wrong:
                yield Difference(
                    Repair(
                        f"pinned {', '.join(str(self._directory / name) for name in wrong)}",
                        sandbox.id,
                        "the name did not lead to the sandbox's namespace",
                    ),
                    lambda sandbox=sandbox: self.appear(sandbox),  # type: ignore[misc]
                )

        expected = {name for sandbox in sandboxes for name in sandbox.pins}
        for name in self._names() - expected:
            if self._is_ours(name):
                yield Difference(
                    Repair(f"removed {self._directory / name}", name, "its sandbox is gone"),
                    lambda name=name: self._remove(name),  # type: ignore[misc]
                )

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self._directory))  # noqa: PTH208 (hot path)
        except FileNotFoundError:
            return set()

    def _inode(self, name: str) -> int | None:
        """The inode number that `name` leads to; `None` if it is not there."""
        try:
            return os.lstat(f"{self._directory}/{name}").st_ino
        except FileNotFoundError:
            return None

    def _is_ours(self, name: str) -> bool:
        """Whether `name` leads to a namespace with a link that this program made."""
        path = f"{self._directory}/{name}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            with self._home.left_for(descriptor):
                netlink = Netlink()
            with netlink:
                return any(rtnl.read_link(body).ours for body in netlink.dump(rtnl.links()))
        except OSError:  # EINVAL: not a network namespace
            return False
        finally:
            os.close(descriptor)

    def _is_unused(self, name: str) -> bool:
        """Whether `name` is a file on which nothing is mounted, as one is that was cut off."""
        try:
            status = os.lstat(f"{self._directory}/{name}")
        except FileNotFoundError:
            return False
        here = os.lstat(self._directory)
        return stat.S_ISREG(status.st_mode) and status.st_dev == here.st_dev and not status.st_size

    def _make(self, name: str, sandbox: Sandbox) -> None:
        self._prepare()
        path = f"{self._directory}/{name}"
        with opened(sandbox) as descriptor:
            try:
                _create(path)
            except FileExistsError as taken:
                if not (self._is_unused(name) or self._is_ours(name)):
                    raise FileExistsError(
                        errno.EEXIST, "the name is taken by a namespace that is not ours", path
                    ) from taken
                self._remove(name)
                _create(path)
            mounts.bind(f"/proc/self/fd/{descriptor}", path)

    def _remove(self, name: str) -> None:
        path = f"{self._directory}/{name}"
        try:
            while True:  # mounted twice, it has to be unmounted twice
                mounts.unmount(path, lazy=True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 (hot path)

    def unmounted(self) -> Iterator[str | None]:
        """The names on which nothing is mounted, and `None` for each other name, one at a time."""
        for name in self._names():
            yield name if self._is_unused(name) else None

    def remove(self) -> bool:
        """Take back the directory's mount if this program made it; whether it did.

        It stays as long as anybody has a name in it.
        """
        if self._names() or self._notes.noted(_NOTE) is None:
            return False
        self._ready = False
        mounts.unmount(str(self._directory), lazy=True)
        self._notes.erase(_NOTE)
        with suppress(OSError):
            self._directory.rmdir()
        return True

    def _prepare(self) -> None:
        """Make the directory as `ip netns` does: shared, so that pins are seen everywhere."""
        if self._ready:
            return
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            mounts.make_shared(str(self._directory))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._notes.note(_NOTE, "made")
            mounts.bind(str(self._directory), str(self._directory), recursive=True)
            mounts.make_shared(str(self._directory))
        self._ready = True


def _create(path: str) -> None:
    """Make an empty file; raises FileExistsError if there is something."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o400))
