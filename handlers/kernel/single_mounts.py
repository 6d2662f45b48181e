"""A mount of one file that stands nowhere yet, and the move of it to a place.

Sources: open_tree(2), move_mount(2), since Linux 5.2; mount_setattr(2), since Linux 5.12.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

from handlers.kernel.mounts import AT_FDCWD, OPEN_TREE_CLONE

_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_EMPTY_PATH: Final = 0x1000
_ATTR_RDONLY: Final = 0x1
_ATTR_NOSUID: Final = 0x2
_ATTR_NODEV: Final = 0x4
_ATTR_NOEXEC: Final = 0x8
_MS_PRIVATE: Final = 1 << 18
_BOTH_EMPTY: Final = 0x04 | 0x40
"""MOVE_MOUNT_F_EMPTY_PATH and MOVE_MOUNT_T_EMPTY_PATH; all of `include/uapi/linux/mount.h`."""

_SYS_MOUNT_SETATTR: Final = 442
"""The same on every architecture; glibc has a function for it since 2.36."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.open_tree.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_libc.move_mount.argtypes = (
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
)
_mount_setattr = ctypes.CDLL(None, use_errno=True).syscall
_mount_setattr.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_uint,
    ctypes.c_void_p,
    ctypes.c_size_t,
)

_ATTRIBUTES: Final = (ctypes.c_uint64 * 4)(
    _ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV | _ATTR_NOEXEC, 0, _MS_PRIVATE, 0
)
"""struct mount_attr: attr_set, attr_clr, propagation, userns_fd."""


def read_only(path: str) -> int:
    """A descriptor of a new read-only mount of the file `path`, which ends with it unless moved.

    It is private: a copy of a shared mount is its peer, and then whatever somebody mounts on the
    one appears on the other (mount_namespaces(7)).

    Raises:
        OSError: it is missing, or the kernel refuses.
    """
    flags = OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_SYMLINK_NOFOLLOW
    tree = _checked(_libc.open_tree(AT_FDCWD, os.fsencode(path), flags), path)
    try:
        size = ctypes.sizeof(_ATTRIBUTES)
        done = _mount_setattr(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, _ATTRIBUTES, size)
        _checked(done, path)
    except BaseException:
        os.close(tree)
        raise
    return tree


def move(tree: int, target: int) -> None:
    """Move such a mount over the open file `target`, whose mount namespace this thread is in.

    Raises:
        OSError: ENOENT if the file has been removed; EINVAL if it is in another mount namespace.
    """
    _checked(_libc.move_mount(tree, b"", target, b"", _BOTH_EMPTY), None)


def _checked(result: int, path: str | None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
