"""Finds missing routes, at a cost that does not depend on the number of other routes.

A process with CAP_NET_ADMIN in a sandbox can make any number of routes, and the host of a router
has a million. So the kernel is asked where it would send a packet, which is one lookup. The routes
through our interface are listed only if that is not our route.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from handlers.kernel import rtnl
from handlers.kernel.messages import chosen
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.numbers import (
    RT_TABLE_MAIN,
    RTA_DST,
    RTA_GATEWAY,
    RTA_OIF,
    RTA_TABLE,
    RTN_UNICAST,
)

type _Key = tuple[object, object, int]

_LENGTH, _TABLE, _TYPE, _SIZE = 1, 4, 7, 12
"""Offsets in `struct rtmsg` of the prefix length, the table and the type; and its size."""

_READ: Final = frozenset((RTA_TABLE, RTA_DST, RTA_GATEWAY, RTA_OIF))
_NOTHING: Final = memoryview(b"")


def missing(
    netlink: Netlink, wanted: Iterable[rtnl.Route], *, table: int = RT_TABLE_MAIN
) -> list[rtnl.Route]:
    """Those of `wanted` that are not in `table`; metrics and sources do not matter.

    All lead through one interface, in the namespace of `netlink`.
    """
    unsure = list(wanted)
    if table == RT_TABLE_MAIN:
        answers = netlink.answers([rtnl.route_to(route) for route in unsure])
        both = zip(unsure, answers, strict=True)
        unsure = [route for route, body in both if body is None or not _is(body, route)]
    there: dict[int, set[_Key]] = {}
    found = []
    for route in unsure:
        if route.version not in there:
            routes = listed(netlink, route.version, route.index, table)
            there[route.version] = set(map(_key, routes))
        if _key(route) not in there[route.version]:
            found.append(route)
    return found


def _is(body: memoryview, route: rtnl.Route) -> bool:
    """Whether `body`, an RTM_NEWROUTE message, is of `route` in the main table.

    It compares bytes: each sync asks about each route, and parsing an address takes longer than
    the kernel's answer.
    """
    values = chosen(body, _SIZE, _READ)
    table, length = values.get(RTA_TABLE), body[_LENGTH]
    to = values.get(RTA_DST, _NOTHING) if length else _NOTHING
    return (
        body[_TYPE] == RTN_UNICAST
        and (body[_TABLE] if table is None else int.from_bytes(table, "little")) == RT_TABLE_MAIN
        and length == (0 if route.to is None else route.to.prefixlen)
        and to == (b"" if route.to is None or not length else route.to.network_address.packed)
        and values.get(RTA_GATEWAY, _NOTHING) == (b"" if route.via is None else route.via.packed)
        and int.from_bytes(values.get(RTA_OIF, _NOTHING), "little") == route.index
    )


def listed(netlink: Netlink, version: int, index: int, table: int) -> list[rtnl.Route]:
    """The routes in `table` through the interface `index`."""
    try:
        bodies = netlink.dump(rtnl.routes(version, index=index, table=table))
    except NetlinkError as error:
        if error.errno != errno.ENOENT:  # the table has no route
            raise
        return []
    return rtnl.read_routes(bodies, table=table)


def _key(route: rtnl.Route) -> _Key:
    return route.to, route.via, route.index
