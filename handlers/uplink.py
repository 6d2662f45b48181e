"""The uplink: the interface by which the host's default route leaves."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Final

import msgspec

from handlers import rtnl
from handlers.netlink import Netlink
from watcher.config import Network

DEFAULT_MTU: Final = 1500
"""Bytes, where there is no uplink to ask."""


def settled(networks: Mapping[str, Network]) -> dict[str, Network]:
    """`networks` with the uplink's MTU in those whose MTU is `auto`."""
    if all(network.mtu != "auto" for network in networks.values()):
        return dict(networks)
    mtu = uplink_mtu()
    return {
        name: msgspec.structs.replace(network, mtu=mtu) if network.mtu == "auto" else network
        for name, network in networks.items()
    }


def uplink_mtu() -> int:
    """The MTU of the interface with the host's default route; `DEFAULT_MTU` where there is none."""
    with Netlink() as netlink:
        for family in (socket.AF_INET, socket.AF_INET6):
            routes = rtnl.read_routes(netlink.dump(rtnl.routes(family)))
            defaults = [route for route in routes if route.to is None and route.index]
            if defaults:
                uplink = min(defaults, key=lambda route: route.metric).index
                links = map(rtnl.read_link, netlink.dump(rtnl.links()))
                return next((link.mtu for link in links if link.index == uplink), DEFAULT_MTU)
    return DEFAULT_MTU
