"""Who may tell answers: the name service, and nobody else of its group."""

from __future__ import annotations

import os
import socket
import stat
import struct
from typing import Final

_OF_NAMES: Final = "names"
"""The directory in `run_dir` that the unit of the name service makes for its user."""

_CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid. Source: unix(7)."""


def may_tell(peer: socket.socket, run_dir: str) -> bool:
    """Whether the kernel says that `peer` is of this user (root), or of the name service's.

    That one is who owns `run_dir`/names; in `run_dir`, only this user can make it.
    """
    option = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, user, _ = _CREDENTIALS.unpack(option)
    return user in (os.geteuid(), _owner(f"{run_dir}/{_OF_NAMES}"))


def _owner(path: str) -> int | None:
    try:
        there = os.lstat(path)
    except OSError:
        return None
    return there.st_uid if stat.S_ISDIR(there.st_mode) else None
