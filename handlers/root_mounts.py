"""Makes each root a mount of its own, because the gate marks mounts.

A root is bind-mounted on itself and made private. It remains the same directory under the same
name, so its users do not notice. Nothing is stored: a mount is ours if it is private and shows the
directory that it covers. A root that is a mount point already (a tmpfs, or a bind mount of another
directory) is used as it is and never unmounted.

Everything works by descriptor, because a path may be replaced at any moment
(:mod:`handlers.kernel.rootpath`).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from msgspec import Struct

from handlers.kernel import mounts, rootpath
from watcher.model.errors import WatcherError, quoted

_NOTHING_SAID: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM))
"""Errors that say nothing about the path."""


class OpenRoot(Struct, frozen=True):
    """An open root, wherever its path leads now; :func:`release` closes it.

    Attributes:
        path: its configured path.
        descriptor: its directory (`O_PATH`), on its own mount if it has one.
        identity: device and inode of the directory.
        mount: the number of the root's own mount, if it has one.
        whole: whether that mount shows a whole file system, which is mounted nowhere else.
        made: whether :func:`hold` has just mounted it.
    """

    path: str
    descriptor: int
    identity: tuple[int, int]
    mount: int | None = None
    whole: bool = False
    made: bool = False


def take(path: str, *, make: bool = True) -> OpenRoot:
    """Open the root `path`, and make it if it is missing and `make`; do not mount it.

    Raises:
        OSError: it cannot be made or opened, or its path has a link that must not be followed.
    """
    descriptor = rootpath.open_directory(path, make=make)
    return OpenRoot(path, descriptor, rootpath.identity(descriptor))


def hold(path: str, *, make: bool = True) -> OpenRoot:
    """Open the root `path`, and make it a mount point, and a directory if `make`.

    Raises:
        WatcherError: as :func:`refuse`.
        OSError: as :func:`take`, or the kernel refused the mount.
    """
    directory = rootpath.open_directory(path, make=make)
    try:
        refuse(path, directory)
        if mounts.is_top(directory):
            mount = mounts.mount_at(directory)
            found = OpenRoot(
                path, directory, rootpath.identity(directory), mount.id, _is_whole(mount)
            )
            directory = -1
            return found
        own = mounts.bind_itself(directory)
        try:
            mounts.make_private(f"/proc/self/fd/{own}")
        except OSError:
            mounts.unmount_at(own)
            os.close(own)
            raise
        return OpenRoot(path, own, rootpath.identity(own), mounts.mount_id(own), made=True)
    finally:
        if directory >= 0:
            os.close(directory)


def refuse(path: str, directory: int) -> None:
    """Raise WatcherError if the open `directory` of the root `path` cannot be held.

    It is a user's own, or it can be no mount: it is `/`, or a mount below it would be hidden.
    """
    owner = os.fstat(directory).st_uid
    if owner != 0:
        # That user's runtimes may be in a mount namespace without the mount, and the user could no
        # longer remove the directory.
        raise WatcherError(
            f"root {quoted(path)} cannot be held, for it is user {owner}'s own",
            "expect the network a moment after the start there",
        )
    if mounts.is_top(directory):
        return
    real = rootpath.path_of(directory)
    if real == "/":
        raise WatcherError(
            f"root {quoted(path)} is the host's whole file system", "set another path"
        )
    below = next((m.point for m in mounts.mounts() if m.point.startswith(f"{real}/")), None)
    if below is not None:
        raise WatcherError(
            f"root {quoted(path)} cannot be held, for {quoted(below)} is mounted below it",
            "unmount that, or choose another root",
        )


def release(root: OpenRoot) -> None:
    """Close `root`, and undo :func:`hold`, even that of another process."""
    try:
        if root.mount is not None and _is_ours(root.descriptor):
            mounts.unmount_at(root.descriptor)
    finally:
        os.close(root.descriptor)


def take_back(path: str) -> bool:
    """Undo :func:`hold`; the directory and open files below it stay.

    Returns:
        Whether a mount of ours was removed.

    Raises:
        OSError: out of descriptors or memory, so the answer is unknown.
    """
    return _if_ours(path, mounts.unmount_at)


def is_ours(path: str) -> bool:
    """Whether :func:`hold`, in any process, made the topmost mount at `path`.

    Raises:
        OSError: out of descriptors or memory, so the answer is unknown.
    """
    return _if_ours(path, lambda _: None)


def _if_ours(path: str, do: Callable[[int], None]) -> bool:
    """Whether the topmost mount at `path` is ours; if so, call `do` with its open directory."""
    try:
        with rootpath.opened(path) as directory:
            ours = _is_ours(directory)
            if ours:
                do(directory)
            return ours
    except OSError as error:
        if error.errno in _NOTHING_SAID:
            raise
        return False


def is_whole(directory: int) -> bool:
    """Whether an open directory is the top of a file system of its own.

    A mark on such a file system covers every mount namespace (fanotify_mark(2),
    FAN_MARK_FILESYSTEM).
    """
    return mounts.is_top(directory) and _is_whole(mounts.mount_at(directory))


def _is_whole(mount: mounts.Mount) -> bool:
    """Whether `mount` shows the top of its file system, and no other mount here does."""
    return mount.root == "/" and all(
        other.device != mount.device or other.id == mount.id for other in mounts.mounts()
    )


def _is_ours(directory: int) -> bool:
    if not mounts.is_top(directory):
        return False
    try:
        mount = mounts.mount_at(directory)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False  # it was unmounted
    others = mounts.mounts()
    if mount.propagation or any(other.parent == mount.id for other in others):
        return False  # a mount on it would be removed too
    covered = next((other for other in others if other.id == mount.parent), None)
    return (
        covered is not None
        and covered.point != mount.point  # a mount stacked on another is not ours
        and covered.device == mount.device
        and _shown_at(covered, mount.point) == mount.root
    )


def _shown_at(mount: mounts.Mount, path: str) -> str:
    """The path inside its file system that `mount` shows at `path`, which is below its point."""
    return str(Path(mount.root) / Path(path).relative_to(mount.point))
