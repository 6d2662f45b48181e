"""The uplink: the interface by which the host's default route leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import msgspec

from handlers.kernel import rtnl
from handlers.kernel.netlink import Netlink, NetlinkError
from watcher.model.address import Address
from watcher.model.cluster import HEADERS
from watcher.model.network import Network

DEFAULT_MTU: Final = 1500
"""The MTU if there is no uplink."""


def with_mtus(
    networks: Mapping[str, Network], own: Callable[[], Address | None] = lambda: None
) -> dict[str, Network]:
    """`networks`, with the uplink's MTU in place of `auto`, except on bridges of others.

    A clustered network has no more than what gets to other hosts in one packet; `own` finds out by
    which address these reach this host.
    """
    settled = dict(networks)
    if any(map(_is_auto, networks.values())):
        mtu = uplink_mtu()
        for name, network in networks.items():
            if _is_auto(network):
                settled[name] = msgspec.structs.replace(network, mtu=mtu)
    clustered = [network for network in networks.values() if network.cluster]
    if clustered:
        address = own()
        underlay = underlay_mtu(address)
        for network in clustered:
            most = inner_mtu(network, underlay, address)
            if network.mtu == "auto" or network.mtu > most:
                settled[network.name] = msgspec.structs.replace(network, mtu=most)
    return settled


def inner_mtu(network: Network, underlay: int, own: Address | None) -> int:
    """What gets to other hosts in one packet of `underlay` bytes, in VXLAN if that may be used."""
    if not network.tunnelled:
        return underlay
    return underlay - HEADERS[4 if own is None else own.version]


def underlay_mtu(own: Address | None) -> int:
    """The MTU of the interface with the address `own`; of the uplink if none has it."""
    if own is not None:
        with Netlink() as netlink:
            link = link_with(netlink, own)
        if link is not None:
            return link.mtu
    return uplink_mtu()


def link_with(netlink: Netlink, address: Address) -> rtnl.Link | None:
    """The interface that has `address`."""
    for body in netlink.dump(rtnl.addresses(0)):
        if any(packed == address.packed for packed, _ in rtnl.read_packed([body])):
            link = netlink.get(rtnl.link_at(int.from_bytes(body[4:8], "little")))  # ifaddrmsg
            return None if link is None else rtnl.read_link(link)
    return None


def _is_auto(network: Network) -> bool:
    return network.mtu == "auto" and network.managed and not network.cluster


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


def uplink_address() -> Address | None:
    """The address from which the host's default route leaves; `None` if there is no such route."""
    with Netlink() as netlink:
        for version in (4, 6):
            with suppress(NetlinkError):  # there is no default route, or an unreachable one
                address = rtnl.read_source(netlink.get(rtnl.path_out(version)))
                if address is not None:
                    return address
    return None
