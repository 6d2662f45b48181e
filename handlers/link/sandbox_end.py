"""The sandbox end of a pair: its addresses, its routes, and which of them are missing.

The network's driver says how packets leave (:class:`handlers.networks.driver.Way`).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import Struct

from handlers.kernel import missing_routes, rtnl, sysctl
from handlers.kernel.netlink import Netlink, NetlinkError
from handlers.link import policy_routes
from handlers.networks.driver import Driver, Way
from watcher.model.sandbox import Interface, Sandbox

_OF_ADDRESS: Final = 256
"""The metric of the route that the kernel adds with an IPv6 address (IP6_RT_PRIO_ADDRCONF)."""


def set_up(interface: Interface, driver: Driver) -> None:
    """Write the settings of `interface` in the namespace that this thread is in."""
    for name, value in driver.settings_inside(interface).items():
        sysctl.put(name, value)


def configure(
    inside: Netlink,
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    index: int,
    *,
    mend: bool,
) -> None:
    """Make the sandbox end of `interface` usable: addresses, up, routes.

    Without those of IPv6, if that was turned off in there after the lease. With `mend`, also the
    routes that the kernel adds itself with a new address.

    Raises:
        NetlinkError: the kernel refused.
    """
    ipv6 = True
    try:
        inside.send(_requests(sandbox, interface, drivers, index, mend=mend))
    except NetlinkError as error:
        if error.errno != errno.EACCES or _has_ipv6(inside, interface):
            raise
        ipv6 = False
        inside.send(_requests(sandbox, interface, drivers, index, mend=mend, ipv6=False))
    inside.send(_policies(inside, sandbox, interface, drivers, index, ipv6=ipv6))


def _requests(
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    index: int,
    *,
    mend: bool,
    ipv6: bool = True,
) -> list[bytes]:
    """The requests of :func:`configure`; without `ipv6`, nothing of IPv6."""
    driver = drivers[interface.network]
    ways = _ways(interface, driver, ipv6=ipv6)
    name = interface.name
    found = [] if 6 in driver.gateways else [rtnl.quiet(name)]
    found += [rtnl.up("lo"), rtnl.up(name)]
    found += [rtnl.address(index, way.address) for way in ways]
    found += [
        rtnl.neighbour(index, way.hop, way.hop_mac) for way in ways if way.hop and way.hop_mac
    ]
    for way in ways:
        if way.on_link is None:
            continue
        if way.on_link is not way.address.network:
            found.append(rtnl.route(rtnl.Route(way.on_link, None, index, 0)))
        elif mend:  # as the kernel adds it; with another metric there would be two
            metric = _OF_ADDRESS if way.address.version == 6 else 0
            found.append(rtnl.route(rtnl.Route(way.on_link, None, index, metric)))
    found += map(rtnl.route, routes(sandbox, interface, drivers, ways, index))
    return found


class End(Struct, frozen=True):
    """A sandbox end as it is.

    Attributes:
        index: its index.
        up: whether it is up.
        ipv6: whether it can have the IPv6 addresses that it needs, if any.
        addresses: packed, each with its prefix length.
    """

    index: int
    up: bool
    ipv6: bool
    addresses: Sequence[tuple[bytes, int]]


def look(inside: Netlink, interface: Interface) -> End | None:
    """The sandbox end of `interface`, if it exists; `inside` is a socket there."""
    body = inside.get(rtnl.link(interface.name))
    if body is None:
        return None
    index, up = rtnl.read_state(body)
    ipv6 = _needs_ipv6(interface) and rtnl.read_ipv6(body)
    return End(index, up, ipv6, rtnl.read_packed(inside.dump(rtnl.addresses(index))))


def _needs_ipv6(interface: Interface) -> bool:
    return any(address.version == 6 for address in interface.addresses)


def _has_ipv6(inside: Netlink, interface: Interface) -> bool:
    body = inside.get(rtnl.link(interface.name))
    return body is None or rtnl.read_ipv6(body)


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
    ways = _ways(interface, driver, ipv6=end.ipv6)
    for way in ways:
        if (way.address.packed, way.address.network.prefixlen) not in end.addresses:
            return f"{interface.name} did not have {way.address}"
    wanted = _connected(ways, end.index)
    wanted += routes(sandbox, interface, drivers, ways, end.index)
    for route in missing_routes.missing(inside, wanted):
        return f"the route to {route.to or 'default'} was missing"
    if _policies(inside, sandbox, interface, drivers, end.index, ipv6=end.ipv6):
        return f"a route or rule for what is sent from {interface.name} was missing"
    return ""


def _policies(
    inside: Netlink,
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    index: int,
    *,
    ipv6: bool,
) -> list[bytes]:
    """The requests for missing policy routes, which only one of several interfaces needs."""
    if len(sandbox.interfaces) == 1:
        return []
    driver = drivers[interface.network]
    ways = _ways(interface, driver, ipv6=ipv6)
    return policy_routes.missing(inside, interface, driver.network, ways, index)


def _ways(interface: Interface, driver: Driver, *, ipv6: bool) -> list[Way]:
    """How packets leave; a sandbox may turn IPv6 off, and keeps its lease."""
    return [way for way in driver.ways(interface) if ipv6 or way.address.version == 4]


def _connected(ways: Sequence[Way], index: int) -> list[rtnl.Route]:
    """The routes to what is on the link."""
    return [rtnl.Route(way.on_link, None, index, 0) for way in ways if way.on_link is not None]


def routes(
    sandbox: Sandbox,
    interface: Interface,
    drivers: Mapping[str, Driver],
    ways: Sequence[Way],
    index: int,
) -> list[rtnl.Route]:
    """The routes through `interface`: the network's own, and its default routes."""
    network = drivers[interface.network].network
    versions = {way.address.version for way in ways}
    found = [
        rtnl.Route(route.to if route.to.prefixlen else None, route.via, index, 0)
        for route in network.routes
        if route.to.version in versions
        and all(route.via != way.address.ip for way in ways)  # else the sandbox is that router
    ]
    defaults = _defaults(sandbox, interface, drivers)
    defaults -= {route.version for route in found if route.to is None}
    for way in ways:
        if way.hop is None:
            continue
        if way.address.version in defaults:
            found.append(rtnl.Route(None, way.hop, index, network.metric))
        elif way.beyond is not None:
            found.append(rtnl.Route(way.beyond, way.hop, index, 0))
    return found


def _defaults(sandbox: Sandbox, interface: Interface, drivers: Mapping[str, Driver]) -> set[int]:
    """The IP versions whose default route is through `interface`, the first not internal."""
    own: set[int] = {address.version for address in interface.addresses}
    for one in sandbox.interfaces:
        if not drivers[one.network].network.internal:
            if one is interface:
                return own
            own -= {address.version for address in one.addresses}
    return set()
