"""Roots as mounts: the gate marks a root's own mount, so a root must be one.

A root is bind-mounted on itself and made private: the same directory under the same name, and
nothing that uses it can tell. The kernel is the memory: a mount is ours where it shows, privately,
the very directory that it covers. A root that is a mount point for reasons of its own, a tmpfs or a
bind mount of another directory, is used as it is and never taken back.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from handlers import mounts
from watcher.errors import WatcherError, quoted

_MODE: Final = 0o700
"""As runc makes a root that is not there (`libcontainer/factory_linux.go`)."""


def hold(path: str) -> bool:
    """Make the root `path` a mount point, and first of all a directory, where it is not.

    Returns:
        Whether it was made now; false where it was found.

    Raises:
        WatcherError: something is mounted below `path`, which a mount of ours would hide.
        OSError: the directory cannot be made, or the kernel refuses the mount.
    """
    Path(path).mkdir(mode=_MODE, parents=True, exist_ok=True)
    real = os.path.realpath(path)
    found = mounts.mount_of(real)
    if found.point == real:
        return False
    below = next((m.point for m in mounts.mounts() if m.point.startswith(f"{real}/")), None)
    if below is not None:
        raise WatcherError(
            f"root {quoted(path)} cannot be a mount: {quoted(below)} is mounted below it",
            'choose another root, or set mode = "off" in [gate]',
        )
    mounts.bind(real, real)
    mounts.make_private(real)
    return True


def take_back(path: str) -> bool:
    """Undo :meth:`hold`: the directory stays, and who has files open below it keeps them.

    Returns:
        Whether a mount of ours was there, and is no more.

    Raises:
        OSError: the kernel refuses.
    """
    real = os.path.realpath(path)
    if not is_ours(real):
        return False
    try:
        mounts.unmount(real)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        mounts.unmount(real, lazy=True)
    return True


def is_ours(path: str) -> bool:
    """Whether the topmost mount at `path` is one that :func:`hold` made, by whichever process."""
    real = os.path.realpath(path)
    with suppress(FileNotFoundError):
        mount = mounts.mount_of(real)
        if mount.point != real or mount.propagation:
            return False
        covered = next((m for m in mounts.mounts() if m.id == mount.parent), None)
        return (
            covered is not None
            and covered.point != real  # a second one on top of another is not ours
            and covered.device == mount.device
            and _shown_at(covered, real) == mount.root
        )
    return False


def _shown_at(mount: mounts.Mount, path: str) -> str:
    """The path inside its filesystem of what `mount` shows at `path`, which is below its point."""
    return str(Path(mount.root) / Path(path).relative_to(mount.point))
