"""Policy routes: an answer leaves a sandbox through the interface that its request came in by.

With the main table alone, an answer from an address of one network could leave through another
network, where the guard drops it. So in a sandbox with several interfaces, packets from an address
are looked up in a table of that address's interface first. Sources: ip-rule(8),
`net/core/fib_rules.c`.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Set
from ipaddress import IPv6Network, ip_address
from typing import Final

from handlers.kernel import missing_routes, rtnl
from handlers.kernel.messages import NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, attributes, encode
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl import Route
from handlers.kernel.rtnl.messages import fibmsg
from handlers.kernel.rtnl.numbers import RTM_DELRULE, RTM_GETRULE, RTM_NEWRULE
from handlers.networks.driver import Way
from watcher.model.address import Address
from watcher.model.naming import MAX_NETWORKS
from watcher.model.network import Network
from watcher.model.sandbox import Interface

FIRST_TABLE: Final = 100
"""The routing table of a sandbox's `eth0`; each further interface has the next one."""

FIRST_PRIORITY: Final = 32000
"""The priority of the rules of `eth0`: before the main table, after usual rules of the sandbox."""

_LINK_LOCAL: Final = IPv6Network("fe80::/64")

_FR_ACT_TO_TBL: Final = 1
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE = 2, 6, 15
_HEADER_SIZE: Final = 12
"""Bytes of `struct rtmsg` and of `struct fib_rule_hdr`."""

_TABLE_OFFSET: Final = 16 + 4
"""The offset of the table's number in a request about a route."""


def missing(
    inside: Netlink, interface: Interface, network: Network, ways: Iterable[Way], index: int
) -> list[bytes]:
    """The requests for missing policy routes and rules of `interface`, whose ways are `ways`.

    It is one of several of a sandbox, with the number `index` in the namespace of `inside`.
    """
    table = FIRST_TABLE + interface.ordinal
    requests: list[bytes] = []
    for way in ways:
        address = way.address
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        wanted = _wanted(way, network, index)
        requests += (
            _in_table(rtnl.route(route), table)
            for route in missing_routes.missing(inside, wanted, table=table)
        )
        if not any(rule[:2] == (address.ip, table) for rule in _rules(inside, family)):
            requests.append(_rule(address.ip, family, interface.ordinal))
    return requests


def surplus_rules(inside: Netlink, needed: Set[tuple[Address, int]]) -> list[bytes]:
    """The requests that remove all rules like :func:`missing`'s, except those `needed`.

    These are given by the address and its interface's ordinal.
    """
    requests: list[bytes] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            there = _rules(inside, family)
        except NetlinkError as error:
            if error.errno != errno.EAFNOSUPPORT:  # the kernel has no IPv6
                raise
            continue
        for source, table, priority in there:
            ordinal = table - FIRST_TABLE
            ours = 0 <= ordinal < MAX_NETWORKS and priority == FIRST_PRIORITY + ordinal
            if ours and (source, ordinal) not in needed:
                requests.append(_rule(source, family, ordinal, gone=True))
    return requests


def routes_gone(inside: Netlink, interface: Interface, index: int) -> list[bytes]:
    """The requests that remove the policy routes of `interface`, the link `index`."""
    table = FIRST_TABLE + interface.ordinal
    requests: list[bytes] = []
    for version in {address.version for address in interface.addresses}:
        routes = missing_routes.listed(inside, version, index, table)
        requests += (rtnl.no_route(route, table) for route in routes)
    return requests


def _wanted(way: Way, network: Network, index: int) -> Iterator[Route]:
    """The routes for packets from the address of `way`."""
    default, address = way.hop, way.address
    if way.on_link is not None:
        yield Route(way.on_link, None, index, 0)
    if address.version == 6:
        yield Route(_LINK_LOCAL, None, index, 0)
    for route in network.routes:
        if route.to.version == address.version and route.via != address.ip:
            if route.to.prefixlen:
                yield Route(route.to, route.via, index, 0)
            else:
                default = route.via
    if default is not None:
        yield Route(None, default, index, 0)


def _in_table(request: bytes, table: int) -> bytes:
    return request[:_TABLE_OFFSET] + bytes((table,)) + request[_TABLE_OFFSET + 1 :]


def _rule(source: Address, family: int, ordinal: int, *, gone: bool = False) -> bytes:
    message = fibmsg()
    message["family"] = family
    message["src_len"] = source.max_prefixlen
    message["table"] = FIRST_TABLE + ordinal
    message["action"] = _FR_ACT_TO_TBL
    message["attrs"] = [["FRA_SRC", str(source)], ["FRA_PRIORITY", FIRST_PRIORITY + ordinal]]
    if gone:
        return encode(message, RTM_DELRULE)
    return encode(message, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL)


def _rules(inside: Netlink, family: int) -> set[tuple[Address, int, int]]:
    """Source, table and priority of each rule that matches a single source address."""
    message = fibmsg()
    message["family"] = family
    found = set()
    for body in inside.dump(encode(message, RTM_GETRULE, NLM_F_DUMP)):
        values = dict(attributes(body, _HEADER_SIZE))
        source = values.get(_FRA_SRC)
        if source is not None and body[2] == len(source) * 8:
            table, priority = values.get(_FRA_TABLE), values.get(_FRA_PRIORITY)
            found.add((ip_address(bytes(source)), _number(table), _number(priority)))
    return found


def _number(value: memoryview | None) -> int:
    return 0 if value is None else int.from_bytes(value, "little")
