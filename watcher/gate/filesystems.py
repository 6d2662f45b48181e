"""File systems that always answer, because they need no other machine or program.

To read a file on a FUSE or network file system may take for ever. `statmount(2)` (Linux 6.8) gives
the type of a mount without asking the file system itself, as `statfs(2)` would.
"""

from __future__ import annotations

import ctypes
import stat
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from handlers.kernel.statx import MNT_ID_UNIQUE, TYPE, statx

_PROMPT: Final = frozenset(
    (
        0x01021994,  # tmpfs
        0x858458F6,  # ramfs
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # xfs
        0x9123683E,  # btrfs
        0xF2F52010,  # f2fs
        0x2FC12FC1,  # zfs
        0xE0F5E1E2,  # erofs
        0x73717368,  # squashfs
    )
)
"""From `include/uapi/linux/magic.h`. Overlays are left out: their layers may be of any kind."""

_SYS_STATMOUNT: Final = 457
_STATMOUNT_SB_BASIC: Final = 0x1

_STATX: Final = struct.Struct("=I24xH114xQ")
"""`stx_mask`, `stx_mode` and `stx_mnt_id` of `struct statx`."""

_MOUNT_SIZE: Final = 512
_MOUNT_MAGIC: Final = 24
"""The offset of `sb_magic` in `struct statmount`."""

_STATFS_SIZE: Final = 256
"""More than `struct statfs` takes; its first field is `f_type` (statfs(2))."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _MountIdRequest(ctypes.Structure):
    """struct mnt_id_req of `include/uapi/linux/mount.h`."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("spare", ctypes.c_uint32),
        ("mnt_id", ctypes.c_uint64),
        ("param", ctypes.c_uint64),
    )


_PLAIN: Final = _PROMPT | {
    0x794C7630,  # overlay
    0xCA451A4E,  # bcachefs
    0x4D44,  # vfat
    0x2011BAB0,  # exfat
    0x6969,  # nfs
    0xFE534D42,  # smb2 and later
    0x00C36400,  # ceph
    0x01021997,  # 9p
}
"""Those whose files are only data: a write to one of `/proc` or `/sys` would be an order.

FUSE is left out, because anybody may serve that.
"""


class Seen(NamedTuple):
    """The target of a name: its mount's number, which is never reused, and its mode (inode(7))."""

    mount: int
    mode: int

    @property
    def link(self) -> bool:
        """Whether it is a link."""
        return stat.S_ISLNK(self.mode)


def look(directory: int, name: str = "") -> Seen | None:
    """Look at `name` in the open `directory`, or at the open file itself.

    It asks no other file system than that of `directory`, and that one only for names.

    Returns:
        `None` if it is missing or the kernel is too old.
    """
    try:
        told = statx(directory, name, TYPE | MNT_ID_UNIQUE)
    except OSError:
        return None
    got, mode, mount = _STATX.unpack_from(told)
    return Seen(mount, mode) if got & MNT_ID_UNIQUE else None


def is_prompt_at(directory: int) -> bool:
    """Whether reads in an open directory never wait for another machine or program."""
    seen = look(directory)
    return seen is not None and is_prompt(seen.mount)


def is_prompt(mount: int) -> bool:
    """Whether reads on that mount of this mount namespace never wait for others.

    False if that is unknown.
    """
    return _magic(mount) in _PROMPT


def is_plain_at(descriptor: int) -> bool:
    """Whether an open file is on a file system whose files are only data.

    It may take for ever if the file was opened in another mount namespace: `statmount` does not
    know that mount, so the file system itself is asked.
    """
    seen = look(descriptor)
    magic = 0 if seen is None else _magic(seen.mount)
    if magic == 0:
        buffer = ctypes.create_string_buffer(_STATFS_SIZE)
        if _libc.fstatfs(ctypes.c_int(descriptor), buffer) == 0:
            magic = ctypes.c_long.from_buffer(buffer).value
    return magic in _PLAIN


@lru_cache(1024)
def _magic(mount: int) -> int:
    """The type of the file system of that mount; 0 if that is unknown."""
    request = _MountIdRequest(ctypes.sizeof(_MountIdRequest), 0, mount, _STATMOUNT_SB_BASIC)
    buffer = ctypes.create_string_buffer(_MOUNT_SIZE)
    number = ctypes.c_long(_SYS_STATMOUNT)
    size = ctypes.c_size_t(_MOUNT_SIZE)
    if _libc.syscall(number, ctypes.byref(request), buffer, size, ctypes.c_uint(0)) != 0:
        return 0
    return ctypes.c_uint64.from_buffer(buffer, _MOUNT_MAGIC).value
