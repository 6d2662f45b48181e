"""What a sandbox end has that it needed only while its sandbox had other interfaces.

A running sandbox gets interfaces and loses them. With the number of them, the default route may
move, and policy routes come and go (:mod:`handlers.link.policy_routes`). Routes go with their link,
but rules stay. What looks like this program's and is not needed is removed, whoever made it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from handlers.kernel import missing_routes, rtnl
from handlers.kernel.foreign_names import index_of
from handlers.kernel.netlink import Netlink
from handlers.kernel.rtnl.numbers import RT_TABLE_MAIN
from handlers.link import policy_routes, sandbox_end
from handlers.networks.driver import Driver
from watcher.model.sandbox import Interface, Sandbox

_IPV6_METRIC: Final = 1024
"""The kernel's own metric of an IPv6 route (IP6_RT_PRIO_USER)."""


def leftovers(inside: Netlink, sandbox: Sandbox, drivers: Mapping[str, Driver]) -> list[bytes]:
    """The requests that remove what `sandbox` no longer needs; `inside` is a socket there."""
    several = len(sandbox.interfaces) > 1
    needed = {(a.ip, i.ordinal) for i in sandbox.interfaces for a in i.addresses if several}
    found = policy_routes.surplus_rules(inside, needed)
    for interface in sandbox.interfaces:
        index = index_of(inside, interface.name)
        if index:
            found += map(rtnl.no_route, _main(inside, sandbox, interface, drivers, index))
            if not several:
                found += policy_routes.routes_gone(inside, interface, index)
    return found


def remove(inside: Netlink, requests: Sequence[bytes]) -> None:
    """Send the `requests` of :func:`leftovers`; what is gone already is no error."""
    for request in requests:
        inside.send_unless_done(request, errno.ESRCH, errno.ENOENT)


def _main(
    inside: Netlink,
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    index: int,
) -> Iterator[rtnl.Route]:
    """The routes of the main table that only another order of interfaces would need."""
    driver = drivers[interface.network]
    ways = driver.ways(interface)
    wanted = {
        (route.to, route.via)
        for route in sandbox_end.routes(sandbox, interface, drivers, ways, index)
    }
    possible: dict[object, int] = {}
    for way in ways:
        if way.hop is not None:
            possible[None, way.hop] = driver.network.metric
            if way.beyond is not None:
                possible[way.beyond, way.hop] = 0
    for version in {way.address.version for way in ways}:
        for route in missing_routes.listed(inside, version, index, RT_TABLE_MAIN):
            metric = possible.get((route.to, route.via))
            if (route.to, route.via) not in wanted and metric in _metrics(route):
                yield route


def _metrics(route: rtnl.Route) -> tuple[int, ...]:
    """The metrics that a route may have been made with."""
    if route.version == 6 and route.metric == _IPV6_METRIC:
        return route.metric, 0
    return (route.metric,)
