"""Asks for an echo (RFC 792, RFC 4443), as ping(8) does. Sources: raw(7), icmp(7), RFC 3542."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Final

from handlers.kernel.probes.probe import Probe

if TYPE_CHECKING:
    from watcher.model.address import Address

_HEADER: Final = struct.Struct("!BBHHH")
"""Type, code, checksum, identifier, sequence number."""

_REQUEST, _REPLY = 8, 0
_REQUEST6, _REPLY6 = 128, 129
_SOL_RAW, _ICMP_FILTER = 255, 1
"""`include/uapi/linux/icmp.h`."""

SOL_ICMPV6, ICMP6_FILTER = 58, 1
"""`include/uapi/linux/icmpv6.h`."""


class Echo(Probe):
    """An echo request from `source` to `target`; its answer is the one word `echo`."""

    def __init__(self, source: Address, target: Address) -> None:
        is_4 = target.version == 4
        family = socket.AF_INET if is_4 else socket.AF_INET6
        super().__init__(
            family, socket.SOCK_RAW, socket.IPPROTO_ICMP if is_4 else socket.IPPROTO_ICMPV6
        )
        self._source, self._target = str(source), str(target)
        self._is_4 = is_4
        self._id = int.from_bytes(os.urandom(2))
        self._data = os.urandom(16)

    def _prepare(self, sock: socket.socket) -> None:
        if self._is_4:  # every type but the reply
            sock.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF ^ 1 << _REPLY))
        else:
            sock.setsockopt(SOL_ICMPV6, ICMP6_FILTER, only_type(_REPLY6))
        sock.bind((self._source, 0))
        sock.connect((self._target, 0))

    def _send(self, sock: socket.socket) -> None:
        kind = _REQUEST if self._is_4 else _REQUEST6  # the kernel sums ICMPv6 up (RFC 3542, 3.1)
        message = _HEADER.pack(kind, 0, 0, self._id, 1) + self._data
        if self._is_4:
            message = message[:2] + struct.pack("!H", _checksum(message)) + message[4:]
        sock.send(message)

    def _read(self, data: bytes) -> str:
        if self._is_4 and data:  # with the IP header in front
            data = data[(data[0] & 15) * 4 :]
        if len(data) < _HEADER.size:
            return ""
        kind, _, _, number, _ = _HEADER.unpack_from(data)
        fits = kind == (_REPLY if self._is_4 else _REPLY6) and number == self._id
        return "echo" if fits and data[_HEADER.size :] == self._data else ""


def only_type(kind: int) -> bytes:
    """A `struct icmp6_filter` that lets only ICMPv6 messages of type `kind` in."""
    words = [0xFFFFFFFF] * 8
    words[kind >> 5] ^= 1 << (kind & 31)
    return struct.pack("=8I", *words)


def _checksum(message: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
