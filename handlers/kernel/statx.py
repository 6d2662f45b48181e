"""What a file is, and whether something is mounted there. Source: statx(2), since Linux 5.8.

Python has no `os.statx` before 3.15.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from typing import Final, NamedTuple

_AT_EMPTY_PATH: Final = 0x1000
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_STATX_DONT_SYNC: Final = 0x4000
_FLAGS: Final = _AT_EMPTY_PATH | _AT_SYMLINK_NOFOLLOW | _AT_STATX_DONT_SYNC
TYPE: Final = 0x1
MNT_ID_UNIQUE: Final = 0x4000
_INO: Final = 0x100
_MNT_ID: Final = 0x1000
_MASK: Final = TYPE | _INO | _MNT_ID
_ATTR_MOUNT_ROOT: Final = 0x2000
"""`include/uapi/linux/stat.h`, `include/uapi/linux/fcntl.h`."""

_Buffer: Final = ctypes.c_char * 256
"""`struct statx`."""
_STATX: Final = struct.Struct("=I4xQ12xH2xQ96xIIQ")
"""`stx_mask`, `stx_attributes`, `stx_mode`, `stx_ino`, `stx_dev_major`, `stx_dev_minor` and
`stx_mnt_id` of `struct statx`."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.statx.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_void_p,
)


class Status(NamedTuple):
    """An open file.

    Attributes:
        mode: its kind and mode (inode(7)).
        device, inode: which file of which file system it is.
        mount: the number of its mount, as in :class:`.mounts.Mount`.
        is_top: whether it is what is mounted there.
    """

    mode: int
    device: str
    inode: int
    mount: int
    is_top: bool

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)


def status(descriptor: int) -> Status:
    """What the open file `descriptor` is; its file system is not asked anew.

    Raises:
        OSError: the kernel does not tell.
    """
    told = statx(descriptor, "", _MASK)
    _, attributes, mode, inode, major, minor, mount = _STATX.unpack_from(told)
    return Status(mode, f"{major}:{minor}", inode, mount, bool(attributes & _ATTR_MOUNT_ROOT))


def statx(directory: int, name: str, mask: int) -> ctypes.Array[ctypes.c_char]:
    """The `struct statx` of `name` in an open directory, or of what is open itself.

    Links are not followed. No other file system is asked than that of `directory`, and that one
    only for names.

    Raises:
        OSError: it is missing, or the kernel does not tell.
    """
    buffer = _Buffer()
    if _libc.statx(directory, os.fsencode(name), _FLAGS, mask, buffer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return buffer
