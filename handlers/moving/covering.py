"""Covers the directories of a container's sysfs that show the namespace which it gives up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.kernel import detached
from handlers.kernel.mounts import AT_FDCWD
from handlers.kernel.namespace import HostNamespace, open_by_pid
from handlers.kernel.ptrace.x86_64 import Call
from handlers.moving.errors import CannotMove
from handlers.moving.mounted import Table
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from handlers.kernel.mounts import Mount
    from handlers.moving.inside import Inside

_FROM_DESCRIPTOR: Final = 0x04
"""MOVE_MOUNT_F_EMPTY_PATH (`include/uapi/linux/mount.h`)."""


class Cover(Struct, frozen=True):
    """A sysfs of the new namespace, for one of a container's.

    Attributes:
        whole: a descriptor of a mount of it, which is nowhere yet.
        parts: those of such mounts of its directories that are to cover, if the kernel makes them.
        point: where the container's is.
        paths: what is to be covered.
    """

    whole: int
    parts: tuple[int, ...]
    point: str
    paths: tuple[str, ...]

    @property
    def lent(self) -> tuple[int, ...]:
        """The descriptors that the container's init needs."""
        return self.parts or (self.whole,)


def made_for(pid: int, old: int, new: int, made: ExitStack) -> list[Cover]:
    """What has to be covered in the mount namespace of process `pid`, and with what.

    Nothing is covered yet.

    Args:
        pid: the process.
        old: inode number of the network namespace that it is in.
        new: a descriptor of the one that it comes into.
        made: gets what is to be closed. That of a mount without a place takes the kernel a while
            (`namespace_unlock` in `fs/namespace.c`).

    Raises:
        CannotMove: what it has mounted cannot be made to show that.
    """
    table = Table.of(pid)
    table.refuse_bound(old)
    covers: list[Cover] = []
    if not table.has_sysfs:
        return covers
    with closing(HostNamespace()) as here:
        for sysfs in table.sysfs(_device_in(here, pid, old, made)):
            directories = table.to_cover(sysfs)
            if directories:
                covers.append(_made_in(here, new, sysfs, directories, made))
    return covers


def _device_in(here: HostNamespace, pid: int, netns: int, made: ExitStack) -> str:
    """`major:minor` of a sysfs that shows the network namespace `netns` of process `pid`."""
    with open_by_pid([pid], netns) as old, here.left_for(old):
        descriptor = detached.mount("sysfs", ())
    made.callback(os.close, descriptor)
    device = os.fstat(descriptor).st_dev
    return f"{os.major(device)}:{os.minor(device)}"


def _made_in(
    here: HostNamespace, netns: int, like: Mount, directories: Sequence[str], made: ExitStack
) -> Cover:
    """The cover of `directories` of `like`, which shows the namespace open as `netns`."""
    read_only = like.own_options.split(",", 1)[0] == "ro"
    with here.left_for(netns):
        whole = detached.mount("sysfs", like.options.split(","), read_only=read_only)
    made.callback(os.close, whole)
    parts = []
    for directory in directories:
        part = detached.part(whole, directory)
        if part is None:
            break
        made.callback(os.close, part)
        parts.append(part)
    paths = tuple(f"{like.point.rstrip('/')}/{directory}" for directory in directories)
    return Cover(whole, tuple(parts), like.point, paths)


@contextmanager
def covered(inside: Inside, covers: Sequence[Cover], numbers: Sequence[int]) -> Iterator[None]:
    """Cover all of them, in the mount namespace of a stopped init; undone if the body raises.

    Args:
        inside: the init.
        covers: what and with what.
        numbers: the descriptors of what the `covers` have lent, there.

    Raises:
        CannotMove: the kernel refuses one.
    """
    done: list[str] = []
    try:
        lent = iter(numbers)
        for cover in covers:
            try:
                _cover(inside, cover, [next(lent) for _ in cover.lent], done)
            except OSError as error:
                what = f"its mount at {quoted(cover.point)} cannot be covered: {error.strerror}"
                raise CannotMove(what, "leave that mount out") from None
        yield
    except BaseException:
        for path in reversed(done):
            inside.unmount(path)
        raise


def _cover(inside: Inside, cover: Cover, numbers: Sequence[int], done: list[str]) -> None:
    """Cover directories of one sysfs.

    If there are no parts yet, they are made while the whole one covers the old one.
    """
    trees = numbers
    if not cover.parts:
        _put(inside, numbers[0], cover.point)
        try:
            trees = [inside.open_tree(path) for path in cover.paths]
        finally:
            inside.unmount(cover.point)
    for tree, path in zip(trees, cover.paths, strict=True):
        _put(inside, tree, path)
        done.append(path)


def _put(inside: Inside, tree: int, path: str) -> None:
    at = inside.path(path)
    inside.threads.call(Call.MOVE_MOUNT, tree, inside.empty, AT_FDCWD, at, _FROM_DESCRIPTOR)
