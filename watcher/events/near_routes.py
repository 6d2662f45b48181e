"""Tells routes near the subnets of networks from others, of which a router may have a million.

Sources: `fib_dump_info` in `net/ipv4/fib_semantics.c` and `rt6_fill_node` in `net/ipv6/route.c`,
which put the destination behind the table; `struct rtmsg` in `include/uapi/linux/rtnetlink.h`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from handlers.kernel.bpf import Field, Node, Test
from handlers.kernel.messages import attributes

if TYPE_CHECKING:
    from watcher.model.address import Subnet

DEFAULT_PREFIX: Final = 1
"""VPNs split the default route in two; so a route to half of all addresses counts as one."""

_RTMSG_SIZE: Final = 12
_RTA_DST: Final = 1

_BEHIND_HEADER: Final = 16
_FAMILY, _LENGTH = Field(_BEHIND_HEADER, 1), Field(_BEHIND_HEADER + 1, 1)
_KIND: Final = Field(_BEHIND_HEADER + _RTMSG_SIZE + 8 + 2, 2)
"""The type of the attribute behind RTA_TABLE, in the machine's byte order."""
_WORDS: Final = tuple(Field(_BEHIND_HEADER + _RTMSG_SIZE + 8 + 4 + 4 * n, 4) for n in range(4))
_WORD: Final = 32
_ALL: Final = 0xFFFFFFFF
_STEP: Final = 8
"""Bits by which larger destinations than a subnet are told apart: programs have a limit."""


def is_near(body: memoryview, subnets: Iterable[Subnet]) -> bool:
    """Whether the route in `body` overlaps one of `subnets`. Fast: hosts have thousands of routes.

    `body` begins with a `struct rtmsg`, whose second byte is the prefix length.
    """
    for kind, value in attributes(body, _RTMSG_SIZE):
        if kind == _RTA_DST:
            address, bits, length = int.from_bytes(value), len(value) * 8, body[1]
            for subnet in subnets:
                shift = bits - min(length, subnet.prefixlen)
                same_family = subnet.max_prefixlen == bits
                if same_family and address >> shift == int(subnet.network_address) >> shift:
                    return True
            return False
    return False


def passing(subnets: Iterable[Subnet], kept: Node, dropped: Node) -> Node:
    """A decision about an event of a route: `kept` if it overlaps one of `subnets`, or nearly so.

    Of a route to more than a subnet, it compares whole bytes; :func:`is_near` tells exactly.
    """
    node = dropped
    for subnet in subnets:
        node = _near(subnet, kept, node)
    return Test(_KIND, _KIND.native(_RTA_DST), node, dropped)


def _near(subnet: Subnet, kept: Node, other: Node) -> Node:
    node = _within(subnet, subnet.prefixlen, kept, other)  # all of the subnet, or a part of it
    for length in range(0, subnet.prefixlen, _STEP):
        least = max(length, DEFAULT_PREFIX + 1)
        within = _within(subnet, least, kept, other)
        node = Test(_LENGTH, length, within, node, mask=_ALL & -_STEP)
    family = socket.AF_INET if subnet.version == 4 else socket.AF_INET6
    return Test(_FAMILY, family, node, other)


def _within(subnet: Subnet, length: int, yes: Node, no: Node) -> Node:
    """Whether the first `length` bits of a destination are those of `subnet`."""
    node = yes
    for number in reversed(range((length + _WORD - 1) // _WORD)):
        mask = _mask(min(length - number * _WORD, _WORD))
        word = int.from_bytes(subnet.network_address.packed[4 * number : 4 * number + 4])
        node = Test(_WORDS[number], word & mask, node, no, mask)
    return node


def _mask(bits: int) -> int:
    return _ALL << (_WORD - bits) & _ALL
