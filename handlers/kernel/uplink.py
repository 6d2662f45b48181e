"""The uplink: the interface by which the host's default route leaves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

import msgspec

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from watcher.model.network import Network

DEFAULT_MTU: Final = 1500
"""The MTU if there is no uplink."""


def with_mtus(networks: Mapping[str, Network]) -> dict[str, Network]:
    """`networks`, with the uplink's MTU in place of `auto`, except on bridges of others."""
    if not any(map(_is_auto, networks.values())):
        return dict(networks)
    mtu = uplink_mtu()
    return {
        name: msgspec.structs.replace(network, mtu=mtu) if _is_auto(network) else network
        for name, network in networks.items()
    }


def _is_auto(network: Network) -> bool:
    return network.mtu == "auto" and network.managed


def uplink_mtu() -> int:
    """The MTU of the interface with the host's default route; `DEFAULT_MTU` if there is none."""
    with Netlink() as netlink:
        for version in (4, 6):
            index = uplink_index(netlink, version)
            if index:
                body = netlink.get(rtnl.link_at(index))
                return DEFAULT_MTU if body is None else rtnl.read_link(body).mtu
    return DEFAULT_MTU


def uplink_index(netlink: Netlink, version: int) -> int:
    """The index of the interface with the host's default route of IP `version`; 0 for none.

    It reads the routing table only if another route precedes the default one.
    """
    with suppress(NetlinkError):  # there is no default route, or an unreachable one
        body = netlink.get(rtnl.route_out(version))
        route = None if body is None else rtnl.read_route(body)
        if route is not None and route.to is None:
            return route.index
    found = rtnl.read_routes(b for b in netlink.listed(rtnl.routes(version)) if not b[1])
    defaults = [route for route in found if route.index]
    return min(defaults, key=lambda route: route.metric).index if defaults else 0
