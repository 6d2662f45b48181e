"""Finds missing routes, at a cost that does not depend on the number of other routes.

A process with CAP_NET_ADMIN in a sandbox can make any number of routes, and the host of a router
has a million. So the kernel is asked where it would send a packet, which is one lookup. The routes
through our interface are listed only if that is not our route.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.kernel.rtnl.numbers import RT_TABLE_MAIN

type _Key = tuple[object, object, int]


def missing(
    netlink: Netlink, wanted: Iterable[rtnl.Route], *, table: int = RT_TABLE_MAIN
) -> list[rtnl.Route]:
    """Those of `wanted` that are not in `table`; metrics and sources do not matter.

    All lead through one interface, in the namespace of `netlink`.
    """
    unsure = [route for route in wanted if table != RT_TABLE_MAIN or not _is_taken(netlink, route)]
    there: dict[int, set[_Key]] = {}
    found = []
    for route in unsure:
        if route.version not in there:
            there[route.version] = _listed(netlink, route.version, route.index, table)
        if _key(route) not in there[route.version]:
            found.append(route)
    return found


def _is_taken(netlink: Netlink, route: rtnl.Route) -> bool:
    """Whether the kernel would use `route` for its destination."""
    try:
        body = netlink.get(rtnl.route_to(route))
    except NetlinkError:  # there is no route, or an unreachable one
        return False
    match = None if body is None else rtnl.read_route(body)
    return match is not None and _key(match) == _key(route)


def _listed(netlink: Netlink, version: int, index: int, table: int) -> set[_Key]:
    """The routes in `table` through the interface `index`."""
    try:
        bodies = netlink.dump(rtnl.routes(version, index=index, table=table))
    except NetlinkError as error:
        if error.errno != errno.ENOENT:  # the table has no route
            raise
        return set()
    return {_key(route) for route in rtnl.read_routes(bodies, table=table)}


def _key(route: rtnl.Route) -> _Key:
    return route.to, route.via, route.index
