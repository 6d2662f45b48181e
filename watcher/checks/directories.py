"""The directories of the configuration, and the roots."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from handlers import root_mounts
from handlers.kernel import mounts, rootpath
from watcher.checks.check import Finding, Subject, fail, ok, warn
from watcher.config.patterns import is_pattern
from watcher.containers.files import Unreadable
from watcher.containers.present import matched, present
from watcher.model.errors import message_of, quoted

_REMOTE: Final = frozenset(
    ("9p", "afs", "ceph", "cifs", "coda", "glusterfs", "lustre", "nfs", "nfs4", "smb3")
)
"""Types of file systems that another machine may have a part of (`/proc/filesystems`)."""

_ROOM: Final = 16 << 20
"""Bytes of free space below which the check warns; thousands of leases take as much."""

_MODES: Final = {
    "state_dir": (0o077, "look into it", "700"),
    "run_dir": (0o022, "make files in it", "755"),
}
"""By key: the bits that the mode must not have, what they allow, and the mode to have."""


def findings(subject: Subject) -> Iterator[Finding]:
    """What is wrong with each directory, or that nothing is."""
    for key in ("state_dir", "run_dir", "netns_dir"):
        path = getattr(subject.config, key)
        wrong = list(_of_directory(key, path))
        yield from wrong or [ok(f"{key} = {path}: {_seen(path)}")]
    for root in subject.config.roots:
        if is_pattern(root.path):
            yield replace(_of_pattern(root.path), check="roots")
    for root in present(subject.config.roots):
        yield replace(_of_root(root.path), check="roots")


def _of_directory(key: str, path: str) -> Iterator[Finding]:
    where = f"{key} = {quoted(path)}"
    there = _existing(path)
    if not there.is_dir():
        yield fail(f"{where}: {there} is not a directory", f"remove it, or set {key}")
        return
    space = os.statvfs(there)
    if space.f_flag & os.ST_RDONLY or not os.access(there, os.W_OK | os.X_OK):
        how = "mounted read-only" if space.f_flag & os.ST_RDONLY else "not writable"
        yield fail(
            f"{where}: {there} is {how}",
            f"make it writable, or set {key} to a directory that is",
        )
        return
    kind = mounts.mount_of(str(there)).type
    if kind in _REMOTE or kind.startswith("fuse."):
        yield fail(
            f"{where}: it is on {kind}, where locks and memory are not shared as they must be",
            f"set {key} to a directory on a local filesystem",
        )
    if space.f_blocks and space.f_bavail * space.f_frsize < _ROOM:
        yield warn(f"{where}: less than 16 MiB are left there", "free some space")
    forbidden, what, right = _MODES.get(key, (0, "", ""))
    mode = stat.S_IMODE(there.stat().st_mode)
    if str(there) == path and mode & forbidden:
        yield warn(
            f"{where}: others than root may {what} (mode {mode:04o})",
            f"run `chmod {right} {path}`",
        )


def _of_pattern(pattern: str) -> Finding:
    try:
        found = len(matched(pattern))
    except Unreadable as error:
        return warn(error.what, error.remedy)
    return ok(
        f"root {quoted(pattern)} matches {found} {'directory' if found == 1 else 'directories'}"
    )


def _of_root(path: str) -> Finding:
    where = f"root {quoted(path)}"
    steps = rootpath.walk(path)
    above, name = -1, ""
    try:
        while True:
            try:
                directory, name = next(steps)
            except StopIteration as end:
                return _of_opened(where, path, end.value)
            if above >= 0:
                os.close(above)
            above = os.dup(directory)
    except rootpath.UntrustedLinkError as error:
        return fail(
            f"{where} is left alone: {message_of(error)}",
            "make the directory that holds it root's own, or set the path that it leads to",
        )
    except FileNotFoundError:
        return _of_missing(where, above, name)
    except NotADirectoryError:
        return fail(f"{where}: {_existing(path)} is not a directory",
            "remove it, or set another path",
        )  # fmt: skip
    finally:
        if above >= 0:
            os.close(above)


def _of_opened(where: str, path: str, directory: int) -> Finding:
    try:
        if not os.access(f"/proc/self/fd/{directory}", os.R_OK | os.X_OK):
            return fail(f"{where} cannot be listed", "run as root")
        if mounts.is_top(directory) and not root_mounts.is_ours(path):
            kind = mounts.mount_at(directory).type
            return ok(f"{where} is a mount of its own ({kind}), which is used as it is")
        return ok(f"{where} is there")
    finally:
        os.close(directory)


def _of_missing(where: str, above: int, name: str) -> Finding:
    """The finding for a missing root: whether its `name` can be made in the directory `above`."""
    if rootpath.may_make(above, name):
        return ok(f"{where} is not there yet, and will be made")
    owner = os.fstat(above).st_uid
    why = f"which is user {owner}'s" if owner else "where a session manager makes it"
    return warn(
        f"{where} is not there, and is not made in {quoted(rootpath.path_of(above))}, {why}; it is"
        " left alone until then",
        "have its engine make it, or set another path",
    )


def _existing(path: str) -> Path:
    """`path`, or the nearest existing directory above it."""
    found = Path(path)
    while not os.path.lexists(found):
        found = found.parent
    return found


def _seen(path: str) -> str:
    return "writable" if Path(path).is_dir() else "not there yet, and can be made"
