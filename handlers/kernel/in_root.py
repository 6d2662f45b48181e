"""Opens a file inside another root directory, as a process there would. Source: openat2(2)."""

from __future__ import annotations

import errno
import os
from typing import Final

from handlers.kernel.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, how, openat2

_HOW: Final = how(os.O_PATH | os.O_CLOEXEC, RESOLVE_NO_MAGICLINKS | RESOLVE_IN_ROOT)
_TRIES: Final = 8


def open_in_root(root: int, path: str) -> int:
    """A descriptor (`O_PATH`) of `path` below the directory open as `root`.

    Links are followed, but none leads out of `root`, and those of `/proc` that lead to a process's
    own files are refused.

    Raises:
        OSError: it is missing, or cannot be reached so.
    """
    for _ in range(_TRIES):
        try:
            return openat2(root, path, _HOW)
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a part of the path is just being renamed
                raise
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)
