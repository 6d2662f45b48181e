"""Asks a name server (RFC 1035) for what every one of them can find out: the root's servers."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from handlers.kernel.probes.probe import Probe

if TYPE_CHECKING:
    from watcher.model.address import Address

PORT: Final = 53

HEADER: Final = struct.Struct("!HHHHHH")
RECURSIVE: Final = 0x0100
IS_ANSWER: Final = 0x8000
_ROOT_NS: Final = b"\0" + struct.pack("!HH", 2, 1)
"""The question: name `.`, type NS, class IN."""

CODES: Final = ("NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED")


class NameQuery(Probe):
    """A query by UDP to `server`; the answer is the response code, by its name.

    Args:
        server: its address.
        scope: the number of its interface, if the address is of one link only.
    """

    def __init__(self, server: Address, scope: int = 0) -> None:
        is_4 = server.version == 4
        super().__init__(socket.AF_INET if is_4 else socket.AF_INET6, socket.SOCK_DGRAM)
        host = str(server).partition("%")[0]
        self._to: tuple[str, int] | tuple[str, int, int, int]
        self._to = (host, PORT) if is_4 else (host, PORT, 0, scope)
        self._id = int.from_bytes(os.urandom(2))

    def _prepare(self, sock: socket.socket) -> None:
        sock.connect(self._to)

    def _send(self, sock: socket.socket) -> None:
        sock.send(HEADER.pack(self._id, RECURSIVE, 1, 0, 0, 0) + _ROOT_NS)

    def _read(self, data: bytes) -> str:
        if len(data) < HEADER.size:
            return ""
        number, flags, *_ = HEADER.unpack_from(data)
        if number != self._id or not flags & IS_ANSWER:
            return ""
        code = flags & 15
        return CODES[code] if code < len(CODES) else f"code {code}"
