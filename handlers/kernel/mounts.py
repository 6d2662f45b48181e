"""Mounts: bind, propagation, unmount, and the mount table.

It is a thin binding of mount(2) and umount2(2), because neither Python nor a dependency has one,
and the hot path starts no `mount`. Failures are `OSError` with the kernel's `errno` and the mount
point. What is mounted is read from `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path
from typing import Final

from msgspec import Struct

_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18
_MS_SHARED: Final = 1 << 20
_MNT_DETACH: Final = 2
OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_AT_EMPTY_PATH: Final = 0x1000
AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_UMOUNT_NOFOLLOW: Final = 8
"""`include/uapi/linux/mount.h`, `include/uapi/linux/fcntl.h`, `include/linux/fs.h`."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_ulong,
    ctypes.c_void_p,
)
_libc.umount2.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.open_tree.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.move_mount.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)

_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


class Mount(Struct, frozen=True):
    """One line of `/proc/self/mountinfo`, or of that of another process.

    Attributes:
        id: the mount's number; unique among present mounts.
        parent: the number of the mount below it.
        device: `major:minor` of its filesystem.
        root: the path inside that filesystem that it shows: `/` for a whole filesystem, the
            directory for a bind mount, `net:[4026532201]` for a network namespace.
        point: where it is mounted, as seen from the process's root.
        options: those of the mount, e.g. `ro,nosuid,relatime`.
        propagation: its optional fields, e.g. `("shared:12",)`; empty for a private mount.
        type: the filesystem's type, e.g. `tmpfs`, `nsfs`.
        own_options: those of the filesystem itself, e.g. `rw,size=64k`.
    """

    id: int
    parent: int
    device: str
    root: str
    point: str
    options: str
    propagation: tuple[str, ...]
    type: str
    own_options: str


def bind(source: str, target: str, *, recursive: bool = False) -> None:
    """Bind-mount `source` on `target`, with the mounts below it only if `recursive`.

    `source` may be a namespace file (`/proc/<pid>/ns/net`) or a descriptor (`/proc/self/fd/<n>`).
    `target` must exist, and be a directory if and only if `source` is one. Mounting twice stacks
    two mounts: check with :func:`mount_of` first.
    """
    _mount(source, target, _MS_BIND | (_MS_REC if recursive else 0))


def make_private(target: str) -> None:
    """Stop mounts below the mount point `target` from spreading to its peers, and theirs to it."""
    _mount(None, target, _MS_PRIVATE)


def make_shared(target: str) -> None:
    """Let mounts below the mount point `target` spread to the namespaces copied from this one.

    `EINVAL` if `target` is not a mount point.
    """
    _mount(None, target, _MS_SHARED)


def unmount(target: str, *, lazy: bool = False) -> None:
    """Unmount the topmost mount at `target`, which is not followed if it is a link.

    `EINVAL` if nothing is mounted there, `EBUSY` if it is in use. With `lazy` it is detached at
    once, and ends with its last user.
    """
    flags = _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)
    if _libc.umount2(os.fsencode(target), flags) != 0:
        raise _error(target)


def unmount_at(descriptor: int) -> None:
    """Detach the mount whose top is an open directory; present users keep it.

    `EINVAL` if the directory is not the top of a mount, or the mount is not in this mount
    namespace.
    """
    path = f"/proc/thread-self/fd/{descriptor}"
    if _libc.umount2(os.fsencode(path), _MNT_DETACH) != 0:
        raise _error(os.readlink(path))  # noqa: PTH115


def mounts() -> list[Mount]:
    """Every mount of this process's mount namespace, in the kernel's order."""
    return [parse(line) for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]


def parse(line: bytes) -> Mount:
    """One line of a `mountinfo`."""
    fields = line.split(b" ")
    dash = fields.index(b"-", 6)
    return Mount(
        int(fields[0]),
        int(fields[1]),
        fields[2].decode("ascii"),
        _unescaped(fields[3]),
        _unescaped(fields[4]),
        fields[5].decode("ascii"),
        tuple([field.decode("ascii") for field in fields[6:dash]]),
        _unescaped(fields[dash + 1]),
        os.fsdecode(b" ".join(fields[dash + 3 :])),
    )


