"""Covers the directories of a container's sysfs that show the namespace which it gives up."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.kernel import detached
from handlers.kernel.namespace import HostNamespace, open_by_pid
from handlers.kernel.ptrace.x86_64 import Call
from handlers.moving.errors import CannotMove
from handlers.moving.mounted import Table
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from handlers.kernel.mounts import Mount
    from handlers.moving.inside import Inside

_AT_FDCWD: Final = -100
_FROM_DESCRIPTOR: Final = 0x04
"""MOVE_MOUNT_F_EMPTY_PATH (`include/uapi/linux/mount.h`)."""


class Cover(Struct, frozen=True):
    """A sysfs of the new namespace, for one of a container's.

    Attributes:
        descriptor: a mount of it, which is nowhere yet.
        point: where the container's is.
        paths: what is to be covered.
    """

    descriptor: int
    point: str
    paths: tuple[str, ...]


@contextmanager
def made_for(pid: int, old: int, new: int) -> Iterator[list[Cover]]:
    """What has to be covered in the mount namespace of process `pid`, and with what.

    Nothing is covered yet.

    Args:
        pid: the process.
        old: inode number of the network namespace that it is in.
        new: a descriptor of the one that it comes into.

    Raises:
        CannotMove: what it has mounted cannot be made to show that.
    """
    table = Table.of(pid)
    table.refuse_bound(old)
    covers: list[Cover] = []
    if not table.has_sysfs:
        yield covers
        return
    here = HostNamespace()
    try:
        for sysfs in table.sysfs(_device_in(here, pid, old)):
            paths = table.to_cover(sysfs)
            if paths:
                covers.append(Cover(_made_in(here, new, sysfs), sysfs.point, tuple(paths)))
        yield covers
    finally:
        here.close()
        for cover in covers:
            os.close(cover.descriptor)


def _device_in(here: HostNamespace, pid: int, netns: int) -> str:
    """`major:minor` of a sysfs that shows the network namespace `netns` of process `pid`."""
    with open_by_pid([pid], netns) as old, here.left_for(old):
        descriptor = detached.mount("sysfs", ())
    try:
        device = os.fstat(descriptor).st_dev
        return f"{os.major(device)}:{os.minor(device)}"
    finally:
        os.close(descriptor)


def _made_in(here: HostNamespace, netns: int, like: Mount) -> int:
    """A mount of a sysfs that shows the namespace open as `netns`, with the options of `like`."""
    read_only = like.own_options.split(",", 1)[0] == "ro"
    with here.left_for(netns):
        return detached.mount("sysfs", like.options.split(","), read_only=read_only)


@contextmanager
def covered(inside: Inside, covers: Sequence[Cover], numbers: Sequence[int]) -> Iterator[None]:
    """Cover all of them, in the mount namespace of a stopped init; undone if the body raises.

    Args:
        inside: the init.
        covers: what and with what.
        numbers: the descriptors of the `covers` there.

    Raises:
        CannotMove: the kernel refuses one.
    """
    done: list[str] = []
    try:
        for cover, number in zip(covers, numbers, strict=True):
            try:
                _cover(inside, cover, number, done)
            except OSError as error:
                what = f"its mount at {quoted(cover.point)} cannot be covered: {error.strerror}"
                raise CannotMove(what, "leave that mount out") from None
        yield
    except BaseException:
        for path in reversed(done):
            inside.unmount(path)
        raise


def _cover(inside: Inside, cover: Cover, number: int, done: list[str]) -> None:
    """Cover directories of one sysfs.

    Before Linux 6.15 a part can only be cloned of a mount that has a place (`may_copy_tree` in
    `fs/namespace.c`). So the whole one covers the old one for a moment.
    """
    _put(inside, number, cover.point)
    try:
        trees = [inside.open_tree(path) for path in cover.paths]
    finally:
        inside.unmount(cover.point)
    for tree, path in zip(trees, cover.paths, strict=True):
        _put(inside, tree, path)
        done.append(path)


def _put(inside: Inside, tree: int, path: str) -> None:
    at = inside.path(path)
    inside.threads.call(Call.MOVE_MOUNT, tree, inside.empty, _AT_FDCWD, at, _FROM_DESCRIPTOR)
