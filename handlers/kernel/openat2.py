"""Opens a path with rules for the links on it: openat2(2), which glibc 2.41 has no call for."""

from __future__ import annotations

import ctypes
import os
from typing import Final

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_IN_ROOT: Final = 0x10
"""The rules. Source: `include/uapi/linux/openat2.h`."""

_OPENAT2: Final = 437
"""`__NR_openat2`, the same on every architecture; since Linux 5.6."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
)

type How = ctypes.Array[ctypes.c_uint64]
"""struct open_how: flags, mode and rules."""


def how(flags: int, resolve: int) -> How:
    """An argument of :func:`openat2`, to be made once."""
    return (ctypes.c_uint64 * 3)(flags, 0, resolve)


def openat2(directory: int, path: str, how: How) -> int:
    """A descriptor of `path`, which if it is relative begins in the open `directory`.

    Raises:
        OSError: it is missing, or `how` does not allow it.
    """
    found: int = _libc.syscall(_OPENAT2, directory, os.fsencode(path), how, ctypes.sizeof(how))
    if found < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return found
