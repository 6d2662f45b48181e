"""The directories of the configuration, and the roots."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from handlers import mounts, rootmount
from watcher.checks.finding import Finding, fail, ok, warn
from watcher.errors import quoted

if TYPE_CHECKING:
    from watcher.config import Config

_REMOTE: Final = frozenset(
    ("9p", "afs", "ceph", "cifs", "coda", "glusterfs", "lustre", "nfs", "nfs4", "smb3")
)
"""Types of filesystems of which another machine may hold a part (`/proc/filesystems`)."""

_ROOM: Final = 16 << 20
"""Bytes of free space below which it is told: thousands of leases take as much."""


def findings(config: Config) -> Iterator[Finding]:
    """What is wrong with a directory, or that it is as it should be."""
    for key in ("state_dir", "run_dir", "netns_dir"):
        path = getattr(config, key)
        wrong = list(_of_directory(key, path, private=key != "netns_dir"))
        yield from wrong or [ok("directories", f"{key} = {path}: {_seen(path)}")]
    for root in config.roots:
        yield _of_root(root.path)


def _of_directory(key: str, path: str, *, private: bool) -> Iterator[Finding]:
    where = f"{key} = {quoted(path)}"
    there = _existing(path)
    if not there.is_dir():
        yield fail(
            "directories", f"{where}: {there} is not a directory", f"remove it, or set {key}"
        )
        return
    space = os.statvfs(there)
    if space.f_flag & os.ST_RDONLY or not os.access(there, os.W_OK | os.X_OK):
        how = "mounted read-only" if space.f_flag & os.ST_RDONLY else "not writable"
        yield fail(
            "directories",
            f"{where}: {there} is {how}",
            f"make it writable, or set {key} to a directory that is",
        )
        return
    kind = mounts.mount_of(str(there)).type
    if kind in _REMOTE or kind.startswith("fuse."):
        yield fail(
            "directories",
            f"{where}: it is on {kind}, where locks and memory are not shared as they must be",
            f"set {key} to a directory on a local filesystem",
        )
    if space.f_blocks and space.f_bavail * space.f_frsize < _ROOM:
        yield warn("directories", f"{where}: less than 16 MiB are left there", "free some space")
    if private and str(there) == path and there.stat().st_mode & 0o077:
        mode = stat.S_IMODE(there.stat().st_mode)
        yield warn(
            "directories",
            f"{where}: others than root may look into it (mode {mode:04o})",
            f"run `chmod 700 {path}`",
        )


def _of_root(path: str) -> Finding:
    where = f"root {quoted(path)}"
    there = _existing(path)
    if not there.is_dir():
        return fail(
            "roots", f"{where}: {there} is not a directory", "remove it, or set another path"
        )
    if str(there) != path:
        return ok("roots", f"{where} is not there yet, and will be made")
    if not os.access(there, os.R_OK | os.X_OK):
        return fail("roots", f"{where} cannot be listed", "run as root")
    if mounts.is_mount_point(path) and not rootmount.is_ours(path):
        kind = mounts.mount_of(path).type
        return ok("roots", f"{where} is a mount of its own ({kind}), which is used as it is")
    return ok("roots", f"{where} is there")


def _existing(path: str) -> Path:
    """`path`, or the nearest above it that is there."""
    found = Path(path)
    while not os.path.lexists(found):
        found = found.parent
    return found


def _seen(path: str) -> str:
    return "writable" if Path(path).is_dir() else "not there yet, and can be made"
