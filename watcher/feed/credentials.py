"""Who is at the other end of a Unix socket; the kernel says it."""

from __future__ import annotations

import struct
from socket import SO_PEERCRED, SOL_SOCKET
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

CREDENTIALS: Final = struct.Struct("iII")
"""struct ucred: pid, uid, gid. Source: unix(7)."""


def user_of(connection: socket.socket) -> int:
    """The number of the user who has connected."""
    _, user, _ = CREDENTIALS.unpack(
        connection.getsockopt(SOL_SOCKET, SO_PEERCRED, CREDENTIALS.size)
    )
    assert isinstance(user, int)
    return user
