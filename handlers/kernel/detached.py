"""A new mount of a file system that is mounted nowhere: no path is looked up, and nobody sees it.

Sources: fsopen(2), fsconfig(2), fsmount(2), open_tree(2), since Linux 5.2.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final

from handlers.kernel.mounts import OPEN_TREE_CLONE

if TYPE_CHECKING:
    from collections.abc import Collection

_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_SET_FLAG: Final = 0
_SET_STRING: Final = 1
_CMD_CREATE: Final = 6
_ATTRIBUTES: Final = {
    "ro": 0x1,
    "nosuid": 0x2,
    "nodev": 0x4,
    "noexec": 0x8,
    "noatime": 0x10,
    "nodiratime": 0x80,
    "nosymfollow": 0x200000,
}
_STRICTATIME: Final = 0x20
"""`include/uapi/linux/mount.h`."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fsopen.argtypes = (ctypes.c_char_p, ctypes.c_uint)
_libc.fsconfig.argtypes = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_int,
)
_libc.fsmount.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint)
_libc.open_tree.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)


def mount(type_: str, options: Collection[str], *, read_only: bool = False) -> int:
    """A descriptor (`O_PATH`) of a new mount, which ends with it unless it is moved to a place.

    Its source is called like its type.

    A sysfs shows the network namespace of the calling thread.

    Args:
        type_: the file system's type.
        options: those of the mount, as :class:`.mounts.Mount` has them.
        read_only: whether the file system itself is to be read-only.
    """
    context = _checked(_libc.fsopen(type_.encode(), _FSOPEN_CLOEXEC), type_)
    try:
        source = ctypes.create_string_buffer(type_.encode())
        _checked(_libc.fsconfig(context, _SET_STRING, b"source", source, 0), type_)
        if read_only:
            _checked(_libc.fsconfig(context, _SET_FLAG, b"ro", None, 0), type_)
        _checked(_libc.fsconfig(context, _CMD_CREATE, None, None, 0), type_)
        return _checked(_libc.fsmount(context, _FSMOUNT_CLOEXEC, _attributes(options)), type_)
    finally:
        os.close(context)


def part(mount: int, path: str) -> int | None:
    """A descriptor of a new mount of the directory `path` of such a `mount`, which is a new one.

    Only a kernel since Linux 6.15 makes it before the `mount` has a place (`may_copy_tree` in
    `fs/namespace.c`); `None` if this one does not.
    """
    tree = _libc.open_tree(mount, path.encode(), OPEN_TREE_CLONE | os.O_CLOEXEC)
    if tree < 0 and ctypes.get_errno() == errno.EINVAL:
        return None
    return _checked(tree, path)


def _attributes(options: Collection[str]) -> int:
    attributes = sum(_ATTRIBUTES.get(option, 0) for option in options)
    if "noatime" not in options and "relatime" not in options:
        attributes |= _STRICTATIME
    return attributes


def _checked(result: int, type_: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), type_)
    return result
