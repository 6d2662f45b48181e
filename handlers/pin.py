"""Pins: names under `netns_dir` that lead to a sandbox's namespace, as `ip netns` makes them.

A name is an empty file on which the namespace is bind-mounted: runc can join it by that path, and
`ip netns exec` can enter it. Source: ip-netns(8), and `ip/ipnetns.c` of iproute2.

A name is ours if the lease store says that it leads to that namespace, or if a host end that this
program made for a container of that name leads there (:mod:`handlers.link.ours`), or if the file
below it says so: it has the mode that only we use, and as its time of modification, in nanoseconds,
the inode number of the namespace. A file without a namespace is ours if it has that mode. Every
other name belongs to somebody else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from functools import cached_property
from pathlib import Path
from typing import Final

from handlers.context import Context
from handlers.handler import Difference, Handler, apply
from handlers.kernel import mounts, rtnl
from handlers.kernel.directories import make_directory
from handlers.link import ours
from handlers.unpinning import Unpinning
from watcher.model.alias import alias_of
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Sandbox

_NOTE: Final = "netns_dir mount"
"""The note that this program made the directory a mount, as `ip netns` does."""

_MODE: Final = 0o1400
"""The mode of the files below our pins. The sticky bit has no effect on a file, so it marks ours,
even one whose namespace was never mounted because of an interruption."""

_NO_NAMESPACE: Final = frozenset((errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.ENODEV))
"""Errors of open(2) for a missing name, a link, or a socket or device without a driver or peer."""

_NO_FILE: Final = frozenset((errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EPERM))
"""Errors of open_tree(2) and fstatat(2) for a missing name, and where that is not possible."""


class _Proofs:
    """The proofs that a name is ours, each looked up once and on demand."""

    def __init__(self, context: Context) -> None:
        self._netlink = context.netlink
        self._sandboxes = context.sandboxes
        self._directory = context.netns_dir
        self._beneath = -1

    def close(self) -> None:
        """Close what was opened."""
        if self._beneath >= 0:
            os.close(self._beneath)

    def made_for(self, name: str) -> int:
        """The namespace that this program mounted on the file `name`; 0 if it did not.

        Raises:
            OSError: that is unknown, as with too many open files.
        """
        try:
            if self._beneath < 0:
                self._beneath = mounts.beneath(self._directory)
            status = os.stat(name, dir_fd=self._beneath, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            return 0
        return status.st_mtime_ns if status.st_mode == stat.S_IFREG | _MODE else 0

    @cached_property
    def remembered(self) -> frozenset[tuple[str, int | None]]:
        """The names of the lease store's sandboxes, each with its namespace's inode number."""
        return frozenset(
            (name, sandbox.netns)
            for sandbox in self._sandboxes()
            for name in (sandbox.id, *(member.id for member in sandbox.members))
        )

    @cached_property
    def linked(self) -> dict[int, list[rtnl.Link]]:
        """The host ends, by the host's number for the namespace that each leads to."""
        found: dict[int, list[rtnl.Link]] = {}
        for end in ours.host_ends(self._netlink):
            found.setdefault(end.peer_netns, []).append(end)
        return found


