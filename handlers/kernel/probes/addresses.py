"""Asks a name server for the address of a name, by UDP or TCP (RFC 1035)."""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from handlers.kernel.probes.probe import Probe
from handlers.kernel.probes.resolvers import CODES, HEADER, IS_ANSWER, RECURSIVE

if TYPE_CHECKING:
    from watcher.model.address import Address

_TYPES: Final = {4: (1, 4), 6: (28, 16)}
"""The types A and AAAA, and how long their data is, by IP version."""

_IN: Final = 1
_TYPE: Final = struct.Struct("!HH")
_RECORD: Final = struct.Struct("!HHIH")
_LENGTH: Final = struct.Struct("!H")
_POINTER: Final = 0xC0


class AddressQuery(Probe):
    """A query for the address of `name` of the IP version of `server`.

    The answer is the first address, or else the response code by its name; `NODATA` if the server
    knows the name, but no such address.

    Args:
        server, port: where to ask.
        name: the name, in ASCII.
        tcp: whether to ask by TCP.
        source: the address to ask from; `None` leaves it to the kernel.
    """

    def __init__(
        self,
        server: Address,
        port: int,
        name: str,
        *,
        tcp: bool = False,
        source: Address | None = None,
    ) -> None:
        family = socket.AF_INET if server.version == 4 else socket.AF_INET6
        super().__init__(family, socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        self._to = str(server), port
        self._tcp = tcp
        self._source = source
        self._version = server.version
        self._id = int.from_bytes(os.urandom(2))
        kind, _ = _TYPES[server.version]
        labels = b"".join(bytes([len(part)]) + part for part in name.encode().split(b"."))
        self._question = labels + b"\0" + _TYPE.pack(kind, _IN)
        self._sent = False
        self._heard = b""

    def _prepare(self, sock: socket.socket) -> None:
        if self._source is not None:
            sock.bind((str(self._source), 0))
        try:
            sock.connect(self._to)
        except BlockingIOError:  # by TCP; whatever becomes of it is heard as it is sent
            return

    def _send(self, sock: socket.socket) -> None:
        message = HEADER.pack(self._id, RECURSIVE, 1, 0, 0, 0) + self._question
        if not self._tcp:
            sock.send(message)
        elif not self._sent:
            sock.send(_LENGTH.pack(len(message)) + message)
            self._sent = True

    def _read(self, data: bytes) -> str:
        if not self._tcp:
            return self._told(data)
        if not data:
            self.error = "it closes the connection"
            return ""
        self._heard += data
        length = int.from_bytes(self._heard[: _LENGTH.size])
        message = self._heard[_LENGTH.size :]
        return self._told(message[:length]) if len(message) >= length > 0 else ""

    def _told(self, message: bytes) -> str:
        """What an answer tells; empty if it is none to this question. It may be anything."""
        start = HEADER.size + len(self._question)
        if len(message) < start or message[HEADER.size : start].lower() != self._question.lower():
            return ""
        number, flags, _, records, *_ = HEADER.unpack_from(message)
        if number != self._id or not flags & IS_ANSWER:
            return ""
        code = flags & 15
        if code:
            return CODES[code] if code < len(CODES) else f"code {code}"
        try:
            return self._address(message, start, records)
        except (struct.error, IndexError):
            return "an answer that is cut off"

    def _address(self, message: bytes, at: int, records: int) -> str:
        wanted, size = _TYPES[self._version]
        for _ in range(records):
            at = _behind_name(message, at)
            kind, _, _, length = _RECORD.unpack_from(message, at)
            at += _RECORD.size
            data = message[at : at + length]
            if kind == wanted and len(data) == size:
                return str(ip_address(data))
            at += length
        return "NODATA"


def _behind_name(message: bytes, at: int) -> int:
    """Where the name at `at` ends: with the root, or with a pointer."""
    while length := message[at]:
        if length >= _POINTER:
            return at + 2
        at += 1 + length
    return at + 1
