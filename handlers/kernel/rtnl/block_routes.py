"""Requests about the routes to blocks of a cluster, and a reader of the answers.

They are the routes of the main table with our protocol, whoever made them. Sources: rtnetlink(7),
`net/ipv4/fib_frontend.c` and `net/ipv6/route.c` of the kernel.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from msgspec import Struct

from handlers.kernel.messages import (
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REPLACE,
    attribute,
    chosen,
    request,
)
from handlers.kernel.rtnl.numbers import (
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_VIA,
    RTM_DELROUTE,
    RTM_GETROUTE,
    RTM_NEWROUTE,
    RTN_UNICAST,
    RTN_UNREACHABLE,
    RTNH_F_ONLINK,
    family,
)
from watcher.model.address import Subnet
from watcher.model.cluster import PROTOCOL

METRIC: Final = 1119
"""The metric of these routes, of which a lower one is better.

A sandbox on this host is preferred to another host that has the same address: the route to it has 0
in IPv4 and 1024 in IPv6 (`IP6_RT_PRIO_USER`). A metric of our own also keeps a replacement from
hitting another program's route.
"""

_RTMSG: Final = struct.Struct("=BBBBBBBBI")
_FAMILY: Final = struct.Struct("=H")
_READ: Final = frozenset((RTA_DST, RTA_GATEWAY, RTA_VIA, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY))
_NOTHING: Final = memoryview(b"")

_LOOPBACK: Final = 1
"""The index of the loopback interface, which IPv6 has for routes that lead nowhere
(`ip6_route_info_create` in `net/ipv6/route.c`, `LOOPBACK_IFINDEX`)."""

type RouteKey = tuple[bytes, int]
"""The packed destination and its prefix length."""


class BlockRoute(Struct, frozen=True):
    """A route to a block.

    Attributes:
        to, length: the packed destination, and its prefix length.
        index: the interface that it leads through; 0 if packets are answered with an error.
        via: the packed next hop, of either family, on that interface; empty for none.
        source: the packed address that the host's own packets have; empty for the kernel's choice.
        metric: the metric.
        kind: its type (RTN_…).
    """

    to: bytes
    length: int
    index: int = 0
    via: bytes = b""
    source: bytes = b""
    metric: int = METRIC
    kind: int = RTN_UNICAST

    @property
    def key(self) -> RouteKey:
        """What tells it from other routes that are wanted."""
        return self.to, self.length


def unreachable(to: Subnet) -> BlockRoute:
    """The route by which the senders of packets to `to` get an error."""
    return BlockRoute(to.network_address.packed, to.prefixlen, kind=RTN_UNREACHABLE)


def block_route(wanted: BlockRoute) -> bytes:
    """Make a route, in place of one with the same destination and metric, without a gap.

    The next hop need not be on a subnet of the interface, but on its link.
    """
    found = []
    if wanted.via:
        found.append(_hop(wanted.to, wanted.via))
    if wanted.index:
        found.append(attribute(RTA_OIF, _number(wanted.index)))
    if wanted.source:
        found.append(attribute(RTA_PREFSRC, wanted.source))
    header = _header(wanted, RT_SCOPE_UNIVERSE, RTNH_F_ONLINK if wanted.via else 0)
    return request(RTM_NEWROUTE, header + b"".join(found), NLM_F_CREATE | NLM_F_REPLACE)


def no_block_route(gone: BlockRoute) -> bytes:
    """Remove a route, and no other one to the same destination."""
    rest = _hop(gone.to, gone.via) if gone.via else b""
    index = gone.index or (_LOOPBACK if len(gone.to) == 16 else 0)
    rest += attribute(RTA_OIF, _number(index)) if index else b""
    return request(RTM_DELROUTE, _header(gone, RT_SCOPE_NOWHERE, 0) + rest)


def block_routes(version: int) -> bytes:
    """Ask for all of them of IP `version`; the kernel leaves all others out of its answer."""
    body = _RTMSG.pack(family(version), 0, 0, 0, RT_TABLE_MAIN, PROTOCOL, 0, 0, 0)
    return request(RTM_GETROUTE, body, NLM_F_DUMP)


def read_block_route(body: memoryview) -> BlockRoute | None:
    """The route in `body`, an RTM_NEWROUTE or RTM_DELROUTE message, if it is one of these."""
    if body[4] != RT_TABLE_MAIN or body[5] != PROTOCOL:
        return None
    values = chosen(body, _RTMSG.size, _READ)
    via = bytes(values.get(RTA_GATEWAY) or values.get(RTA_VIA, _NOTHING)[_FAMILY.size :])
    size = 4 if body[0] == socket.AF_INET else 16
    unicast = body[7] == RTN_UNICAST
    return BlockRoute(
        to=bytes(values.get(RTA_DST, bytes(size))),
        length=body[1],
        index=int.from_bytes(values.get(RTA_OIF, _NOTHING), "little") if unicast else 0,
        via=via,
        source=bytes(values.get(RTA_PREFSRC, _NOTHING)),
        metric=int.from_bytes(values.get(RTA_PRIORITY, _NOTHING), "little"),
        kind=body[7],
    )


def _header(route: BlockRoute, scope: int, flags: int) -> bytes:
    version = 4 if len(route.to) == 4 else 6
    header = _RTMSG.pack(
        family(version), route.length, 0, 0, RT_TABLE_MAIN, PROTOCOL, scope, route.kind, flags
    )
    return header + attribute(RTA_DST, route.to) + attribute(RTA_PRIORITY, _number(route.metric))


def _hop(to: bytes, via: bytes) -> bytes:
    """The next hop: RTA_GATEWAY of the same family, else RTA_VIA (`struct rtvia`)."""
    if len(to) == len(via):
        return attribute(RTA_GATEWAY, via)
    of_hop = family(4 if len(via) == 4 else 6)
    return attribute(RTA_VIA, _FAMILY.pack(of_hop) + via)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "little")