class PinHandler(Handler):
    """Owns the pins in the directory :attr:`Context.netns_dir`."""

    def __init__(self, context: Context) -> None:
        self._directory = str(Path(context.netns_dir))
        self._context = context
        self._leaving = Unpinning(context.reaper, self._remove_if)
        self._ready = False

    def appear(self, sandbox: Sandbox) -> None:
        """Make every name of `sandbox`; `FileExistsError` if one is somebody else's."""
        self._make_all(sandbox.pins, sandbox)

    def _make_all(self, names: Iterable[str], sandbox: Sandbox) -> None:
        namespace = self._context.namespaces.of(sandbox)
        for name in names:
            self._leaving.finish(name)
            self._make(name, sandbox.netns, namespace)

    def vanish(self, before: Sandbox, after: Sandbox | None) -> None:
        """Have the names that are no longer needed removed, except those that lead elsewhere."""
        kept = () if after is None else after.pins
        for name in before.pins:
            if name not in kept:
                self._leaving.begin(name, before.netns)

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make missing names, and remove those of vanished sandboxes.

        A name that is somebody else's stays, and a repair says so.
        """
        return apply(self._differences(sandboxes), dry_run=dry_run)

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        self._leaving.finish_all()
        with closing(_Proofs(self._context)) as proofs:
            yield from self._compared(sandboxes, proofs)

    def _compared(self, sandboxes: Sequence[Sandbox], proofs: _Proofs) -> Iterator[Difference]:
        for sandbox in sandboxes:
            wrong = [name for name in sandbox.pins if self._inode(name) != sandbox.netns]
            taken = [name for name in wrong if not self._may_make(name, proofs)]
            for name in taken:
                yield Difference(
                    Repair(f"left {self._directory}/{name}", sandbox.id, _TAKEN), lambda: None
                )
            if len(taken) < len(wrong):
                wrong = [name for name in wrong if name not in taken]
                yield Difference(
                    Repair(
                        f"pinned {', '.join(f'{self._directory}/{name}' for name in wrong)}",
                        sandbox.id,
                        "the name did not lead to the sandbox's namespace",
                    ),
                    lambda s=sandbox, names=wrong: self._make_all(names, s),  # type: ignore[misc]
                    alone=True,
                )

        expected = {name for sandbox in sandboxes for name in sandbox.pins}
        living = {i.host_name for sandbox in sandboxes for i in sandbox.interfaces}
        for name in sorted(self._names() - expected):
            path = f"{self._directory}/{name}"
            if self._is_ours(name, proofs):
                yield Difference(
                    Repair(f"removed {path}", name, "its sandbox is gone"),
                    lambda name=name: self._remove(name),  # type: ignore[misc]
                )
            elif ends := [e for e in self._exits(name, proofs) if e.name not in living]:
                # These host ends are deleted by this sync, so this is reported only once.
                yield Difference(
                    Repair(f"left {path}", ours.sandbox_id(ends[0]), _UNPROVEN), lambda: None
                )

    def _names(self) -> set[str]:
        try:
            return set(os.listdir(self._directory))  # noqa: PTH208 (hot path)
        except FileNotFoundError:
            return set()

    def _inode(self, name: str) -> int | None:
        """The inode number behind `name`; `None` if it is missing."""
        try:
            return os.lstat(f"{self._directory}/{name}").st_ino
        except FileNotFoundError:
            return None

    def _may_make(self, name: str, proofs: _Proofs) -> bool:
        """Whether `name` is free or ours."""
        return self._inode(name) is None or self._is_ours(name, proofs)

    def _is_ours(self, name: str, proofs: _Proofs) -> bool:
        """Whether `name` leads to the namespace that it was made for, or is unused.

        `OSError` if that is unknown.
        """
        if (name, self._inode(name)) in proofs.remembered or self._is_unused(name):
            return True
        alias = alias_of(name)
        if any(end.alias == alias for end in self._exits(name, proofs)):
            return True
        return proofs.made_for(name) == self._inode(name)

    def _exits(self, name: str, proofs: _Proofs) -> list[rtnl.Link]:
        """The host ends that lead into the namespace of `name`; `OSError` if unknown."""
        path = f"{self._directory}/{name}"
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            if error.errno not in _NO_NAMESPACE:
                raise
            return []
        try:
            number = ours.number_of(self._context.netlink, descriptor)
        finally:
            os.close(descriptor)
        return proofs.linked.get(number, []) if number >= 0 else []

    def _is_unused(self, name: str) -> bool:
        """Whether `name` is a file of ours without a mount, left by an interruption."""
        try:
            status = os.lstat(f"{self._directory}/{name}")
        except FileNotFoundError:
            return False
        return status.st_mode == stat.S_IFREG | _MODE and not status.st_size

    def _make(self, name: str, netns: int, namespace: int) -> None:
        """Have `name` lead to the `namespace` (a descriptor) of inode number `netns`."""
        self._prepare()
        path = f"{self._directory}/{name}"
        try:
            _create(path, netns)
        except FileExistsError as taken:
            if self._inode(name) == netns:
                return
            with closing(_Proofs(self._context)) as proofs:
                if not self._may_make(name, proofs):
                    raise FileExistsError(errno.EEXIST, _TAKEN, path) from taken
            self._remove(name)
            _create(path, netns)
        mounts.bind(f"/proc/self/fd/{namespace}", path)

    def _remove_if(self, name: str, netns: int) -> None:
        """Remove `name` if it leads to the namespace `netns`, or nowhere; else it is another's."""
        inode = self._inode(name)
        if inode is not None and (inode == netns or self._is_unused(name)):
            self._remove(name)

    def _remove(self, name: str) -> None:
        path = f"{self._directory}/{name}"
        try:
            while True:  # mounts may be stacked
                mounts.unmount(path, lazy=True)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise
        with suppress(FileNotFoundError):
            os.unlink(path)  # noqa: PTH108 (hot path)

    def take_back(self, living: Mapping[str, int]) -> None:
        """Remove pins of live containers that our links lead to, in case the store lost them.

        `living` has the inode number of each container's namespace, by its id.
        """
        self._leaving.finish_all()
        with closing(_Proofs(self._context)) as proofs:
            for name, netns in living.items():
                if self._inode(name) == netns and self._exits(name, proofs):
                    self._remove(name)

    def unmounted(self) -> Iterator[str | None]:
        """Each name without a mount, and `None` for each other name, one at a time."""
        for name in self._names():
            yield name if self._is_unused(name) else None

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Unmount the directory if this program made it a mount, and it is empty."""
        self._leaving.finish_all()
        if self._names() or self._context.notes.noted(_NOTE) is None:
            return []
        self._ready = False
        mounts.unmount(self._directory, lazy=True)
        self._context.notes.erase(_NOTE)
        with suppress(OSError):
            Path(self._directory).rmdir()
        return [f"unmounted {self._directory}"]

    def _prepare(self) -> None:
        """Make the directory as `ip netns` does: shared, so that pins propagate."""
        if self._ready:
            return
        make_directory(Path(self._directory), 0o755)
        try:
            mounts.make_shared(self._directory)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            self._context.notes.note(_NOTE, "made")
            mounts.bind(self._directory, self._directory, recursive=True)
            mounts.make_shared(self._directory)
        self._ready = True


_UNPROVEN: Final = (
    "it leads to the namespace of a sandbox that is gone, and may be somebody else's name for it;"
    " if nobody needs it, remove it with `ip netns delete`"
)
_TAKEN: Final = "the name is taken by a file or namespace that is not ours; remove it, or rename it"


def _create(path: str, netns: int) -> None:
    """Make an empty file that says which namespace it is for; `FileExistsError` if it is there."""
    file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, _MODE)
    try:
        os.utime(file, ns=(netns, netns))
    finally:
        os.close(file)