def mount_of(path: str) -> Mount:
    """The mount of `path`; `path` is a mount point if `.point` is its real path.

    It asks the kernel by a descriptor, so it is right even if mounts are stacked or hidden. The
    descriptor is `O_PATH`: nothing is opened, and no fanotify event is made.

    Raises:
        FileNotFoundError: `path` is missing.
    """
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return mount_at(descriptor)
    finally:
        os.close(descriptor)


def mount_at(descriptor: int) -> Mount:
    """The mount of an open file or directory, like :func:`mount_of`.

    Raises:
        FileNotFoundError: it was detached, or is outside of this process's root.
    """
    number = mount_id(descriptor)
    found = next((mount for mount in mounts() if mount.id == number), None)
    if found is None:
        path = os.readlink(f"/proc/thread-self/fd/{descriptor}")  # noqa: PTH115
        raise OSError(errno.ENOENT, "is on no mount of this mount namespace", path)
    return found


def mount_id(descriptor: int) -> int:
    """The number of the mount of an open file or directory."""
    with open(f"/proc/thread-self/fdinfo/{descriptor}", encoding="ascii") as info:  # noqa: PTH123
        return int(info.read().partition("mnt_id:")[2].split(maxsplit=1)[0])


def is_top(descriptor: int) -> bool:
    """Whether an open directory is the top of its mount.

    The test is whether its parent is on another mount (path_resolution(7)); no path is looked up.
    False for the directory `/` of this process.
    """
    above = os.open("..", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
    try:
        return mount_id(above) != mount_id(descriptor)
    finally:
        os.close(above)


def bind_itself(directory: int) -> int:
    """Bind-mount an open directory on itself; a descriptor (`O_PATH`) of it on the new mount.

    No path is looked up, so a directory that is moved or replaced meanwhile does not matter.
    Source: open_tree(2), move_mount(2), since Linux 5.2.
    """
    tree = _libc.open_tree(directory, b"", OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH)
    if tree < 0:
        raise _error(os.readlink(f"/proc/thread-self/fd/{directory}"))  # noqa: PTH115
    try:
        move(tree, directory)
    except OSError as error:
        os.close(tree)
        error.filename = os.readlink(f"/proc/thread-self/fd/{directory}")  # noqa: PTH115
        raise
    return int(tree)


def move(tree: int, target: int) -> None:
    """Move a mount that stands nowhere yet over an open file or directory.

    No path is looked up. `ENOENT` if `target` has been removed, `EINVAL` if it is in another mount
    namespace than this thread. Source: move_mount(2), since Linux 5.2.
    """
    both_empty = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    if _libc.move_mount(tree, b"", target, b"", both_empty) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def beneath(directory: str) -> int:
    """A descriptor (`O_PATH`) of `directory` without anything that is mounted in it.

    It shows the files that mounts cover.
    """
    return clone(directory)


def clone(path: str, *, follow: bool = True) -> int:
    """A descriptor (`O_PATH`) of a new mount of `path`, which ends with it unless it is moved.

    It has nothing of what is mounted in `path`. Source: open_tree(2), since Linux 5.2.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | (0 if follow else _AT_SYMLINK_NOFOLLOW)
    tree = _libc.open_tree(AT_FDCWD, os.fsencode(path), flags)
    if tree < 0:
        raise _error(path)
    return int(tree)


def _mount(source: str | None, target: str, flags: int) -> None:
    what = None if source is None else source.encode(errors="surrogateescape")
    where = target.encode(errors="surrogateescape")  # `os.fsencode` takes longer
    if _libc.mount(what, where, None, flags, None) != 0:
        raise _error(target)


def _error(target: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), target)


def _unescaped(field: bytes) -> str:
    r"""`field` with its octal escapes (`\040` for a space, `fs/proc_namespace.c`) undone."""
    if b"\\" in field:
        field = _ESCAPED.sub(lambda m: bytes((int(m[1], 8),)), field)
    return os.fsdecode(field)
