"""Asks on a link for the MAC of an address: ARP (RFC 826) and neighbour discovery (RFC 4861).

The kernel's own table of neighbours is left alone: it may remember a neighbour that has gone.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from handlers.kernel.probes.echo import ICMP6_FILTER, SOL_ICMPV6, only_type
from handlers.kernel.probes.probe import Probe

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

_ETH_P_ARP: Final = 0x0806
_BROADCAST: Final = b"\xff" * 6
_ARP: Final = struct.Struct("!HHBBH6s4s6s4s")
_ASKED, _ANSWERED = 1, 2

_SOLICITATION, _ADVERTISEMENT = 135, 136
_GROUP: Final = b"\xff\x02" + bytes(9) + b"\x01\xff"
"""`ff02::1:ff00:0/104`, to which the last three bytes of the address are added."""

_HOPS: Final = 255
"""Whoever gets a solicitation that has passed a router ignores it (RFC 4861, 7.1.1)."""


class ArpRequest(Probe):
    """Who has `target`, asked on `interface` in the name of `source`; the answer is the MAC.

    Sources: packet(7).
    """

    def __init__(self, interface: str, mac: str, source: IPv4Address, target: IPv4Address) -> None:
        # Without a protocol it hears nothing before it is bound.
        super().__init__(socket.AF_PACKET, socket.SOCK_DGRAM)
        self._interface = interface
        self._target = target.packed
        sender = bytes.fromhex(mac.replace(":", ""))
        self._question = _ARP.pack(
            1, 0x0800, 6, 4, _ASKED, sender, source.packed, bytes(6), self._target
        )

    def _prepare(self, sock: socket.socket) -> None:
        sock.bind((self._interface, _ETH_P_ARP))

    def _send(self, sock: socket.socket) -> None:
        sock.sendto(self._question, (self._interface, _ETH_P_ARP, 0, 0, _BROADCAST))

    def _read(self, data: bytes) -> str:
        if len(data) < _ARP.size:
            return ""
        *_, operation, mac, address, _, _ = _ARP.unpack_from(data)
        return mac.hex(":") if (operation, address) == (_ANSWERED, self._target) else ""


class Solicitation(Probe):
    """The same for IPv6, on the interface with number `index`."""

    def __init__(self, index: int, mac: str, source: IPv6Address, target: IPv6Address) -> None:
        super().__init__(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self._index, self._source = index, str(source)
        self._target = target.packed
        option = b"\x01\x01" + bytes.fromhex(mac.replace(":", ""))
        self._question = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + self._target + option
        self._group = socket.inet_ntop(socket.AF_INET6, _GROUP + self._target[13:])

    def _prepare(self, sock: socket.socket) -> None:
        sock.setsockopt(SOL_ICMPV6, ICMP6_FILTER, only_type(_ADVERTISEMENT))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, self._index)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
        sock.bind((self._source, 0))

    def _send(self, sock: socket.socket) -> None:
        sock.sendto(self._question, (self._group, 0, 0, self._index))

    def _read(self, data: bytes) -> str:
        if len(data) < 32 or data[0] != _ADVERTISEMENT or data[8:24] != self._target:
            return ""
        return data[26:32].hex(":") if data[24:26] == b"\x02\x01" else "?"
