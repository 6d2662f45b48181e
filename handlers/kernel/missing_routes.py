"""Which routes are missing, asked so that it costs the same however many others there are.

Whoever has CAP_NET_ADMIN in a sandbox makes as many routes there as he likes, and a router's host
has a million. So the kernel is asked where it would send a packet, which is one look; only if that
is another way than ours are the routes listed that are by our interface.
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
    """Those of `wanted` that are not in `table`, whatever their metrics and sources.

    Args:
        netlink: a socket in the namespace that they should be in.
        wanted: routes by one interface.
        table: the number of the routing table.

    Raises:
        OSError: it cannot be told.
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
    """Whether the kernel would take `route` to what it leads to."""
    try:
        body = netlink.get(rtnl.route_to(route))
    except NetlinkError:  # it knows of none, or of one that says so
        return False
    match = None if body is None else rtnl.read_route(body)
    return match is not None and _key(match) == _key(route)


def _listed(netlink: Netlink, version: int, index: int, table: int) -> set[_Key]:
    """The routes in `table` by the interface `index`."""
    try:
        bodies = netlink.dump(rtnl.routes(version, index=index, table=table))
    except NetlinkError as error:
        if error.errno != errno.ENOENT:  # a table without any route
            raise
        return set()
    return {_key(route) for route in rtnl.read_routes(bodies, table=table)}


def _key(route: rtnl.Route) -> _Key:
    return route.to, route.via, route.index
