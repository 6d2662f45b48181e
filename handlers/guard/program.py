"""The guard's program: which frames from a sandbox pass.

It runs on the ingress of the host end (tc-bpf(8)), before any bridge, router or program sees the
frame. A frame that passes goes on to the link's further filters. Sources: RFC 826 (ARP), RFC 791,
RFC 8200 (IPv6 and its extension headers), RFC 7112 (a first fragment has all headers), RFC 4302
(AH), RFC 4861 (neighbour discovery), RFC 3810 (MLD), `include/uapi/linux/pkt_cls.h`.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_network
from typing import Final

from msgspec import Struct

from handlers.kernel.bpf import (
    SAVED,
    VLAN_TAG_PRESENT,
    Code,
    Enter,
    Field,
    Loaded,
    Node,
    Require,
    Return,
    Skip,
    Slot,
    Test,
    Value,
    any_of,
    assemble,
    read_trailer,
)
from watcher.model.address import Address, Subnet
from watcher.model.naming import link_local

PASS: Final = 0xFFFFFFFF
"""TC_ACT_UNSPEC: the next filter of the link decides."""

DROP: Final = 2
"""TC_ACT_SHOT"""


class Facts(Struct, frozen=True):
    """What a link may say.

    Attributes:
        mac: its MAC.
        addresses: its addresses. With one of IPv6, the link-local address of the MAC is another.
        routed: the subnets behind the sandbox, whose packets it forwards.
        subnets: the network's own subnets: what it forwards comes from none of these.
        router: the MAC of the host, to which all of its frames have to go (RFC 4562); empty if they
            may go anywhere. To all go only questions of ARP and what IPv6 finds neighbours by, and
            no packet is to a group or to all: the host takes those in without a route.
    """

    mac: str
    addresses: tuple[Address, ...]
    routed: tuple[Subnet, ...] = ()
    subnets: tuple[Subnet, ...] = ()
    router: str = ""


def program(facts: Facts) -> bytes:
    """The program for a link, as the kernel takes it (`struct sock_filter`)."""
    four, six = _of_versions(facts.addresses)
    if six:
        six.append(link_local(facts.mac))
    subnets = facts.subnets if facts.routed else ()
    code = _code(len(four), len(six), facts.routed, subnets, _parts(facts.router))
    return code.filled(_words(facts.mac, four, six))


def addresses_in(program: bytes) -> tuple[Address, ...] | None:
    """The addresses that a `program` was made for; `None` if it is none of this module."""
    words = read_trailer(program)
    if len(words) < _TRAILER or words[0] != _SIGN:
        return None
    fours, sixes = words[1], words[2]
    rest = words[_TRAILER:]
    if len(rest) < fours + 4 * sixes:
        return None
    four = [IPv4Address(word) for word in rest[:fours]]
    raw = b"".join(word.to_bytes(4) for word in rest[fours : fours + 4 * sixes])
    six = [IPv6Address(raw[at : at + 16]) for at in range(0, len(raw), 16)]
    return *four, *six[:-1]  # the last one is the link-local address of the MAC


_SIGN: Final = 0x77617463
"""The last word of each program ("watc")."""

_TRAILER: Final = 3
"""Words behind the addresses: how many of each family, and the sign."""


def _of_versions(addresses: Sequence[Address]) -> tuple[list[IPv4Address], list[IPv6Address]]:
    four = [address for address in addresses if isinstance(address, IPv4Address)]
    return four, [address for address in addresses if isinstance(address, IPv6Address)]


def _parts(mac: str) -> tuple[int, ...]:
    """The first four bytes of a MAC and the last two; nothing of none."""
    return divmod(int(mac.replace(":", ""), 16), 1 << 16) if mac else ()


def _words(mac: str, four: Sequence[Address], six: Sequence[Address]) -> list[int]:
    """The value of each slot: the MAC, the IPv4 addresses, the words of the IPv6 addresses."""
    words = [*_parts(mac), *map(int, four)]
    for address in six:
        words += _WORDS.unpack(address.packed)
    return words


_WORDS: Final = struct.Struct(">4I")
"""The words of an IPv6 address."""


_MAC: Final = (Slot(0), Slot(1))
_FIRST_ADDRESS: Final = 2

_TARGET_MAC, _SOURCE_MAC = 0, 6
_EVERYBODY: Final = (0xFFFFFFFF, 0xFFFF)
_IPV6_GROUP: Final = 0x3333
"""How the MAC of each IPv6 group begins (RFC 2464)."""

_KIND: Final = Field(12, 2)
_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_IPV4_SIZE, _ARP_SIZE, _IPV6_SIZE = 34, 42, 54
"""The bytes up to the end of each header without options."""

_ETHERNET_AND_IPV4: Final = (0x00010800, 0x0604)
"""Kinds and sizes of the addresses in an ARP packet."""

_SOURCE: Final = {4: 26, 6: 22}
_NEXT_HEADER: Final = Field(20, 1)
_TCP, _UDP, _ICMP6 = 6, 17, 58
_FRAGMENT, _AH = 44, 51
_OPTIONS: Final = (0, 43, 60)
"""Hop-by-hop options, routing, destination options."""

_LEAST_EXTENSION: Final = 8
"""Bytes of the shortest extension header."""

_MOST_HEADERS: Final = 4
"""Extension headers in front of what is sent; no honest packet has as many."""

_RESERVED: Final = Field(1, 1, relative=True)
_FRAGMENT_OFFSET: Final = Field(2, 2, relative=True)
_TYPE: Final = Field(0, 1, relative=True)
_TARGET: Final = 8
_ROUTER_SOLICIT, _ROUTER_ADVERT, _SOLICIT, _ADVERT, _REDIRECT = 133, 134, 135, 136, 137
_MLD_REPORTS: Final = (131, 143)
_MLD_DONE: Final = 132

_NEVER_FORWARDED: Final[tuple[Subnet, ...]] = tuple(
    map(
        ip_network,
        (
            "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3",
            "::1/128", "fe80::/10", "ff00::/8",
        ),
    )
)  # fmt: skip
"""Sources that no router forwards: this host, loopback, link-local, multicast and reserved ones
(RFC 6890, RFC 4291)."""

_PASS: Final = Return(PASS)
_DROP: Final = Return(DROP)


@lru_cache(256)
def _code(
    fours: int,
    sixes: int,
    routed: tuple[Subnet, ...],
    subnets: tuple[Subnet, ...],
    router: tuple[int, ...],
) -> Code:
    """The program for so many addresses; they and the MAC are filled in."""
    four = [(Slot(_FIRST_ADDRESS + n),) for n in range(fours)]
    first = _FIRST_ADDRESS + fours
    six = [tuple(Slot(first + 4 * n + word) for word in range(4)) for n in range(sixes)]
    kinds = {_IPV4: _ipv4(four, routed, subnets), _ARP: _arp(four)}
    if six:
        kinds[_IPV6] = _ipv6(six, routed, subnets)
    if router:
        kinds[_IPV4] = _routed4(router, kinds[_IPV4])
        kinds[_ARP] = _to(router, kinds[_ARP], _to(_EVERYBODY, kinds[_ARP], _DROP))
    if router and six:
        kinds[_IPV6] = _routed6(router, six, kinds[_IPV6])
    node: Node = _DROP
    for kind, then in reversed(kinds.items()):
        node = Test(_KIND, kind, then, node)
    node = Test(VLAN_TAG_PRESENT, 0, node, _DROP)
    node = Require(_IPV4_SIZE, _is_mac(_SOURCE_MAC, _MAC, node, _DROP))
    words = [word for address in (*four, *six) for word in address]
    return assemble(node, short=_DROP, trailer=[*reversed(words), sixes, fours, _SIGN])


def _ipv4(
    own: Sequence[Sequence[Value]], routed: Sequence[Subnet], subnets: Sequence[Subnet]
) -> Node:
    return _one_of(_SOURCE[4], own, _PASS, _in_routed(4, routed, subnets, _PASS))


def _arp(own: Sequence[Sequence[Value]]) -> Node:
    node = _one_of(28, [*own, (0,)], _PASS, _DROP)
    node = _is_mac(22, _MAC, node, _DROP)
    node = Test(Field(18, 2), _ETHERNET_AND_IPV4[1], node, _DROP)
    return Require(_ARP_SIZE, Test(Field(14, 4), _ETHERNET_AND_IPV4[0], node, _DROP))


def _ipv6(
    own: Sequence[Sequence[Value]], routed: Sequence[Subnet], subnets: Sequence[Subnet]
) -> Node:
    walk = Enter(_IPV6_SIZE, _headers(own))
    sent = any_of(_NEXT_HEADER, (_TCP, _UDP), _PASS, walk)
    other = _is(_SOURCE[6], _NOBODY, walk, _in_routed(6, routed, subnets, sent))
    return Require(_IPV6_SIZE, _one_of(_SOURCE[6], own, sent, other))


def _routed4(router: Sequence[Value], then: Node) -> Node:
    """IPv4 to the host, and to no group, nor to all."""
    return _to(router, Test(Field(30, 1), 0xE0, _DROP, then, mask=0xE0), _DROP)


def _routed6(router: Sequence[Value], own: Sequence[Sequence[Value]], then: Node) -> Node:
    """IPv6 to the host; to a group of the link, only what neighbours are found by (RFC 4861)."""
    found = Require(_IPV6_SIZE, _one_of(_SOURCE[6], own, *_found(own)))
    by_mac = _to(router, found, Test(Field(_TARGET_MAC, 2), _IPV6_GROUP, found, _DROP))
    scope = Test(Field(_TO6, 2), _LINK_SCOPE, by_mac, _DROP)
    return Test(Field(_TO6, 1), 0xFF, scope, _to(router, then, _DROP))


_TO6: Final = 38
_LINK_SCOPE: Final = 0xFF02
"""How the groups of a link begin."""


def _found(own: Sequence[Sequence[Value]]) -> tuple[Node, Node]:
    """What may go to a group from an own address, and what from none.

    No more than one header is in front: reports have options for each hop. Fragments never pass
    (RFC 6980).
    """
    targeted, nobody = _targeted(own)
    reports = (*_MLD_REPORTS, _MLD_DONE)
    known = any_of(_TYPE, (_SOLICIT, _ROUTER_SOLICIT, *reports), _PASS, _DROP)
    known = Test(_TYPE, _ADVERT, targeted, known)

    def behind(icmp: Node) -> Node:
        second = Require(1, Test(SAVED, _ICMP6, icmp, _DROP), relative=True)
        options = Require(_LEAST_EXTENSION, Skip(1, 3, second), relative=True)
        first = Test(_NEXT_HEADER, _OPTIONS[0], options, _DROP)
        return Enter(_IPV6_SIZE, Test(_NEXT_HEADER, _ICMP6, Require(1, icmp, relative=True), first))

    return behind(known), _is(_SOURCE[6], _NOBODY, behind(nobody), _DROP)


_NOBODY: Final = (0, 0, 0, 0)
"""The unspecified address."""


def _headers(own: Sequence[Sequence[Value]]) -> Node:
    """Walk through the extension headers to what is sent, and decide by that."""
    sent = _is(_SOURCE[6], _NOBODY, _DROP, _PASS)
    whole = Require(0, sent, relative=True)
    icmp = _icmp(own)
    node: Node = _DROP
    for number in range(_MOST_HEADERS, -1, -1):
        kind: Loaded = SAVED if number else _NEXT_HEADER
        header = _DROP if number == _MOST_HEADERS else _extension(kind, sent, node)
        node = any_of(kind, (*_OPTIONS, _FRAGMENT, _AH), header, whole)
        node = Test(kind, _ICMP6, icmp, node)
    return node


def _extension(kind: Loaded, sent: Node, then: Node) -> Node:
    """Go on behind an extension header of the `kind`; all but the first fragment end with it."""
    skipped = Skip(1, 3, then)
    # The reserved byte of a fragment header is where other headers have their length.
    first = Test(_RESERVED, 0, skipped, _DROP)
    fragment = Test(_FRAGMENT_OFFSET, 0xFFF8, sent, first, any_bit=True)
    node = Test(kind, _FRAGMENT, fragment, skipped)
    return Require(_LEAST_EXTENSION, Test(kind, _AH, Skip(2, 2, then), node), relative=True)


def _icmp(own: Sequence[Sequence[Value]]) -> Node:
    """What a sandbox may say of neighbours: only that its own addresses are its own."""
    targeted, nobody = _targeted(own)
    other = Test(_TYPE, _ADVERT, targeted, _PASS)
    known = any_of(_TYPE, (_ROUTER_ADVERT, _REDIRECT), _DROP, other)
    return Require(1, _is(_SOURCE[6], _NOBODY, nobody, known), relative=True)


def _targeted(own: Sequence[Sequence[Value]]) -> tuple[Node, Node]:
    """What may be said of the own addresses alone, and what who has no address yet may say."""
    is_own = _one_of(_TARGET, own, _PASS, _DROP, relative=True)
    targeted = Require(_TARGET + 16, is_own, relative=True)
    return targeted, Test(_TYPE, _SOLICIT, targeted, any_of(_TYPE, _MLD_REPORTS, _PASS, _DROP))


def _in_routed(
    version: int, routed: Sequence[Subnet], subnets: Sequence[Subnet], yes: Node
) -> Node:
    node: Node = _DROP
    for subnet in routed:
        node = _within(version, subnet, yes, node)
    if node is not _DROP:
        for subnet in (*subnets, *_NEVER_FORWARDED):
            node = _within(version, subnet, _DROP, node)
    return node


def _within(version: int, subnet: Subnet, yes: Node, no: Node) -> Node:
    """Whether the source is in `subnet`; `no` if that is of another version."""
    if subnet.version != version:
        return no
    node = yes
    network, mask = subnet.network_address.packed, subnet.netmask.packed
    for at in range(len(network) - 4, -1, -4):
        bits = int.from_bytes(mask[at : at + 4])
        if bits:
            field = Field(_SOURCE[version] + at, 4)
            node = Test(field, int.from_bytes(network[at : at + 4]), node, no, mask=bits)
    return node


def _to(mac: Sequence[Value], yes: Node, no: Node) -> Node:
    return _is_mac(_TARGET_MAC, mac, yes, no)


def _is_mac(offset: int, mac: Sequence[Value], yes: Node, no: Node) -> Node:
    last = Test(Field(offset + 4, 2), mac[1], yes, no)
    return Test(Field(offset, 4), mac[0], last, no)


def _is(
    offset: int, words: Sequence[Value], yes: Node, no: Node, *, relative: bool = False
) -> Node:
    """Whether the words from `offset` on are `words`."""
    node = yes
    for number, word in reversed(list(enumerate(words))):
        node = Test(Field(offset + 4 * number, 4, relative), word, node, no)
    return node


def _one_of(
    offset: int, found: Sequence[Sequence[Value]], yes: Node, no: Node, *, relative: bool = False
) -> Node:
    """Whether the words from `offset` on are any of `found`."""
    node = no
    for words in reversed(found):
        node = _is(offset, words, yes, node, relative=relative)
    return node
