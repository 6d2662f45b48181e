"""A read-only mount of one file that stands nowhere yet. Source: mount_setattr(2), Linux 5.12."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from handlers.kernel import mounts

_AT_EMPTY_PATH: Final = 0x1000
_ATTR_RDONLY: Final = 0x1
_ATTR_NOSUID: Final = 0x2
_ATTR_NODEV: Final = 0x4
_ATTR_NOEXEC: Final = 0x8
_MS_PRIVATE: Final = 1 << 18
"""`include/uapi/linux/mount.h`, `include/uapi/linux/fcntl.h`, `include/linux/fs.h`."""

_SYS_MOUNT_SETATTR: Final = 442
"""The same on every architecture; glibc has a function for it since 2.36."""

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
    tree = mounts.clone(path, follow=False)
    size = ctypes.sizeof(_ATTRIBUTES)
    if _mount_setattr(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, _ATTRIBUTES, size) != 0:
        number = ctypes.get_errno()
        os.close(tree)
        raise OSError(number, os.strerror(number), path)
    return tree
