"""The sandbox end of a pair: its addresses, its routes, and which of them are missing.

The network's driver says how packets leave (:class:`handlers.networks.driver.Way`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from handlers.kernel import missing_routes, rtnl, sysctl
from handlers.kernel.netlink import Netlink
from handlers.link import policy_routes
from handlers.networks.driver import Driver, Way
from watcher.model.sandbox import Interface, Sandbox

_OF_ADDRESS: Final = 256
"""The metric of the route that the kernel adds with an IPv6 address (IP6_RT_PRIO_ADDRCONF)."""


def set_up(interface: Interface, driver: Driver) -> None:
    """Write the settings of `interface` in the namespace that this thread is in."""
    for name, value in driver.settings_inside(interface).items():
        sysctl.put(name, value)


def requests(
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    index: int,
    *,
    mend: bool,
) -> list[bytearray]:
    """The requests that make the sandbox end of `interface` usable: addresses, up, routes.

    With `mend`, also the routes that the kernel adds itself with a new address.
    """
    driver = drivers[interface.network]
    ways = driver.ways(interface)
    name = interface.name
    found = [] if driver.network.subnet_of(6) is not None else [rtnl.quiet(name)]
    found += [rtnl.up("lo"), rtnl.up(name)]
    found += [rtnl.address(index, way.address) for way in ways]
    found += [
        rtnl.neighbour(index, way.hop, way.hop_mac) for way in ways if way.hop and way.hop_mac
    ]
    for way in ways:
        if way.on_link is None:
            continue
        if way.on_link != way.address.network:
            found.append(rtnl.route(rtnl.Route(way.on_link, None, index, 0)))
        elif mend:  # as the kernel adds it; with another metric there would be two
            metric = _OF_ADDRESS if way.address.version == 6 else 0
            found.append(rtnl.route(rtnl.Route(way.on_link, None, index, metric)))
    found += map(rtnl.route, _routes(sandbox, interface, drivers, ways, index))
    return found


class End(Struct, frozen=True):
    """A sandbox end as it is: whether it is up, its index, and its packed addresses."""

    index: int
    up: bool
    addresses: Sequence[tuple[bytes, int]]


def look(inside: Netlink, interface: Interface) -> End | None:
    """The sandbox end of `interface`, if it exists; `inside` is a socket there."""
    body = inside.get(rtnl.link(interface.name))
    if body is None:
        return None
    index, up = rtnl.read_state(body)
    return End(index, up, rtnl.read_packed(inside.dump(rtnl.addresses(index))))


def missing(
    inside: Netlink,
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    end: End | None,
) -> str:
    """What is wrong with the sandbox end; empty if nothing is.

    `inside` is a socket there, and `end` what :func:`look` has found.
    """
    driver = drivers[interface.network]
    if end is None:
        return f"{interface.name} was missing"
    if not inside.is_up("lo"):
        return "lo was down"
    if not end.up:
        return f"{interface.name} was down"
    ways = driver.ways(interface)
    for way in ways:
        if (way.address.packed, way.address.network.prefixlen) not in end.addresses:
            return f"{interface.name} did not have {way.address}"
    wanted = _connected(ways, end.index)
    wanted += _routes(sandbox, interface, drivers, ways, end.index)
    for route in missing_routes.missing(inside, wanted):
        return f"the route to {route.to or 'default'} was missing"
    if len(sandbox.interfaces) > 1 and policy_routes.missing(inside, interface, driver, end.index):
        return f"a route or rule for what is sent from {interface.name} was missing"
    return ""


def _connected(ways: Sequence[Way], index: int) -> list[rtnl.Route]:
    """The routes to what is on the link."""
    return [rtnl.Route(way.on_link, None, index, 0) for way in ways if way.on_link is not None]


def _routes(
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    ways: Sequence[Way],
    index: int,
) -> list[rtnl.Route]:
    """The routes through `interface`: the network's own, and its default routes."""
    network = drivers[interface.network].network
    found = [
        rtnl.Route(route.to if route.to.prefixlen else None, route.via, index, 0)
        for route in network.routes
        if all(route.via != way.address.ip for way in ways)  # else the sandbox is that router
    ]
    own = {route.version for route in found if route.to is None}
    defaults = _defaults(sandbox, interface, drivers) - own
    for way in ways:
        if way.hop is None:
            continue
        if way.address.version in defaults:
            found.append(rtnl.Route(None, way.hop, index, network.metric))
        elif way.beyond is not None:
            found.append(rtnl.Route(way.beyond, way.hop, index, 0))
    return found


def _defaults(
    sandbox: Sandbox, interface: Interface, drivers: Mapping[str, Driver]
) -> frozenset[int]:
    """The IP versions whose default route is through `interface`, the first not internal."""
    first: dict[int, Interface] = {}
    for one in sandbox.interfaces:
        if not drivers[one.network].network.internal:
            for address in one.addresses:
                first.setdefault(address.version, one)
    return frozenset(version for version, one in first.items() if one is interface)
