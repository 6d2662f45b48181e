"""What the guard lets through: a reference that is independent of the program.

It is written from the rules of the guard and from RFC 826, 791, 8200, 4302, 4861, 2710 and 3810,
and from nothing of the program. It is for frames without a VLAN tag in their metadata; a tag among
their bytes is an ethertype that never passes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import TYPE_CHECKING, Final

from tests.support.chains import AUTHENTICATION, FRAGMENT, HOP_BY_HOP, OPTIONS, ROUTING
from tests.support.packets import ARP, ICMP6, IPV4, IPV6, link_local, mac

if TYPE_CHECKING:
    from handlers.guard.program import Facts
    from watcher.model.address import Address

ETHER_SIZE, IPV4_SIZE, ARP_SIZE, IPV6_SIZE, ADVERT_SIZE = 14, 20, 28, 40, 24
LONGEST_CHAIN: Final = 4
"""Extension headers that the guard is willing to walk."""

_ROUTER_ADVERT, _SOLICIT, _ADVERT, _REDIRECT = 134, 135, 136, 137
_REPORTS: Final = (131, 143)
_NOBODY: Final = IPv6Address("::")


class Cut(Exception):
    """The frame ends before what is to be read."""


class Dropped(Exception):
    """Nothing more has to be read."""


@dataclass(frozen=True, slots=True)
class Bytes:
    """The bytes of a frame; reading beyond them raises :class:`Cut`."""

    all: bytes

    def __call__(self, start: int, length: int = 1) -> bytes:
        if start + length > len(self.all):
            raise Cut
        return self.all[start : start + length]

    def number(self, start: int, length: int = 1) -> int:
        return int.from_bytes(self(start, length), "big")


def passes(facts: Facts, frame: bytes) -> bool:
    """Whether `frame` passes the guard of a link with these facts."""
    read = Bytes(frame)
    try:
        if read(6, 6) != mac(facts.mac):
            return False
        kind = read.number(12, 2)
        if facts.router and not _goes_by_the_host(facts, read, kind):
            return False
        if kind == IPV4:
            return _ipv4(facts, read)
        if kind == ARP:
            return _arp(facts, read)
        return kind == IPV6 and _ipv6(facts, read)
    except (Cut, Dropped):
        return False


def _goes_by_the_host(facts: Facts, read: Bytes, kind: int) -> bool:
    """Whether a frame goes to the host alone, or only finds neighbours (RFC 4562, RFC 4861)."""
    to = read(0, 6)
    to_host = to == mac(facts.router)
    if kind == ARP:
        return to_host or to == b"\xff" * 6
    if kind == IPV4:
        target = IPv4Address(read(ETHER_SIZE, IPV4_SIZE)[16:20])
        return to_host and not target.is_multicast and target not in _RESERVED
    group = read(ETHER_SIZE, IPV6_SIZE)[24:40]
    if group[0] != 0xFF:
        return to_host
    return (to_host or to[:2] == b"\x33\x33") and group[1] == 2 and _finds_neighbours(facts, read)


_RESERVED: Final = ip_network("240.0.0.0/4")


def _finds_neighbours(facts: Facts, read: Bytes) -> bool:
    """What may go to a group; at most options for each hop are in front of it."""
    own = [*facts.addresses, IPv6Address(link_local(facts.mac))]
    header = read(ETHER_SIZE, IPV6_SIZE)
    source, protocol, start = IPv6Address(header[8:24]), header[6], ETHER_SIZE + IPV6_SIZE
    if protocol == HOP_BY_HOP:
        size = 8 * (read.number(start + 1) + 1)
        protocol = read(start, size)[0]
        start += size
    if protocol != ICMP6:
        return False
    type_ = read.number(start)
    if source == _NOBODY:
        return type_ in _REPORTS or type_ == _SOLICIT
    return source in own and type_ in (*_REPORTS, 132, 133, _SOLICIT, _ADVERT)


def _ipv4(facts: Facts, read: Bytes) -> bool:
    header = read(ETHER_SIZE, IPV4_SIZE)
    return _may_come(facts, IPv4Address(header[12:16]))


def _arp(facts: Facts, read: Bytes) -> bool:
    kinds, _, sender_mac, sender, _, _ = struct.unpack("!6s2s6s4s6s4s", read(ETHER_SIZE, ARP_SIZE))
    return (
        kinds == struct.pack("!HHBB", 1, IPV4, 6, 4)
        and sender_mac == mac(facts.mac)
        and (sender == bytes(4) or IPv4Address(sender) in facts.addresses)
    )


def _ipv6(facts: Facts, read: Bytes) -> bool:
    own = [address for address in facts.addresses if address.version == 6]
    if not own:
        return False
    own.append(IPv6Address(link_local(facts.mac)))
    header = read(ETHER_SIZE, IPV6_SIZE)
    source = IPv6Address(header[8:24])
    if source != _NOBODY and source not in own and not _may_come(facts, source):
        return False
    last = _walk(read, header[6])
    if last is None:
        return source != _NOBODY
    protocol, start = last
    if protocol != ICMP6:
        return source != _NOBODY
    type_ = read.number(start)
    if source == _NOBODY:
        return type_ in _REPORTS or (type_ == _SOLICIT and _target(read, start) in own)
    if type_ == _ADVERT:
        return _target(read, start) in own
    return type_ not in (_ROUTER_ADVERT, _REDIRECT)


def _walk(read: Bytes, protocol: int) -> tuple[int, int] | None:
    """The upper layer's protocol and where it starts; `None` behind a first fragment."""
    start = ETHER_SIZE + IPV6_SIZE
    for _ in range(LONGEST_CHAIN):
        if protocol in (HOP_BY_HOP, ROUTING, OPTIONS):
            size = 8 * (read.number(start + 1) + 1)
        elif protocol == AUTHENTICATION:
            size = 4 * (read.number(start + 1) + 2)
        elif protocol == FRAGMENT:
            size = 8
        else:
            return protocol, start
        header = read(start, size)
        if protocol == FRAGMENT:
            if int.from_bytes(header[2:4], "big") >> 3:
                return None
            if header[1]:
                raise Dropped  # reserved: no sender of today sets it
        protocol, start = header[0], start + size
    if protocol in (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, OPTIONS):
        raise Dropped
    return protocol, start


def _target(read: Bytes, start: int) -> IPv6Address:
    return IPv6Address(read(start, ADVERT_SIZE)[8:24])


NEVER_PASSED_ON: Final = [
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        *("::1/128", "fe80::/10", "ff00::/8"),
    )
]
"""What no router may send on (RFC 1122, RFC 3927, RFC 4291), whatever the prefix."""


def _may_come(facts: Facts, source: Address) -> bool:
    """Whether a packet of `source` may come, be it its own or one that it passes on."""
    if source in facts.addresses:
        return True
    if any(source in subnet for subnet in NEVER_PASSED_ON if subnet.version == source.version):
        return False
    routed = any(source in prefix for prefix in facts.routed)
    return routed and not any(source in subnet for subnet in facts.subnets)
