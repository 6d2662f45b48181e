"""Opens a file inside another root directory, as a process there would. Source: openat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_OPENAT2: Final = 437
"""`__NR_openat2`, the same on every architecture; since Linux 5.6."""

_RESOLVE_NO_MAGICLINKS: Final = 0x02
_RESOLVE_IN_ROOT: Final = 0x10
_HOW: Final = (ctypes.c_uint64 * 3)(
    os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_MAGICLINKS | _RESOLVE_IN_ROOT
)
_TRIES: Final = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_void_p,
    ctypes.c_size_t,
)


def open_in_root(root: int, path: str) -> int:
    """A descriptor (`O_PATH`) of `path` below the directory open as `root`.

    Links are followed, but none leads out of `root`, and those of `/proc` that lead to a process's
    own files are refused.

    Raises:
        OSError: it is missing, or cannot be reached so.
    """
    for _ in range(_TRIES):
        found: int = _libc.syscall(_OPENAT2, root, os.fsencode(path), _HOW, ctypes.sizeof(_HOW))
        if found >= 0:
            return found
        number = ctypes.get_errno()
        if number != errno.EAGAIN:  # a part of the path is just being renamed
            break
    raise OSError(number, os.strerror(number), path)
