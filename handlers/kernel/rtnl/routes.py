"""Requests about routes and neighbours, and readers of the answers. Source: rtnetlink(7)."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from msgspec import Struct

from handlers.kernel import template
from handlers.kernel.messages import NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, chosen, encode
from handlers.kernel.rtnl.messages import ndmsg, rtmsg
from handlers.kernel.rtnl.numbers import (
    NUD_PERMANENT,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_PREFSRC,
    RTA_PRIORITY,
    RTA_TABLE,
    RTM_DELROUTE,
    RTM_F_FIB_MATCH,
    RTM_F_LOOKUP_TABLE,
    RTM_GETROUTE,
    RTM_NEWNEIGH,
    RTM_NEWROUTE,
    RTN_LOCAL,
    RTN_UNICAST,
    RTPROT_KERNEL,
    RTPROT_STATIC,
    family,
)
from handlers.kernel.template import Template
from watcher.model.address import Address


class Route(Struct, frozen=True):
    """A unicast route of the main table.

    `to` is `None` for a default route, `via` if the destination is on the link. The kernel chooses
    the metric if `metric` is 0, and the source if `source` is `None`.
    """

    to: IPv4Network | IPv6Network | None
    via: Address | None
    index: int
    metric: int
    source: Address | None = None

    @property
    def version(self) -> int:
        """Its IP version."""
        known = self.via if self.to is None else self.to
        assert known is not None, "a route has a destination or a gateway"
        return known.version


def route(wanted: Route) -> bytes:
    """Add a route; no effect if it exists."""
    values = {"index": template.number(wanted.index)}
    if wanted.via is not None:
        values["via"] = wanted.via.packed
    if wanted.to is not None:
        values["to"] = wanted.to.network_address.packed
    if wanted.source is not None:
        values["source"] = wanted.source.packed
    if wanted.metric:
        values["metric"] = template.number(wanted.metric)
    prefix = None if wanted.to is None else wanted.to.prefixlen
    shape = (wanted.version, prefix, wanted.via is not None, wanted.source is not None)
    return _route(*shape, wanted.metric > 0).filled(**values)


@cache
def _route(version: int, prefix: int | None, gateway: bool, source: bool, metric: bool) -> Template:
    message = rtmsg()
    message["family"] = family(version)
    message["table"], message["type"] = RT_TABLE_MAIN, RTN_UNICAST
    message["proto"], message["scope"] = RTPROT_STATIC, RT_SCOPE_UNIVERSE
    message["attrs"] = [["RTA_OIF", template.NUMBER]]
    marks = {"index": template.number(template.NUMBER)}
    if gateway:
        via = template.IPV4 if version == 4 else template.IPV6
        message["attrs"].append(["RTA_GATEWAY", via])
        marks["via"] = ip_address(via).packed
    else:  # as the kernel makes routes for addresses
        message["proto"] = RTPROT_KERNEL
        message["scope"] = RT_SCOPE_LINK if version == 4 else RT_SCOPE_UNIVERSE
    if prefix is not None:
        to = template.OTHER_IPV4 if version == 4 else template.OTHER_IPV6
        message["dst_len"] = prefix
        message["attrs"].append(["RTA_DST", to])
        marks["to"] = ip_address(to).packed
    if source:
        own = template.THIRD_IPV4 if version == 4 else template.THIRD_IPV6
        message["attrs"].append(["RTA_PREFSRC", own])
        marks["source"] = ip_address(own).packed
    if metric:
        message["attrs"].append(["RTA_PRIORITY", template.OTHER_NUMBER])
        marks["metric"] = template.number(template.OTHER_NUMBER)
    return Template(encode(message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE), **marks)


def no_route(gone: Route, table: int = RT_TABLE_MAIN) -> bytes:
    """Remove a route of `table`, which is below 256; any metric will do if that is 0."""
    message = rtmsg()
    message["family"], message["table"] = family(gone.version), table
    message["scope"] = RT_SCOPE_NOWHERE  # whatever its scope is (`fib_table_delete`)
    message["attrs"] = [["RTA_OIF", gone.index]]
    if gone.to is not None:
        message["dst_len"] = gone.to.prefixlen
        message["attrs"].append(["RTA_DST", str(gone.to.network_address)])
    if gone.via is not None:
        message["attrs"].append(["RTA_GATEWAY", str(gone.via)])
    if gone.metric:
        message["attrs"].append(["RTA_PRIORITY", gone.metric])
    return encode(message, RTM_DELROUTE)


def neighbour(index: int, address_: Address, mac: str) -> bytes:
    """Set the MAC of a neighbour on the interface `index` permanently."""
    values = {"index": template.number(index), "ip": address_.packed, "mac": template.mac(mac)}
    return _neighbour(address_.version).filled(**values)


@cache
def _neighbour(version: int) -> Template:
    message = ndmsg()
    ip = template.IPV4 if version == 4 else template.IPV6
    message["family"], message["ifindex"] = family(version), template.NUMBER
    message["state"] = NUD_PERMANENT
    message["attrs"] = [["NDA_DST", ip], ["NDA_LLADDR", template.MAC]]
    return Template(
        encode(message, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE),
        index=template.number(template.NUMBER),
        ip=ip_address(ip).packed,
        mac=template.mac(template.MAC),
    )


def loopback(index: int) -> bytes:
    """Accept packets for `::1` on the interface `index`; no effect if it accepts them already.

    The kernel looks for `::1` only among that interface's addresses, and drops packets for it from
    the wire. So only answers pass, whose destination was translated back to `::1`.
    """
    # A unique metric, after that of `lo` and before those of earlier interfaces: the kernel
    # walks all routes that precede a new one (`fib6_add_rt2node` in `net/ipv6/ip6_fib.c`).
    metric = template.number((1 << 31) - index)
    return _loopback().filled(index=template.number(index), metric=metric)


@cache
def _loopback() -> Template:
    message = rtmsg()
    message["family"], message["dst_len"] = socket.AF_INET6, 128
    message["table"], message["type"] = RT_TABLE_LOCAL, RTN_LOCAL
    message["proto"], message["scope"] = RTPROT_STATIC, RT_SCOPE_UNIVERSE
    message["attrs"] = [
        ["RTA_DST", "::1"],
        ["RTA_OIF", template.NUMBER],
        ["RTA_PRIORITY", template.OTHER_NUMBER],
    ]
    return Template(
        encode(message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE),
        index=template.number(template.NUMBER),
        metric=template.number(template.OTHER_NUMBER),
    )


def route_to(wanted: Route) -> bytes:
    """Ask for the route through its interface that the kernel would use for `wanted`.

    The answer is a route as :func:`routes` lists it, found without a walk through all routes.
    Source: `inet_rtm_getroute` in `net/ipv4/route.c`, `inet6_rtm_getroute` in `net/ipv6/route.c`.
    """
    to = wanted.to
    if to is None:
        asked = _ELSEWHERE[wanted.version]
    else:  # an address that is hardly ever local: local routes are in another table
        more = to.max_prefixlen - to.prefixlen > 1
        asked = to[-2].packed if more else to.network_address.packed
    values = {"index": template.number(wanted.index), "to": asked}
    return _route_to(wanted.version, True).filled(**values)


def route_out(version: int) -> bytes:
    """Ask for the route that the kernel would use to an unassigned address: the default route."""
    return _route_to(version, False).filled(to=_ELSEWHERE[version])


@cache
def _route_to(version: int, by_index: bool) -> Template:
    message = rtmsg()
    message["family"] = family(version)
    message["dst_len"] = 32 if version == 4 else 128
    message["flags"] = RTM_F_FIB_MATCH | (RTM_F_LOOKUP_TABLE if version == 4 else 0)
    to = template.IPV4 if version == 4 else template.IPV6
    message["attrs"] = [["RTA_DST", to]]
    marks = {"to": ip_address(to).packed}
    if by_index:
        message["attrs"].append(["RTA_OIF", template.NUMBER])
        marks["index"] = template.number(template.NUMBER)
    return Template(encode(message, RTM_GETROUTE), **marks)


def path_to(version: int, to: bytes) -> bytes:
    """Ask how the kernel would send to the packed address `to`; read by :func:`read_path`."""
    return _path_to(version).filled(to=to)


@cache
def _path_to(version: int) -> Template:
    message = rtmsg()
    message["family"] = family(version)
    message["dst_len"] = 32 if version == 4 else 128
    to = template.IPV4 if version == 4 else template.IPV6
    message["attrs"] = [["RTA_DST", to]]
    return Template(encode(message, RTM_GETROUTE), to=ip_address(to).packed)


def read_path(body: memoryview | None) -> int:
    """The interface by which one host is reached; 0 if the address is local, or not of one host.

    `body` is an answer to :func:`path_to`.
    """
    return 0 if body is None or body[7] != RTN_UNICAST else read_route_index(body)


def path_out(version: int) -> bytes:
    """Ask how the kernel would send to an unassigned address; read by :func:`read_source`."""
    return path_to(version, _ELSEWHERE[version])


def read_source(body: memoryview | None) -> Address | None:
    """The source of what the kernel would send; `None` if it would send nothing to another host.

    `body` is an answer to :func:`path_to`. Source: `rt_fill_info` in `net/ipv4/route.c`,
    `rt6_fill_node` in `net/ipv6/route.c`.
    """
    if body is None or body[7] != RTN_UNICAST:
        return None
    source = chosen(body, 12, (RTA_PREFSRC,)).get(RTA_PREFSRC)
    return None if source is None else ip_address(bytes(source))


_ELSEWHERE: Final = {
    4: ip_address("240.0.0.1").packed,
    6: ip_address("4000::1").packed,
}
"""An unassigned address of each family, reached only by a default route."""


def routes(version: int, *, index: int = 0, table: int = RT_TABLE_MAIN) -> bytes:
    """Ask for the routes in `table`, only for those through the interface `index` if given.

    The kernel walks the whole table either way, 0.1 µs per route.
    """
    values = {"index": template.number(index)} if index else {}
    return _routes(version, table, bool(index)).filled(**values)


@cache
def _routes(version: int, table: int, by_index: bool) -> Template:
    message = rtmsg()
    message["family"] = family(version)
    message["type"] = RTN_UNICAST
    message["table"] = table
    marks = {}
    if by_index:
        message["attrs"] = [["RTA_OIF", template.NUMBER]]
        marks["index"] = template.number(template.NUMBER)
    return Template(encode(message, RTM_GETROUTE, NLM_F_DUMP), **marks)


def read_routes(bodies: Iterable[memoryview], *, table: int = RT_TABLE_MAIN) -> list[Route]:
    """The unicast routes of `table` in `bodies`, RTM_NEWROUTE messages."""
    return [route for body in bodies if (route := read_route(body, table=table)) is not None]


def read_route(body: memoryview, *, table: int = RT_TABLE_MAIN) -> Route | None:
    """The route in `body`, an RTM_NEWROUTE message, if it is a unicast route of `table`."""
    if body[7] != RTN_UNICAST:
        return None
    values = chosen(body, 12, _READ)
    its = values.get(RTA_TABLE)
    if (body[4] if its is None else int.from_bytes(its, "little")) != table:
        return None
    to, via = values.get(RTA_DST), values.get(RTA_GATEWAY)
    return Route(
        to=None if to is None or not body[1] else ip_network((bytes(to), body[1])),
        via=None if via is None else ip_address(bytes(via)),
        index=int.from_bytes(values.get(RTA_OIF, b""), "little"),
        metric=int.from_bytes(values.get(RTA_PRIORITY, b""), "little"),
    )


_READ: Final = frozenset((RTA_TABLE, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_PRIORITY))


def read_route_index(body: memoryview) -> int:
    """The interface of the route in `body`, an RTM_NEWROUTE or RTM_DELROUTE message; 0 if none."""
    oif = chosen(body, 12, (RTA_OIF,)).get(RTA_OIF, b"")
    return int.from_bytes(oif, "little")
