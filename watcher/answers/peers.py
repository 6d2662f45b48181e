"""Who may tell answers: the name service, and nobody else of its group."""

from __future__ import annotations

import os
import socket
import stat
from typing import Final

from watcher.feed.credentials import user_of

_OF_NAMES: Final = "names"
"""The directory in `run_dir` that the unit of the name service makes for its user."""


def may_tell(peer: socket.socket, run_dir: str) -> bool:
    """Whether the kernel says that `peer` is of this user (root), or of the name service's.

    That one is who owns `run_dir`/names; in `run_dir`, only this user can make it.
    """
    return user_of(peer) in (os.geteuid(), _owner(f"{run_dir}/{_OF_NAMES}"))


def _owner(path: str) -> int | None:
    try:
        there = os.lstat(path)
    except OSError:
        return None
    return there.st_uid if stat.S_ISDIR(there.st_mode) else None
